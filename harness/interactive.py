# SPDX-License-Identifier: GPL-2.0-only
"""harness shell: a fresh guest with the module loaded, and a root shell on its second console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import pipeline
from harness.host.progress import Progress
from harness.session import Session


def prepare(request: pipeline.KernelRequest, accel: str, _cache: Path, progress: Progress) -> Callable[[], int]:
    """Build what is missing; returns the function that boots the guest and hands the terminal over."""
    session = Session(request, accel, progress)
    lab = session.lab

    def interact() -> int:
        with session.machine() as machine:
            progress.say(f"{lab.kernel.release} on {lab.accel}; leave with Ctrl-]")
            progress.say(f"its kernel log: {machine.console.log}")
            machine.interact()
        return 0

    return interact
