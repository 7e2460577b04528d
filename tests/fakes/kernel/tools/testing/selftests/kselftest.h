/* SPDX-License-Identifier: GPL-2.0-only */
#define KSFT_PASS 0
