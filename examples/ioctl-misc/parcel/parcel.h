/* SPDX-License-Identifier: GPL-2.0-only */
/* What /dev/parcel takes: the kernel module and the program that tests it share this. */
#ifndef PARCEL_H
#define PARCEL_H

#include <linux/ioctl.h>

#define PARCEL_SEND	_IO('p', 1)
#define PARCEL_WEIGH	_IO('p', 2)
#define PARCEL_DROP	_IO('p', 3)

#endif
