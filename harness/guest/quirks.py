# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU does differently from one version to the next, each with the version and the reason."""

from __future__ import annotations

from harness.guest.monitor import Monitor

# Since then, the state of the devices goes to a file as file:. Before, only fd: can; 11.1 refuses that ("migration to a
# file is not supported").
FILE_MIGRATION = (8, 2)


def version(monitor: Monitor) -> tuple[int, int]:
    """The version of the QEMU that a monitor belongs to."""
    told = monitor.execute("query-version")["qemu"]
    return told["major"], told["minor"]
