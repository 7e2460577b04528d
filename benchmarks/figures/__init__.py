# SPDX-License-Identifier: GPL-2.0-only
"""One file = one figure; see benchmarks/figure.py."""
