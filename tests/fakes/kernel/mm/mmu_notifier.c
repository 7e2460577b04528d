// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mmu_notifier.h>

int start(int flags)
{
	return flags & MMU_NOTIFIER_RANGE_BLOCKABLE;
}
