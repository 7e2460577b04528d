# SPDX-License-Identifier: GPL-2.0-only
"""One file = one command of `harness`: its options, what it does, and what it says.

Files whose names begin with an underscore serve several commands.
"""
