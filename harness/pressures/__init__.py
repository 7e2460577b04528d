# SPDX-License-Identifier: GPL-2.0-only
"""One file = one way to make the kernel reclaim."""
