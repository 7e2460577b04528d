# SPDX-License-Identifier: GPL-2.0-only
"""gdb on a guest: QEMU listens on a socket that only this user can reach, and a line to paste names it."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.guest.machine import Machine


@contextlib.contextmanager
def attached(machine: Machine, kernel: Path, module: Path | None = None, text: str = "") -> Iterator[str]:
    """Have QEMU listen until the block ends; the line that starts gdb on it.

    text: where the guest's kernel put the module, as its sysfs says it.
    """
    # /tmp rather than $TMPDIR: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="harness-gdb-", dir="/tmp") as folder:
        socket = Path(folder) / "gdb"
        machine.serve_gdb(socket)
        words = ["gdb", "-q", "-iex", "set confirm off", str(kernel.resolve())]
        if module is not None and text:
            words += ["-ex", f"add-symbol-file {module.resolve()} {text}"]
        yield shlex.join([*words, "-ex", f"target remote {socket}"])
