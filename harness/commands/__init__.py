# SPDX-License-Identifier: GPL-2.0-only
"""One file = one command of `harness`: its options, what it does, and what it says.

Files with an underscore in front serve several of them.
"""
