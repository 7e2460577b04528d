# SPDX-License-Identifier: GPL-2.0-only
"""A guest that somebody else drives: recorded like a scenario's, and judged by the oracles that need only a console."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import oracles
from harness.guest.agent import GuestTimeout
from harness.guest.lab import Lab
from harness.guest.machine import Machine, Watchdogs
from harness.host.clock import Deadline, scaled
from harness.host.starvation import share, starved
from harness.model import event, scenario
from harness.model.errors import GuestLost
from harness.model.postmortem import PostMortem
from harness.model.recording import Ended, Recording
from harness.model.shape import MachineShape
from harness.model.verdict import ScenarioResult
from harness.run import judging
from harness.run.drive import Listener, why
from harness.run.pipeline import look

# Seconds, unscaled: for what the harness itself asks of the guest, and within which its kernel reports a hang.
_GRACE_S = 2.0
_LIMIT_S = 10.0
_TAINTED = "/proc/sys/kernel/tainted"
_LOCKDEP = "/proc/lockdep_stats"


@dataclass
class Watched:
    """A guest that is watched, and its result once the block has ended."""

    machine: Machine
    result: ScenarioResult | None = None


@contextlib.contextmanager
def watched(
    lab: Lab,
    folder: Path,
    shape: MachineShape = MachineShape(),  # noqa: B008 - frozen
) -> Iterator[Watched]:
    """A fresh machine of a lab, whatever it carries, until the block ends; then `result` says what its kernel did.

    folder: gets its console; its name is the result's. What the block raises
    is passed on; the guest is judged all the same. Raises what lab.machine() does,
    and GuestLost when the host is to blame for the guest's silence.
    """
    listener = Listener()
    with lab.machine(shape, folder, listener) as machine:
        slowdown = lab.slowdown(machine)
        watch = _Watch(lab, machine, folder, scaled(_GRACE_S, slowdown))
        machine.look_at_the_end(watch.look)
        machine.set_watchdogs(Watchdogs.within(scaled(_LIMIT_S, slowdown)))
        before = _state(machine)
        watch.mark("begin")
        seen = Watched(machine)
        began = Deadline(0)
        try:
            yield seen
        finally:
            ended, detail, after = watch.end(before)
            recording = Recording(
                scenario=scenario.unwritten(folder.name, shape),
                ended=ended,
                detail=detail,
                seconds=began.elapsed_s,
                answers=(),
                before=before,
                after=after,
                module={},
                events=event.EMPTY,
                console=machine.console.log.read_bytes(),
                postmortem=watch.found,
                slowdown=slowdown,
            )
            seen.result = judging.judge(recording, oracles.of_the_console())


class _Watch:
    """What the harness does in a guest that it does not drive."""

    def __init__(self, lab: Lab, machine: Machine, folder: Path, grace_s: float) -> None:
        self._lab = lab
        self._machine = machine
        self._folder = folder
        self._grace_s = grace_s
        # A guest that hangs may panic while it is looked at.
        self._looking = threading.Lock()
        self._found: PostMortem | None = None

    @property
    def found(self) -> PostMortem:
        """Why the guest did not go on; empty when nobody had to look."""
        with self._looking:
            return self._found or PostMortem()

    def look(self) -> None:
        """Find out from outside why the guest does not go on, once."""
        with self._looking:
            if self._found is None:
                self._found = look(self._lab, self._machine, self._folder)

    def mark(self, which: str) -> None:
        """Write a line to the kernel's log and wait for it; the clean-log oracle reports a line that is lost."""
        text = f"{which}:{self._folder.name}"
        self._machine.agent.write_file("/dev/kmsg", f"<5>{text}\n", self._grace_s)
        with contextlib.suppress(TimeoutError):
            self._machine.console.wait_for(re.escape(text), Deadline(self._grace_s))

    def end(self, before: Mapping[str, int]) -> tuple[Ended, str, Mapping[str, int]]:
        """How the guest is, now that nobody drives it any more: how it ended, why, and its state."""
        given = share(self._machine.pid)
        try:
            after = _state(self._machine)
            self.mark("end")
            return Ended.COMPLETE, "", after
        except GuestTimeout as late:
            self.look()
            if reason := starved(given, share(self._machine.pid)) or self._machine.pauses.told():
                raise GuestLost(f"{late}; {reason}", "run fewer guests at once") from late
            pulse = self._machine.pulse(self._grace_s)
            ended = Ended.NO_PROGRESS if pulse.answers else Ended.SPINNING if pulse.spins else Ended.SILENT
            return ended, f"{late}; {self._machine.signs()}", before
        except GuestLost as lost:
            return *why(self._machine, lost), before


def _state(machine: Machine) -> dict[str, int]:
    """What the end-state oracle compares: the kernel's taint, and whether lockdep is on, where the kernel has it."""
    state = {"taint": int(machine.agent.read_file(_TAINTED))}
    with contextlib.suppress(OSError):
        for line in machine.agent.read_file(_LOCKDEP).decode("ascii", "replace").splitlines():
            if line.strip().startswith("debug_locks:"):
                state["debug_locks"] = int(line.split()[-1])
    return state
