# SPDX-License-Identifier: GPL-2.0-only
"""How long-running work reports that it is alive: a protocol that the command line implements."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives progress from any thread."""

    def say(self, text: str) -> None:
        """Report one fact, on a line of its own."""

    def advance(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of `stage` are done; total 0 means unknown."""


class Quiet:
    """Reports nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def advance(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""


QUIET: Progress = Quiet()
