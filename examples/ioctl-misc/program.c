// SPDX-License-Identifier: GPL-2.0-only
/* Tests of /dev/parcel, told as KTAP: each is a subtest of the test that runs the program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "parcel/parcel.h"

static int number;

static void tell(int good, const char *name)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++number, name);
}

int main(int argc, char **argv)
{
	int fd = open("/dev/parcel", O_RDWR);

	puts("KTAP version 1");
	if (argc > 1 && !strcmp(argv[1], "drop")) {
		tell(ioctl(fd, PARCEL_SEND, 250) == 0, "a parcel is sent");
		tell(ioctl(fd, PARCEL_DROP) == 0, "it is dropped");
		ioctl(fd, PARCEL_WEIGH);
	} else {
		tell(ioctl(fd, PARCEL_WEIGH) < 0 && errno == ENOENT, "there is no parcel");
		tell(ioctl(fd, PARCEL_SEND, 250) == 0, "a parcel is sent");
		tell(ioctl(fd, PARCEL_WEIGH) == 250, "it has its weight");
		tell(ioctl(fd, PARCEL_SEND, 20001) < 0 && errno == E2BIG, "20 kg are the limit");
	}
	printf("1..%d\n", number);
	return 0;
}
