# SPDX-License-Identifier: GPL-2.0-only
"""What was read, from outside, of a guest in trouble, and what a run has learned from it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wait:
    """A task that sleeps and that no signal wakes, by pid and name, and the functions in which it waits.

    where: innermost first, without the functions of the scheduler and of locks. switches: how often the task had given
    up its CPU until then; ends: a timer or a fatal signal wakes it.
    """

    pid: int
    task: str
    where: tuple[str, ...]
    switches: int = field(default=0, compare=False)
    ends: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class PostMortem:
    """cause: the first paragraph of postmortem.txt, empty when nobody had to look.

    circles: tasks that wait for each other, by pid and name, each for the next
    one and the last for the first: a deadlock, however slow the host is.
    waits: tasks that were blocked, and may go on in a moment; first those that wait for no other task.
    """

    cause: str = ""
    circles: Sequence[Sequence[str]] = ()
    waits: Sequence[Wait] = ()

    def proved(self, hung: Collection[int], late: str = "") -> list[Wait]:
        """The waits that never end: of tasks in a circle, and of those that the kernel itself calls hung, by pid.

        late: tasks of this name have had all the time that they may take.
        """
        circle = {task for tasks in self.circles for task in tasks}
        return [
            wait
            for wait in self.waits
            if wait.task in circle or wait.pid in hung or (late and wait.task.endswith(f" {late}"))
        ]

    def still(self, earlier: PostMortem) -> list[Wait]:
        """The waits in which a task has been since an earlier look, without having run, and only a waker ends."""
        before = {(wait.pid, wait.where, wait.switches) for wait in earlier.waits}
        return [
            wait
            for wait in self.waits
            if wait.where and not wait.ends and (wait.pid, wait.where, wait.switches) in before
        ]


class Hangs:
    """The waits that a run has proved never to end on its kernel. Any thread may ask.

    A kernel that hangs does so in many scenarios; who meets a wait of which that is known need not wait again.
    """

    def __init__(self) -> None:
        self._scenarios: dict[tuple[str, ...], str] = {}
        self._guard = threading.Lock()

    @property
    def proved(self) -> bool:
        """Whether any hang is."""
        return bool(self._scenarios)

    def learn(self, scenario: str, waits: Sequence[Wait]) -> None:
        """Keep what a scenario has proved."""
        with self._guard:
            for wait in waits:
                if wait.where:
                    self._scenarios.setdefault(wait.where, scenario)

    def known(self, found: PostMortem) -> list[tuple[Wait, str]]:
        """Those of a guest's waits that are known never to end, each with the scenario that proved it."""
        return [(wait, self._scenarios[wait.where]) for wait in found.waits if wait.where in self._scenarios]
