# SPDX-License-Identifier: GPL-2.0-only
"""One file = one invariant: judge(recording) -> findings."""
