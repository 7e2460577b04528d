# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel of the user's configuration must have, for a guest on it to answer and to load our module."""

from __future__ import annotations

from collections.abc import Mapping

# Built in: a guest has no modules but ours. kernel-configs/guest.config has the reasons.
NEEDED = (
    *("64BIT", "MODULES", "MMU_NOTIFIER", "PRINTK", "KALLSYMS"),
    *("PCI", "VIRTIO_PCI", "VIRTIO_CONSOLE", "BLOCK", "VIRTIO_BLK", "SWAP", "SERIAL_8250_CONSOLE"),
    *("BLK_DEV_INITRD", "BINFMT_ELF", "DEVTMPFS", "TMPFS", "PROC_FS", "SYSFS"),
    *("FUTEX", "EPOLL", "SIGNALFD", "TIMERFD"),
)
# With these on, the module is not loaded, or the kernel does not hear what the harness tells it.
REFUSED = (
    *("MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY"),
    "CMDLINE_OVERRIDE",
)


def lacking(values: Mapping[str, str]) -> list[str]:
    """The options that must be otherwise, as .config would have them; none for a kernel that guests can use."""
    wrong = [f"CONFIG_{name}=y" for name in NEEDED if values.get(name) != "y"]
    return wrong + [f"CONFIG_{name}=n" for name in REFUSED if values.get(name, "n") != "n"]
