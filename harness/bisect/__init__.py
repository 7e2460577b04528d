# SPDX-License-Identifier: GPL-2.0-only
"""Which change makes a kernel fail: the search, its memory on disk, what is asked at each step, and how it is told.

The search knows no kernel. What it asks is a `harness.bisect.ask.Test`: a
kernel under scenarios, or any command of the user's.
"""
