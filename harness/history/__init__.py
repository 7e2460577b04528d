# SPDX-License-Identifier: GPL-2.0-only
"""What became of each run, night after night: a store beside the runs, and what is new in it."""
