# SPDX-License-Identifier: GPL-2.0-only
"""Where jobs run: the one interface of this machine and of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.matrix.job import Job
from harness.matrix.perform import Work
from harness.matrix.result import Result


class Listener(Protocol):
    """Is told what happens, from any thread."""

    def begins(self, what: str, command: str) -> None:
        """A job, or a kernel, begins."""

    def line(self, name: str, text: str) -> None:
        """What a job says, a line at a time. name: of the job; empty for a kernel."""

    def built(self, job: Job, seconds: float) -> None:
        """The kernel of a job is there."""

    def ended(self, result: Result | None) -> None:
        """A job ended; None for one that was stopped."""


class Executor(Protocol):
    """Runs jobs. Their run directories are below a folder, each under the name of its job."""

    def run(self, works: Sequence[Work], folder: Path, listener: Listener) -> None:
        """Run them all; returns, or raises an interrupt, when none is left running."""
