// SPDX-License-Identifier: GPL-2.0-only
#include <linux/toy.h>
#include <stdio.h>

#include "../kselftest.h"
#include "local_config.h"

int main(void)
{
	printf("TAP version 13\n1..1\nok 1 %s\n", TOY);
	return KSFT_PASS;
}
