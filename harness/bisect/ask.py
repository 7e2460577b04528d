# SPDX-License-Identifier: GPL-2.0-only
"""What a search asks, and of whom: a state to build, and a test that says of its runs whether they failed as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.host import workspace
from harness.host.progress import Progress
from harness.run.pipeline import KernelRequest


@dataclass(frozen=True)
class Target:
    """A state that can be tested. name: a commit, a patch or an option, or which end.

    files: what must be in files that the kernel's request names, as long as it is this target's turn.
    """

    name: str
    kernel: KernelRequest
    files: Sequence[tuple[Path, str]] = ()

    def ready(self) -> None:
        """Write its files."""
        for path, text in self.files:
            workspace.write_atomic(path, text)


@dataclass(frozen=True)
class Made:
    """A target that is ready to run. image: what it is, to the bit. stored: nothing had to be built."""

    image: str
    stored: bool


@dataclass(frozen=True)
class Ran:
    """What came of some runs. void: those that said nothing, and what they said instead."""

    fails: int = 0
    passes: int = 0
    void: int = 0
    note: str = ""
    folder: str = ""


class Test(Protocol):
    """Makes targets and runs them. cache: where what was made is kept."""

    cache: Path
    progress: Progress

    @property
    def at_once(self) -> int:
        """So many runs side by side are as quick as one."""

    def lane(self, number: int, lanes: int) -> Test:
        """The same beside others: in a work tree of its own, with its share of the machine, for another process."""

    def has_lane(self, target: Target, number: int) -> bool:
        """Whether the work tree of a lane is there already."""

    def make(self, target: Target) -> Made:
        """Build a target. Raises CannotTest for one that cannot be built, which a search skips."""

    def seek(self, target: Target, limit: int, folder: Path) -> tuple[Mapping[str, str] | None, Ran]:
        """Run the bad end until it shows something to search, and take that; None when it shows nothing."""

    def take(self, sought: Mapping[str, str]) -> None:
        """Search what was found in an earlier call."""

    def run(self, target: Target, runs: int, folder: Path, *, first: bool = True) -> Ran:
        """Run a target so often; first: the first failure ends it. Raises MachineError, which says nothing about it."""
