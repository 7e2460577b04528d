# SPDX-License-Identifier: GPL-2.0-only
"""harness shell: a fresh guest with the module loaded, and a root shell on its second console."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from harness import pipeline
from harness.host.progress import Progress
from harness.session import Session

_LEAVE = b"\x1d"  # Ctrl-], as telnet has it


def prepare(request: pipeline.KernelRequest, accel: str, _cache: Path, progress: Progress) -> Callable[[], int]:
    """Build what is missing; returns the function that boots the guest and hands the terminal over."""
    session = Session(request, accel, progress)
    lab = session.lab

    def interact() -> int:
        with session.boot() as machine:
            progress.say(f"{lab.kernel.release} on {lab.accel}; kernel log: {machine.console.log}; leave with Ctrl-]")
            _connect(machine.terminal.channel)
        return 0

    return interact


def _connect(channel: socket.socket) -> None:
    """Join the terminal, in raw mode, and the guest's, until either ends or Ctrl-] is typed."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    columns, rows = shutil.get_terminal_size()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard)
        # The guest does not learn the size by itself; the newline brings a prompt.
        channel.sendall(f"stty columns {columns} rows {rows}; clear\n".encode())
        while True:
            ready, _, _ = select.select([keyboard, channel], [], [])
            if channel in ready:
                if not (data := channel.recv(1 << 16)):
                    return
                os.write(screen, data)
            if keyboard in ready:
                if not (data := os.read(keyboard, 1024)) or _LEAVE in data:
                    return
                channel.sendall(data)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        os.write(screen, b"\r\n")
