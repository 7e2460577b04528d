# SPDX-License-Identifier: GPL-2.0-only
"""How long-running work reports that it is alive: protocols that the command line implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Receives progress from any thread."""

    def say(self, text: str) -> None:
        """Report one fact, on a line of its own."""

    def advance(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of `stage` are done; total 0 means unknown."""


@dataclass(frozen=True)
class Running:
    """A scenario under way: since when, in seconds, and what it waits for."""

    name: str
    seconds: float
    doing: str


@dataclass(frozen=True)
class Table:
    """The scenarios of a run at a moment: how many ended how, which run, how many are left, and for how many seconds.

    left_s: 0 when nothing is known of them.
    """

    ended: Sequence[tuple[str, int]]
    running: Sequence[Running]
    left: int
    left_s: float


@runtime_checkable
class View(Progress, Protocol):
    """A progress that a person looks at while it goes on: it is told what is going on, too."""

    def phase(self, name: str) -> None:
        """A phase begins, and the one before it has ended; an empty name begins none."""

    def expect(self, seconds: float) -> None:
        """For how long the phase is likely to go on from now."""

    def detail(self, what: str) -> None:
        """What the phase is at."""

    def watch(self, look: Callable[[], Table] | None) -> None:
        """How to look at the scenarios of a run, from any thread; None when there are none any more."""


class Quiet:
    """Reports nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def advance(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def phase(self, name: str) -> None:
        """Say nothing."""

    def expect(self, seconds: float) -> None:
        """Say nothing."""

    def detail(self, what: str) -> None:
        """Say nothing."""

    def watch(self, look: Callable[[], Table] | None) -> None:
        """Say nothing."""


_QUIET = Quiet()
QUIET: Progress = _QUIET


def view(progress: Progress) -> View:
    """A progress as one that is told what is going on; one that does not care is told nothing."""
    return progress if isinstance(progress, View) else _QUIET
