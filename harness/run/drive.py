# SPDX-License-Identifier: GPL-2.0-only
"""Drives one scenario on one machine and records what happened; judges nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness import console
from harness.guest import ready
from harness.guest.agent import GuestProcess, GuestTimeout
from harness.guest.machine import Condition, Machine, Watchdogs
from harness.guest.ready import KMSG, PRINTK, SYSRQ
from harness.host import workspace
from harness.host.clock import Deadline
from harness.host.progress import QUIET, Progress
from harness.host.starvation import Share, share, starved
from harness.kernel import modules, selftests
from harness.kernel.build import KernelBuild
from harness.model import event, ktap
from harness.model.causes import DIE
from harness.model.errors import CannotTest, GuestLost, HarnessError, MachineError
from harness.model.instrument import Instrument
from harness.model.postmortem import Hangs, PostMortem, Wait
from harness.model.recording import Answer, Ended, Recording
from harness.model.scenario import Scenario
from harness.postmortem import examine as outside
from harness.run.driven import numbers, parsed
from harness.run.planning import Command, module, plan

# After this many reports on the console the scenario ends: each costs the guest
# milliseconds of serial line, and the hundredth says nothing that the third did not.
# Scenarios that must provoke a complaint stay well below.
ENOUGH_REPORTS = 12

# How long a wait for a reply lasts before the next look at the console, in seconds.
_LOOK_S = 0.2
# Where the guest keeps the programs and modules of the kernel's own tests (guest-modules/drive/selftest.c).
SELFTESTS = "/tmp/selftests"  # noqa: S108 - of the guest
# What is kept of their output.
OUTPUT_LIMIT_BYTES = 4 << 20
_CUT = b"\n[harness: the output went on after %d MiB]\n"
# The scenario is over when QEMU's watchdog went off and nothing was heard of PID 1 for this share of its time. That
# is later than the kernel's own detectors (Watchdogs.within), of which the last reports after a third of the time.
_WATCHDOG_SHARE = 0.6
# A line for the kernel's log: when it is on the console, so is all that the kernel printed before.
_DRIVER_ENDED = "harness: the guest driver ended"
# The status of a process that a signal killed, less the signal.
_SIGNALLED = 256
_HUNG_TASK = re.compile(r"INFO: task .*:(\d+) blocked")
# How long a step may take after an oops, how long a guest that does nothing may stay away before it is looked at from
# outside, and how long any guest where one hang is proved: seconds on a host with a slow-down of 10, as TCG's is. No
# step of ours takes longer than 4, but selftests. A look takes 1 s. The second is at most doubled: an idle guest is as
# quick as its host.
_AFTER_OOPS_S, _CALM_S, _KNOWN_S = 1.0, 2.0, 1.0
# A task that has slept uninterruptibly for so many seconds, without a timer and in a guest that did nothing meanwhile,
# never wakes: nobody is left who could wake it.
_STILL_S = 12.0
# How long a guest of which the worst is known may take for what the harness still asks of it, the event log above all.
_PROVED_S = 2.0
# The driver's tasks, as the kernel calls them.
_COMM = "drive"
# A guest does nothing when its QEMU wants less of a CPU than this; or, on a host where QEMU has to wait for each CPU,
# less than the third number while it gets less than the second. An idle one wants and gets 0.05; a busy vCPU wants 1.
_CALM, _CALM_GOT, _CALM_WANTED = 0.3, 0.1, 0.7


def files(scenario: Scenario, kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> dict[str, Path]:
    """What a scenario needs from the kernel's tree: name in the guest → file here, built if it is missing.

    Raises CannotTest for what the tree does not have, or what does not compile here.
    """
    programs = {name: selftests.program(name, kernel, cache, progress) for name in scenario.selftests}
    loaded = {module(name): modules.in_tree(name, kernel, cache, progress) for name in scenario.modules}
    return programs | loaded


def give(machine: Machine, given: Mapping[str, Path], deadline: Deadline) -> None:
    """Copy the files of files() to where the driver looks for them; on demand, because a program is a megabyte."""
    if given:
        machine.agent.run(["mkdir", SELFTESTS], deadline.remaining_s)
    for name, path in given.items():
        there = f"{SELFTESTS}/{name}"
        machine.agent.write_file(there, path.read_bytes(), deadline.remaining_s)
        machine.agent.run(["chmod", "755", there], deadline.remaining_s)


class Listener:
    """Counts the reports on a console as they come, and says when there are enough."""

    def __init__(self) -> None:
        self.reports = 0
        self.hangs = 0
        # The tasks, by pid, that the kernel reported as hung; and whether one died in the kernel.
        self.hung: set[int] = set()
        self.died = False
        # What the scenario is at, for whoever looks on; and since when it is under way.
        self.doing = "waits for its machine"
        self._since = Deadline(0)
        self.enough = threading.Event()

    @property
    def elapsed_s(self) -> float:
        """For how long the scenario has been under way."""
        return self._since.elapsed_s

    def __call__(self, line: str) -> None:
        """Take a line of the console."""
        opened = console.opener(line)
        if opened is None:
            return
        self.reports += 1
        self.died = self.died or bool(DIE.search(line))
        self.hung |= {int(pid) for pid in _HUNG_TASK.findall(line)}
        # The kernel found the hang; the harness need not wait for its own limit to find it, too.
        self.hangs += opened.type == "HANG"
        if self.hangs or self.reports >= ENOUGH_REPORTS:
            self.enough.set()


def drive(
    scenario: Scenario,
    machine: Machine,
    instrument: Instrument,
    listener: Listener,
    limit_s: float,
    events: Path,
    examine: Callable[[], PostMortem] = PostMortem,
    given: Mapping[str, Path] = MappingProxyType({}),
    slowdown: float = 1.0,
    hangs: Hangs | None = None,
) -> Recording:
    """Run a scenario to its end, or to the end of its time.

    instrument: what the machine carries, with a driver and a log. listener:
    hears the machine's console. limit_s: how long the steps may take in all, on
    an ordinary machine; slowdown: how much slower this guest is. events: the file that the event log goes to;
    it is missing when the guest could not give the log. examine: called each
    time that the guest is suspected to hang, before anything is asked of it; what
    it returns when the suspicion holds is the recording's post-mortem. given: what
    files() says the scenario needs. hangs: what other scenarios proved of this
    kernel, those that run beside this one, too.
    Raises GuestLost when the machine was lost for a reason on the host.
    """
    demand_modules(machine)
    events.parent.mkdir(parents=True, exist_ok=True)
    events.unlink(missing_ok=True)
    deadline = Deadline.scaled(limit_s, slowdown)
    drive = _Drive(
        scenario, machine, instrument, listener, deadline, events, examine, given, Hangs() if hangs is None else hangs
    )
    try:
        try:
            drive.run()
        except GuestTimeout as late:
            drive.give_up(late)
    except GuestLost as lost:
        drive.ended, drive.detail = why(machine, lost)
        if drive.ended is Ended.SILENT:
            drive.look()
    except OSError as refused:
        # A file of the module or of the kernel that each of our guests has.
        raise GuestLost(f"the guest refused what the harness asked of it: {refused}") from refused
    blame_the_kernel_alone(machine, listener, drive.ending())
    if drive.ended in (Ended.SILENT, Ended.SPINNING):
        drive.interrupt()
    return drive.recording()


class _Drive:
    """A scenario under way."""

    def __init__(
        self,
        scenario: Scenario,
        machine: Machine,
        instrument: Instrument,
        listener: Listener,
        deadline: Deadline,
        events: Path,
        examine: Callable[[], PostMortem],
        given: Mapping[str, Path],
        hangs: Hangs,
    ) -> None:
        self.ended, self.detail = Ended.COMPLETE, ""
        self._events = events
        self._scenario = scenario
        self._machine = machine
        self._instrument = instrument
        self._listener = listener
        self._deadline = deadline
        self._examine = examine
        self._given = given
        self._hangs = hangs
        self._pace = max(1.0, deadline.slowdown / 10)
        # Why nobody waits for the end of the scenario's time.
        self._proof = ""
        self._postmortem: PostMortem | None = None
        self._postmortem_s = 0.0
        # A hung guest may panic while it is looked at.
        self._looking = threading.Lock()
        self._answers: list[Answer] = []
        # What the host had given QEMU when the current step began.
        self._share = share(machine.pid)

    @property
    def _grace_s(self) -> float:
        """How long what the harness itself asks of a guest in trouble may take: a tenth of the scenario's time.

        Less where the worst is known: a task that died never gives back what it held.
        """
        whole_s = max(2.0, self._deadline.limit_s / 10)
        known = self._proof or self._listener.died
        return min(whole_s, max(2.0, _PROVED_S * self._pace)) if known else whole_s

    def run(self) -> None:
        """All commands, the end of the driver, the event log."""
        self._machine.set_watchdogs(Watchdogs.within(self._deadline.limit_s))
        self._machine.look_at_the_end(self.look)
        ready.keep(self._machine, self._instrument)
        give(self._machine, self._given, self._deadline)
        driver = self._machine.agent.start(self._instrument.driver)
        for command in plan(self._scenario):
            if not self._step(driver, command):
                break
        if self._listener.enough.is_set() and self.ended is not Ended.NO_PROGRESS:
            self._quench()
        if self.ended is Ended.NO_PROGRESS:
            self.look()
            # What an oops left behind, or another scenario has shown, is not worth the time on the serial line.
            if not self._listener.died and not self._proof:
                self._show_blocked()
        elif self.ended is Ended.COMPLETE:
            driver.send("quit\n")
            driver.wait(self._grace_s)
            self._hear(_DRIVER_ENDED)
        else:
            # When the driver is killed, its descriptors release pages and subscribers all the same.
            driver.signal(9)
            driver.wait(self._grace_s)
        self._keep_events()

    def give_up(self, late: GuestTimeout) -> None:
        """The guest did not do what it always can do: it hangs, unless the scenario had already ended early."""
        said = f"{self.detail}; then {late}" if self.detail else str(late)
        if self.ended is Ended.EARLY:
            self.detail = said
            return
        self.look()
        pulse = self._machine.pulse(self._grace_s)
        if self._machine.told_panic:
            self.ended, self.detail = Ended.PANIC, self._machine.state().evidence
        elif not pulse.answers:
            self.ended = Ended.SPINNING if pulse.spins else Ended.SILENT
            self.detail = f"{said}; PID 1 does not answer either, and QEMU wants {pulse.busy:.1f} CPUs for the guest"
            self.detail += f"; {self._machine.signs()}"
        else:
            self.ended, self.detail = Ended.NO_PROGRESS, f"{said}; PID 1 answers; {self._machine.signs()}"
            if not self._proof:
                with contextlib.suppress(GuestTimeout):
                    self._show_blocked()

    def look(self) -> None:
        """Find out from outside why the guest does not go on, once and before anything is asked of it."""
        with self._looking:
            # A QEMU that the host has stopped answers no question, and its guest has done nothing wrong.
            if self._postmortem is None and not share(self._machine.pid).stopped:
                began = time.monotonic()
                self._postmortem = self._examine()
                self._postmortem_s = time.monotonic() - began

    def interrupt(self) -> None:
        """The last question to a guest that answers nothing, through an NMI: where its CPUs are."""
        with contextlib.suppress(MachineError):
            # A panic with the backtraces of all CPUs is 8 KiB on the serial line.
            self._machine.interrupt(max(10.0, self._grace_s))
            self.detail += "; the backtraces of all CPUs are in nmi.log"

    def ending(self) -> Ending:
        """How the guest's part ended, for whoever has to say whose fault that is."""
        return Ending(self.ended, self.detail, self._postmortem or PostMortem(), self._share, self._grace_s)

    def recording(self) -> Recording:
        """What happened so far."""
        found = self._postmortem or PostMortem()
        # A task that wakes up now and then, only to wait again, is no hung task for the kernel.
        late = _COMM if self.ended is Ended.NO_PROGRESS and self._deadline.expired else ""
        vmstat = [answer.reply for answer in self._answers if answer.verb == "vmstat"]
        return Recording(
            scenario=self._scenario,
            ended=self.ended,
            detail=self.detail,
            seconds=self._deadline.elapsed_s,
            answers=self._answers,
            before=_counters(vmstat[:1]),
            after=_counters(vmstat[1:][-1:]),
            module=_counters([answer.reply for answer in self._answers if answer.verb == "log"]),
            events=event.read(self._events),
            console=self._machine.console.log.read_bytes(),
            postmortem=dataclasses.replace(found, waits=found.proved(self._listener.hung, late)),
            postmortem_s=self._postmortem_s,
        )

    def _keep_events(self) -> None:
        """The event log, whole or not at all."""
        part = self._events.with_suffix(".part")
        try:
            with workspace.space(part), part.open("wb") as file:
                self._machine.agent.read_file(self._instrument.log, self._grace_s, file)
            part.replace(self._events)
        finally:
            part.unlink(missing_ok=True)

    def _step(self, driver: GuestProcess, command: Command) -> bool:
        """Give one command; False when the scenario ends with it."""
        began = time.monotonic()
        self._listener.doing = f"step {command.step}, {command.text}" if command.step else command.text
        self._share = share(self._machine.pid)
        # A mark that any program could print would not tell that the log came through.
        word = f":{secrets.token_hex(8)}" if command.verb == "mark" else ""
        driver.send(command.text + word + "\n", self._deadline)
        reply = self._reply(driver, command)
        if reply is None:
            flood = self._listener.enough.is_set() and not self._listener.hangs
            self.ended = Ended.EARLY if flood else Ended.NO_PROGRESS
            self.detail = f"step {command.step}, {command.text!r}: no answer after {self._deadline}"
            if self._proof:
                self.detail += f"; {self._proof}"
            if not flood:
                self.detail += f"; {self._machine.signs()}"
            return False
        if word:
            reply = {**reply, "mark": command.target + word}
        if isinstance(reply.get("program"), str) and reply["program"] in self._given:
            reply = {**reply, **self._results(reply)}
        self._answers.append(command.answered(reply, time.monotonic() - began))
        if reply.get("ok") is not True:
            self.ended = Ended.STEP_FAILED
            self.detail = f"step {command.step}, {command.text!r}: {reply.get('error', 'failed')}"
        return self.ended is Ended.COMPLETE

    def _reply(self, driver: GuestProcess, command: Command) -> Mapping[str, Any] | None:
        """The driver's reply; None when the time or the patience has run out."""
        patience_s = _WATCHDOG_SHARE * self._deadline.limit_s
        suspicion = _Suspicion(self._machine, self._pace)
        while not self._deadline.expired and not self._listener.enough.is_set():
            if self._machine.stands_still(patience_s):
                return None
            try:
                # Short, so that a flood on the console is noticed while a step is under way.
                line = driver.readline(min(_LOOK_S, self._deadline.remaining_s))
            except GuestTimeout:
                if self._over(suspicion):
                    return None
                continue
            if line is None:
                return self._killed(driver, command)
            reply = parsed(line)
            if reply is None:
                raise GuestLost(f"the guest driver answered {line[:80]!r} to {command.text!r}")
            if "progress" not in reply:
                return reply
        return None

    def _over(self, suspicion: _Suspicion) -> bool:
        """Whether it is known that the step will not end."""
        if self._listener.died:
            if self._machine.console.silent_s < _AFTER_OOPS_S * self._pace:
                return False
            self._proof = "a task died in the kernel, and nothing went on"
            return True
        if self._machine.taped or not suspicion.due(known=self._hangs.proved):
            return False
        with self._looking:
            if self._postmortem is not None:
                return False
            began = time.monotonic()
            found = self._examine()
            known = self._hangs.known(found)
            still = suspicion.still(found)
            for wait, why_ever in (
                *((wait, f"which was proved to hang in {scenario}") for wait, scenario in known),
                *((wait, f"and nothing ran in the guest for {_STILL_S:g} s") for wait in still),
            ):
                self._proof = self._proof or f"{wait.task} waits in {' ← '.join(wait.where)}, {why_ever}"
                self._listener.hung.add(wait.pid)
            if found.circles or known or still:
                self._postmortem, self._postmortem_s = found, time.monotonic() - began
                return True
            outside.forget(self._machine.console.log.parent)
        return False

    def _killed(self, driver: GuestProcess, command: Command) -> Mapping[str, Any]:
        """The reply for a driver that ended: the kernel kills the task that oopses, and reports that first."""
        status = driver.wait(self._grace_s)
        self._hear(_DRIVER_ENDED)
        if status < _SIGNALLED or not self._listener.reports:
            raise GuestLost(f"the guest driver ended at {command.text!r}: {driver.stderr[-200:]!r}")
        error = f"the guest driver was killed by signal {status - _SIGNALLED}, after a report of the kernel"
        return {"ok": False, "error": error}

    def _results(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """What a selftest printed: kept beside the console, and counted for the reply."""
        name = reply["program"]
        argv = ["head", "-c", str(OUTPUT_LIMIT_BYTES + 1), f"{SELFTESTS}/{name}.out"]
        read = self._machine.agent.run(argv, self._grace_s)
        if read.status:
            raise GuestLost(f"{name}.out cannot be read in the guest: {read.stderr[-200:]!r}")
        said = read.stdout
        cut = len(said) > OUTPUT_LIMIT_BYTES
        said = said[:OUTPUT_LIMIT_BYTES]
        end = _CUT % (OUTPUT_LIMIT_BYTES >> 20) if cut else b""
        workspace.write_atomic(self._machine.console.log.with_name(f"{name}.tap"), said + end)
        signal, status = reply.get("signal"), reply.get("status")
        ended = _SIGNALLED + signal if isinstance(signal, int) else status if isinstance(status, int) else -1
        return ktap.read(said.decode("utf-8", errors="backslashreplace"), ended, cut=cut).document()

    def _quench(self) -> None:
        """Enough was seen: the module accepts everything from now on, and the console falls silent."""
        self.ended = Ended.EARLY
        self.detail = f"stopped after {self._listener.reports} reports on the console"
        if self._instrument.quench:
            self._machine.agent.write_file(self._instrument.quench, "1\n")
        if not self._hear("harness: enough was seen"):
            self.detail += "; the last of them may be cut"
        self._machine.agent.write_file(PRINTK, "1\n")

    def _show_blocked(self) -> None:
        """Have the kernel write its blocked tasks, all CPUs' backtraces, memory and locks to the console.

        Without lockdep the kernel answers "d", the locks, with its list of keys.
        """
        for key in ("w", "l", "m", "d"):
            self._machine.agent.write_file(SYSRQ, key, self._grace_s)
        whole = self._hear("harness: the blocked tasks were asked for")
        self.detail += f"; the blocked tasks are at the end of the console{'' if whole else ', as far as they came'}"

    def _hear(self, what: str) -> bool:
        """Wait for a line after all that the kernel has printed so far; False when it did not come.

        A thread of the kernel writes to the serial line since Linux commit d3539347022a ("serial: 8250: Switch to
        nbcon console, take 2") (seen in v7.3): what is printed is not on the console yet, and is not written any more
        when its level is too low by then. If the marks of the scenario do not come, the clean-log oracle reports it.
        """
        said = f"{what}:{secrets.token_hex(8)}"
        self._machine.agent.write_file(KMSG, f"<5>{said}\n", self._grace_s)
        try:
            self._machine.console.wait_for(said, Deadline(self._grace_s))
        except TimeoutError:
            return False
        return True


class _Suspicion:
    """When a step that does not answer is worth a look from outside: a guest that works is not, one that waits is."""

    def __init__(self, machine: Machine, pace: float) -> None:
        """pace: how many times slower the guest is than the limits above were written for."""
        self._machine = machine
        self._began_s = self._calm_s = self._asked_s = time.monotonic()
        self._share = share(machine.pid)
        self._pace = pace
        # Each look that finds nothing makes the next one rarer. known: for hangs that are proved.
        self._looks = self._looks_known = 0
        # The first look since the guest last did something, and when that was.
        self._first: PostMortem | None = None
        self._first_s = 0.0
        self._looked = False

    def due(self, *, known: bool) -> bool:
        """Whether to look now. known: a hang is proved on this kernel, so no matter what else the guest does."""
        now_s, now = time.monotonic(), share(self._machine.pid)
        # QEMU works for a look, and the guest stands still meanwhile.
        if not self._looked and self._works(now, now_s - self._asked_s):
            self._calm_s = now_s
            self._first = None
        self._asked_s, self._share, self._looked = now_s, now, False
        patience_s = _CALM_S * min(self._pace, 2) * 2**self._looks
        if self._first:
            patience_s = _STILL_S * 2 ** max(0, self._looks - 2)
        if now_s - self._calm_s >= patience_s:
            self._looks += 1
        elif known and now_s - self._began_s >= _KNOWN_S * self._pace * 2**self._looks_known:
            self._looks_known += 1
        else:
            return False
        self._looked = True
        self._calm_s = self._began_s = now_s
        return True

    def _works(self, now: Share, seconds: float) -> bool:
        """Whether the guest did something for the last few seconds, or the host kept it: by its disk, or by SIGSTOP."""
        got_s = now.ran_s - self._share.ran_s
        wanted_s = got_s + now.waited_s - self._share.waited_s
        calm = wanted_s < _CALM * seconds or (got_s < _CALM_GOT * seconds and wanted_s < _CALM_WANTED * seconds)
        return now.blocked or now.stopped or not calm

    def still(self, found: PostMortem) -> list[Wait]:
        """Those of the waits that a look has found in which a task has been for too long, in a guest that did nothing.

        Call it after each look.
        """
        now_s = time.monotonic()
        # A host that counts nothing does not tell that a guest did nothing.
        if not self._share.ran_s or (self._first and now_s - self._first_s < _STILL_S):
            return []
        waits = found.still(self._first) if self._first else []
        self._first, self._first_s = found, now_s
        return waits


@dataclass(frozen=True)
class Ending:
    """How a guest's part ended, why, and what was found; given: what the host gave QEMU until what did not end began.

    grace_s: what the harness itself may ask of the guest may take.
    """

    ended: Ended
    detail: str
    found: PostMortem
    given: Share
    grace_s: float


def demand_modules(machine: Machine) -> None:
    """Raises CannotTest for a guest that could not load what it carries."""
    loaded = machine.hello.get("modules", "?")
    if loaded != "ok":
        raise CannotTest(f"the module does not load on this kernel: {loaded}", f"see {machine.console.log}")


def blame_the_kernel_alone(machine: Machine, listener: Listener, ending: Ending) -> None:
    """Raises GuestLost or MachineError for an ending that is no fault of the guest's kernel: the host's, or ours."""
    _mind_the_host(machine, listener, ending)
    _mind_our_connection(machine, listener, ending)
    _mind_the_log(machine)


def _mind_the_host(machine: Machine, listener: Listener, ending: Ending) -> None:
    """A guest that the host did not let run has not hung, whatever its watchdogs say."""
    late = ending.ended is Ended.COMPLETE and listener.hangs
    if ending.ended not in (Ended.NO_PROGRESS, Ended.SILENT, Ended.SPINNING) and not late:
        return
    machine.mind_the_host()
    if stopped := machine.stopped_by_qemu():
        raise GuestLost(f"{ending.detail}; {stopped}", "run it again")
    # A circle is proof, however slow the host is.
    if listener.reports > listener.hangs or ending.found.circles:
        return
    if reason := starved(ending.given, share(machine.pid)) or machine.pauses.told():
        raise GuestLost(f"{ending.detail}; {reason}", "run fewer guests at once: --jobs 1")


def _mind_our_connection(machine: Machine, listener: Listener, ending: Ending) -> None:
    """A guest that lives but does not get through to us says nothing of its kernel."""
    if ending.ended not in (Ended.SILENT, Ended.SPINNING) or listener.reports:
        return
    if life := machine.other_life(ending.grace_s):
        raise GuestLost(f"{ending.detail}; but {life}: our connection to the guest broke")


def _mind_the_log(machine: Machine) -> None:
    """A console that we could not record is no evidence of anything. Raises the error that prevented it."""
    failure = machine.console.failure
    if isinstance(failure, HarnessError):
        raise failure
    if failure is not None:
        raise MachineError(f"{machine.console.log}: not whole: {failure!r}") from failure


def why(machine: Machine, lost: GuestLost) -> tuple[Ended, str]:
    """How a guest that no longer answers ended, when evidence blames its kernel. Else raises GuestLost."""
    state = machine.state()
    match state.condition:
        case Condition.PANICKED:
            return Ended.PANIC, state.evidence
        case Condition.RESET:
            return Ended.RESET, f"{state.evidence}; {lost.message}"
        case Condition.SILENT:
            return Ended.SILENT, f"{lost.message}; {state.evidence}; {machine.signs()}"
    broke = f"our connection to the guest broke: QEMU still runs; {machine.signs()}"
    raise GuestLost(f"{lost.message}; {state.evidence or broke}") from lost


def _counters(replies: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return numbers(replies[0]) if replies else {}
