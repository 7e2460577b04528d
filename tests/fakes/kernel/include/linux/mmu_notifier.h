/* SPDX-License-Identifier: GPL-2.0-only */
#define MMU_NOTIFIER_RANGE_BLOCKABLE (1 << 0)

int start(int flags);
