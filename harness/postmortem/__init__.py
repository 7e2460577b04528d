# SPDX-License-Identifier: GPL-2.0-only
"""What a guest in trouble looks like from outside: its memory is dumped, and drgn finds out why it does not go on."""
