# SPDX-License-Identifier: GPL-2.0-only
"""A guest that somebody else drives: recorded like a scenario's, and judged by the oracles that need only a console."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import oracles
from harness.guest.agent import GuestTimeout
from harness.guest.lab import Lab
from harness.guest.machine import Machine, Watchdogs
from harness.host.clock import Deadline, scaled
from harness.host.starvation import share
from harness.model.contract import Contract
from harness.model.errors import GuestLost, MachineError
from harness.model.postmortem import PostMortem
from harness.model.recording import Answer, Ended
from harness.model.shape import MachineShape
from harness.model.verdict import ScenarioResult
from harness.run import judging
from harness.run.drive import Ending, Listener, blame_the_kernel_alone, demand_modules, why
from harness.run.driven import Driven
from harness.run.pipeline import look

# Seconds, unscaled: for what the harness itself asks of the guest, and within which its kernel reports a hang.
_GRACE_S = 4.0
_LIMIT_S = 10.0
# How long a guest that was given up is watched for what its CPUs do.
_PULSE_S = 1.0
# Until a guest that panicked was looked at from outside, and QEMU has ended.
_LOOK_LIMIT_S = 60.0
_TAINTED = "/proc/sys/kernel/tainted"
_LOCKDEP = "/proc/lockdep_stats"


@dataclass
class Watched:
    """A guest that is watched.

    judge: says what its kernel has done so far, while the block goes on. It
    raises what the end of the block raises. look: writes a post-mortem, if there
    is none. result: the latest word, and the last one once the block has ended.
    driven: the guest's driver, for whoever wants to give it steps; it can take
    none once the guest was judged. given_up: why the block is sure that the
    guest will never answer again: nobody asks it anything more.
    """

    machine: Machine
    judge: Callable[[], ScenarioResult]
    look: Callable[[], None]
    driven: Driven
    slowdown: float
    result: ScenarioResult | None = None
    given_up: str = ""


@contextlib.contextmanager
def watched(
    lab: Lab,
    folder: Path,
    shape: MachineShape = MachineShape(),  # noqa: B008 - frozen
    contract: Contract = Contract.MAYFAIL,
    *,
    boots: bool = False,
) -> Iterator[Watched]:
    """A fresh machine of a lab, whatever it carries, until the block ends; then `result` says what its kernel did.

    folder: gets its console; its name is the result's. contract: the one that its kernel is judged by.
    boots: it boots, where the lab would clone. An exception of the
    block is passed on, and the guest is judged all the same, unless the block
    was interrupted. Raises what lab.machine() does, CannotTest for a guest
    that cannot load what it carries, and GuestLost or MachineError when the
    host or our connection is to blame for what the guest did not do.
    """
    listener = Listener()
    make = lab.boot if boots else lab.machine
    with make(shape, folder, listener) as machine:
        demand_modules(machine)
        slowdown = lab.slowdown(machine)
        watch = _Watch(lab, machine, folder, scaled(_GRACE_S, slowdown))
        machine.look_at_the_end(watch.look)
        try:
            machine.set_watchdogs(Watchdogs.within(scaled(_LIMIT_S, slowdown)))
            before = _state(machine)
            watch.mark("begin")
        except (GuestTimeout, OSError) as fault:
            raise GuestLost(f"the guest did not do what each guest of ours does: {fault}") from fault
        began = Deadline(0)

        def judge() -> ScenarioResult:
            ending, after = watch.end(before, seen.driven, seen.given_up)
            seen.driven.write()
            blame_the_kernel_alone(machine, listener, ending)
            told, found = seen.driven.recorded(), ending.found
            if ending.ended in (Ended.PANIC, Ended.RESET):
                # A task that slept at that moment is not the cause, unless the kernel called it hung.
                found = dataclasses.replace(found, waits=found.proved(listener.hung))
            recording = dataclasses.replace(
                told,
                ended=ending.ended,
                detail=ending.detail,
                seconds=began.elapsed_s,
                answers=[*told.answers, *watch.marks],
                before={**told.before, **before},
                after={**told.after, **after},
                console=machine.console.log.read_bytes(),
                postmortem=found,
                contract=contract,
            )
            # Without a step there is no event log to judge, either.
            seen.result = judging.judge(recording, None if told.answers else oracles.of_the_console())
            return seen.result

        seen = Watched(machine, judge, watch.look, Driven(machine, lab.instrument, shape, slowdown, folder), slowdown)
        try:
            yield seen
        except Exception:
            # The block's own word counts: a guest that was lost meanwhile is no second one.
            with contextlib.suppress(MachineError):
                judge()
            raise
        judge()


class _Watch:
    """What the harness does in a guest that it does not drive."""

    def __init__(self, lab: Lab, machine: Machine, folder: Path, grace_s: float) -> None:
        self._lab = lab
        self._machine = machine
        self._folder = folder
        self._grace_s = grace_s
        # What the host gave QEMU until the guest was handed over.
        self._given = share(machine.pid)
        # A guest that hangs may panic while it is looked at.
        self._looking = threading.Lock()
        self._found: PostMortem | None = None
        self.marks: list[Answer] = []
        # How a guest that will never answer again ended: nobody waits for it twice.
        self._over: tuple[Ending, Mapping[str, int]] | None = None

    def look(self) -> None:
        """Find out from outside why the guest does not go on, once."""
        with self._looking:
            if self._found is None:
                self._found = look(self._lab, self._machine, self._folder)

    def mark(self, which: str) -> None:
        """Write a line to the kernel's log, and hear it; what does not come back is the clean-log oracle's to tell."""
        text = f"{which}:{self._folder.name}:{secrets.token_hex(8)}"
        self.marks.append(Answer(0, "mark", which, "", "", {"ok": True, "mark": text}, {}, 0.0))
        self._machine.agent.write_file("/dev/kmsg", f"<5>{text}\n", self._grace_s)
        with contextlib.suppress(TimeoutError):
            self._machine.console.wait_for(re.escape(text), Deadline(self._grace_s))

    def end(self, before: Mapping[str, int], driven: Driven, given_up: str = "") -> tuple[Ending, Mapping[str, int]]:
        """How the guest is, now that nobody drives it, and its state. Said once of a guest that has ended."""
        if self._over is not None:
            return self._over
        after = before
        try:
            if given_up:
                raise GuestTimeout(given_up)
            driven.finish()
            if driven.late:
                raise GuestTimeout(driven.late)
            after = _state(self._machine)
            self.mark("end")
            ended, detail = (Ended.STEP_FAILED, driven.broken) if driven.broken else (Ended.COMPLETE, "")
        except GuestTimeout as late:
            self.look()
            ended, detail = self._silence(late, _PULSE_S if given_up else self._grace_s)
        except GuestLost as lost:
            ended, detail = why(self._machine, lost)
            if ended is Ended.SILENT:
                self.look()
        except OSError as refused:
            raise GuestLost(f"the guest refused what the harness asked of it: {refused}") from refused
        if ended in (Ended.PANIC, Ended.RESET):
            # The thread that got QEMU's word for the end is still looking.
            self._machine.wait(_LOOK_LIMIT_S)
        with self._looking:
            ending = Ending(ended, detail, self._found or PostMortem(), self._given, self._grace_s)
        if ended not in (Ended.COMPLETE, Ended.STEP_FAILED):
            self._over = ending, after
        return ending, after

    def _silence(self, late: GuestTimeout, patience_s: float) -> tuple[Ended, str]:
        """What became of a guest that did not do in time what it always can."""
        pulse = self._machine.pulse(patience_s)
        if self._machine.told_panic:
            return Ended.PANIC, self._machine.state().evidence
        ended = Ended.NO_PROGRESS if pulse.answers else Ended.SPINNING if pulse.spins else Ended.SILENT
        return ended, f"{late}; {self._machine.signs()}"


def _state(machine: Machine) -> dict[str, int]:
    """What the end-state oracle compares: the kernel's taint, and whether lockdep is on, where the kernel has it."""
    state = {"taint": _number(_TAINTED, machine.agent.read_file(_TAINTED))}
    with contextlib.suppress(FileNotFoundError):
        for line in machine.agent.read_file(_LOCKDEP).splitlines():
            if line.strip().startswith(b"debug_locks:"):
                state["debug_locks"] = _number(_LOCKDEP, line.split()[-1])
    return state


def _number(path: str, said: bytes) -> int:
    try:
        return int(said)
    except ValueError:
        raise GuestLost(f"the guest says that {path} holds {said[:40]!r}") from None
