# SPDX-License-Identifier: GPL-2.0-only
"""From files that boot to a machine that answers: image, QEMU, monitor, console, shell."""
