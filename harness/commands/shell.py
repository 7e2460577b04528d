# SPDX-License-Identifier: GPL-2.0-only
"""harness shell: a guest with the module loaded, for a person at its second console or for one command.

It is fresh, or it is where a scenario of an earlier run stopped: a guest of
the same kernel, in which that scenario's commands were given again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.commands import _options, _slow
from harness.guest import carry
from harness.guest.agent import GuestProcess, GuestResult, GuestTimeout
from harness.guest.console import clean
from harness.guest.machine import Condition, Machine
from harness.host.clock import Deadline
from harness.host.progress import Progress
from harness.host.starvation import share
from harness.kernel import versions
from harness.model import recording as recordings
from harness.model.contract import AUTO
from harness.model.errors import CannotTest, GuestLost, MachineError, UsageError
from harness.model.recording import Ended
from harness.model.scenario import Scenario
from harness.model.shape import MachineShape
from harness.model.strict_yaml import offer
from harness.report.text import one_line, plain
from harness.run import debugger, drive, earlier, planning
from harness.run.pipeline import KernelRequest
from harness.run.session import Session
from harness.run.watching import Watched
from harness.variants import instruments

# A command may be a whole test suite; Ctrl-C ends it sooner.
_COMMAND_LIMIT_S = 86400.0
# In seconds: how often the harness looks whether the guest lives, and how long it waits for one that shows no sign.
_LOOK_S = 1.0
_PATIENCE_S = 30.0
# PID 1 of a guest sends a word each second: when QEMU's watchdog has waited for it in vain (10 s), and the guest has
# wanted less than this share of a CPU for so many seconds, it is not busy. It stands still.
_IDLE, _IDLE_S = 0.3, 3.0
# The same on a host where QEMU has to wait for its CPU: what it gets, and what it wants.
_IDLE_GOT, _IDLE_WANTED = 0.1, 0.7
# The status of a process that a signal ended, less the signal.
_SIGNALLED = 256
_STDIN, _CHUNK_BYTES = 0, 1 << 16


options = _slow.OPTIONS["shell"]


def main(arguments: argparse.Namespace) -> int:
    """Hand the terminal over, or run one command, whose status is ours."""
    from harness.terminal import Terminal

    words = arguments.words
    place = str(_options.run(words[0])) if words else ""
    named, words = (place, words[1:]) if words and earlier.named(place) else ("", words)
    if words and not named and Path(words[0]).is_dir():
        raise UsageError(f"{words[0]}: a folder of this machine, and no run", "harness list runs")
    if words:
        with Terminal() as terminal:
            executed = execute(_visit(arguments, named, terminal), words)
        return _pass_on_all(executed)
    if not sys.stdin.isatty():
        raise UsageError("harness shell needs a terminal on standard input", "harness shell COMMAND needs none")
    with Terminal() as terminal:
        interact = prepare(_visit(arguments, named, terminal))
    return interact()


def _visit(arguments: argparse.Namespace, named: str, progress: Progress) -> Visit:
    """A visit to a fresh guest, or to a guest like that of an earlier run."""
    if not named:
        session = Session(_options.kernel_request(arguments), instruments.NOTIFIER_HOLD, arguments.accel, progress)
        return _equipped(Visit(session, progress, gdb=arguments.gdb), arguments)
    folder, scenario = earlier.named(named) or (Path(named), "")
    run = earlier.read(folder, arguments.compiler)
    request = _beside(run.request, arguments, named)
    session = Session(request, instruments.NOTIFIER_HOLD, arguments.accel, progress)
    if request == run.request:
        run.verify(session.lab.kernel)
    else:
        added = ", ".join(arguments.config)
        progress.say(f"{named}: not on its own kernel, but on one of its source and patches with {added}")
    name = scenario or run.scenario()
    if name not in run.verdicts:
        raise UsageError(f"{named}: the run has no scenario {name!r}", offer(name, run.verdicts))
    return _equipped(Visit(session, progress, scene(folder / name, name), arguments.gdb), arguments)


def _equipped(visit: Visit, arguments: argparse.Namespace) -> Visit:
    """The visit with what its guest is given. A folder that holds no module is told before there is a guest."""
    made = [visit.session.build_modules(folder) for folder in arguments.module]
    for line in (line for one in made for line in one.warnings):
        visit.progress.say(plain(line))
    if arguments.share is not None and not arguments.share.is_dir():
        raise UsageError(f"--share {arguments.share}: not a folder", "name one whose content is to be in the guest")
    return dataclasses.replace(visit, loads=[path for one in made for path in one.modules], share=arguments.share)


def _beside(request: KernelRequest, arguments: argparse.Namespace, named: str) -> KernelRequest:
    """The kernel of a run; with what --config adds to it. Raises UsageError for what a run has decided."""
    decided = {
        "--source": arguments.source != versions.DEFAULT,
        "--patch": arguments.patch is not None,
        "--contract": arguments.contract != AUTO,
    }
    if given := [option for option, is_given in decided.items() if is_given]:
        raise UsageError(
            f"{', '.join(given)} and {named}: a run has its own source, patches and contract",
            f"harness shell {shlex.quote(named)}, or leave out the run",
        )
    added = tuple(name for name in arguments.config or () if name not in request.configs)
    return dataclasses.replace(request, configs=(*request.configs, *added)) if added else request


def _pass_on_all(executed: Executed) -> int:
    """Write what a command printed, and what its kernel said meanwhile; returns the command's status.

    A guest that died of its kernel gave no status: that is 1, as for a scenario.
    Raises what kept the harness from hearing the kernel.
    """
    done = executed.done
    if done is not None:
        _pass_on(done.stdout, sys.stdout)
        _pass_on(done.stderr, sys.stderr)
    for line in executed.complaints:
        print(f"harness: {line}", file=sys.stderr)
    if executed.unheard is not None:
        raise executed.unheard
    if done is None:
        return 1
    # As a shell does for a command that a signal ended.
    return done.status if done.status < _SIGNALLED else 128 + done.status - _SIGNALLED


def _pass_on(said: bytes, stream: TextIO) -> None:
    """Write what the guest said as it is; a terminal gets none of its control characters."""
    stream.flush()
    stream.buffer.write(clean(said).encode() if stream.isatty() else said)
    stream.flush()


@dataclass(frozen=True)
class Scene:
    """Where a scenario stopped: its commands until then. unanswered: the last of them did not end.

    quits: all of them did, and the driver's own end did not, in which the kernel takes down what was left.
    """

    scenario: Scenario
    commands: Sequence[planning.Command]
    unanswered: bool
    quits: bool = False

    @property
    def where(self) -> str:
        """Where that is, for people."""
        if self.quits or not self.commands:
            return "the end of its driver" if self.quits else "its beginning"
        last = self.commands[-1]
        return f"step {last.step}, {last.text!r}" if last.step else repr(last.text)


def scene(place: Path, name: str) -> Scene:
    """Read the scene from a scenario's folder. A scenario that ran to its end stops before anything is taken down."""
    scenario = earlier.scenario_of(place, name)
    recording = recordings.read(place, scenario)
    commands = planning.plan(scenario)
    if recording.ended is Ended.COMPLETE:
        last = max((number for number, command in enumerate(commands, 1) if command.step), default=len(commands))
        return Scene(scenario, commands[:last], unanswered=False)
    answered = len(recording.answers)
    unanswered = recording.ended is not Ended.STEP_FAILED
    if unanswered and answered >= len(commands):
        return Scene(scenario, commands, unanswered=False, quits=True)
    return Scene(scenario, commands[: answered + unanswered], unanswered)


@dataclass(frozen=True)
class Visit:
    """What to do in a guest, and where. scene: None for a fresh guest. gdb: print the line that starts it.

    loads: modules; share: a folder.
    """

    session: Session
    progress: Progress
    scene: Scene | None = None
    gdb: bool = False
    loads: Sequence[Path] = ()
    share: Path | None = None

    @property
    def shape(self) -> MachineShape | None:
        """What the guest looks like; None for the usual one."""
        return self.scene.scenario.shape if self.scene else None

    @contextlib.contextmanager
    def machine(self) -> Iterator[Machine]:
        """The guest, ready, with its scene set."""
        with self.session.machine(self.shape) as machine, self.ready(machine):
            yield machine

    @contextlib.contextmanager
    def ready(self, machine: Machine) -> Iterator[None]:
        """The time in which a guest has its scene set, and gdb may come."""
        with contextlib.ExitStack() as stack:
            if self.gdb:
                module = self.session.module
                place = self.session.lab.instrument.text
                text = machine.agent.read_file(place).decode("ascii", "backslashreplace").strip() if place else ""
                desk = stack.enter_context(debugger.desk())
                desk.serve(machine)
                self.progress.say(desk.line(self.session.lab.kernel.vmlinux, module, text))
            self._give(machine)
            # The driver holds the pages and the subscribers, so it must not end before the visit does.
            driver = self._set(machine, self.scene) if self.scene else None
            yield
            del driver

    def _give(self, machine: Machine) -> None:
        """Copy what the user wants to have in the guest."""
        try:
            if self.share is not None:
                carry.share(machine, self.share)
            for module in self.loads:
                carry.load(machine, module)
        except GuestTimeout as late:
            raise GuestLost(str(late)) from None
        except OSError as refused:
            raise CannotTest(str(refused), f"see {machine.console.log}") from None

    def _set(self, machine: Machine, scene: Scene) -> GuestProcess:
        """Give a scenario's commands again."""
        lab = self.session.lab
        deadline = Deadline.scaled(scene.scenario.timeout_s, lab.slowdown(machine))
        drive.give(machine, drive.files(scene.scenario, lab.kernel, lab.cache, self.progress), deadline)
        driver = machine.agent.start(lab.instrument.driver)
        try:
            for number, command in enumerate(scene.commands, 1):
                driver.send(command.text + "\n", deadline)
                if not (scene.unanswered and number == len(scene.commands)):
                    _await(driver, deadline)
            if scene.quits:
                driver.send("quit\n", deadline)
        except GuestTimeout as late:
            self.progress.say(f"{scene.scenario.name}: {late}")
        except GuestLost as lost:
            state = machine.state()
            why = state.evidence if state.condition is not Condition.RUNNING else lost.message
            raise GuestLost(
                f"{scene.scenario.name}: the guest ended again, nothing is left to look into: {why}",
                "harness run --record, then harness replay --gdb",
            ) from None
        self.progress.say(f"{scene.scenario.name} was done again up to {scene.where}")
        return driver


def _await(driver: GuestProcess, deadline: Deadline) -> None:
    """Wait for the reply to a command, whatever it says."""
    while (line := driver.readline(deadline.remaining_s)) is not None:
        with contextlib.suppress(ValueError):
            if "progress" not in json.loads(line):
                return
    raise GuestLost(f"the guest driver ended: {driver.stderr[-200:]!r}")


def prepare(visit: Visit) -> Callable[[], int]:
    """Build what is missing; returns the function that makes the guest and hands the terminal over."""
    lab, progress = visit.session.lab, visit.progress

    def interact() -> int:
        with visit.machine() as machine:
            progress.say(f"{lab.kernel.release} on {lab.choice.used}; leave with exit or Ctrl-]")
            progress.say(f"its kernel log: {machine.console.log}")
            machine.interact()
        return 0

    return interact


@dataclass(frozen=True)
class Executed:
    """What came of a command: its end, None if the guest ended first; what the kernel did meanwhile, line by line.

    unheard: why the kernel could not be heard.
    """

    done: GuestResult | None
    complaints: Sequence[str] = ()
    unheard: MachineError | None = None


def execute(visit: Visit, argv: Sequence[str]) -> Executed:
    """Run one command in the guest. Raises GuestLost for a guest that was lost for a reason of the host."""
    if visit.gdb:
        # A guest that gdb stops is not one that hangs.
        with visit.machine() as machine:
            return Executed(machine.run(*argv, timeout_s=_COMMAND_LIMIT_S))
    done, late = None, ""
    try:
        watched = visit.session.watched(shape=visit.shape)
        with watched as seen, visit.ready(seen.machine):
            try:
                done = _run(seen.machine, argv)
            except (GuestLost, GuestTimeout) as fault:
                # Whose fault it is that a guest was lost, its judgement says.
                late = str(fault)
                if isinstance(fault, _Still):
                    seen.given_up = late
    except MachineError as error:
        if done is None:
            raise
        return Executed(done, unheard=error)
    complaints = _complaints(seen)
    if done is None and not complaints:
        raise MachineError(f"{shlex.join(argv)}: {late}; its kernel says nothing of it")
    return Executed(done, complaints)


def _run(machine: Machine, argv: Sequence[str]) -> GuestResult:
    """Run a command for as long as the guest lives. Raises GuestTimeout for a guest that stands still."""
    process = machine.agent.start(argv)
    idle = _Idle(machine)
    threading.Thread(target=_pass_in, args=(process,), name="stdin", daemon=True).start()
    deadline = Deadline(_COMMAND_LIMIT_S)
    while True:
        try:
            return process.result(Deadline(min(_LOOK_S, deadline.remaining_s)))
        except GuestTimeout:
            if deadline.expired or machine.stands_still(_PATIENCE_S):
                raise
            if machine.stands_still(0.0) and idle.for_s() >= _IDLE_S:
                said = f"PID 1 stands still, and nothing runs in the guest: {machine.signs()}"
                raise _Still(f"{shlex.join(argv)}: {said}") from None


class _Still(GuestTimeout):
    """The guest is known to stand still for good."""


class _Idle:
    """For how long a guest has done nothing: its QEMU wanted next to nothing of a CPU, and the host did not stop it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._share = share(machine.pid)
        self._asked_s = self._since_s = time.monotonic()

    def for_s(self) -> float:
        """For how many seconds; call it every second."""
        now_s, now = time.monotonic(), share(self._machine.pid)
        passed_s, got_s = now_s - self._asked_s, now.ran_s - self._share.ran_s
        wanted_s = got_s + now.waited_s - self._share.waited_s
        # On a busy host, who wants little waits for it for long.
        idle = wanted_s < _IDLE * passed_s or (got_s < _IDLE_GOT * passed_s and wanted_s < _IDLE_WANTED * passed_s)
        if not idle or now.blocked or now.stopped or not now.ran_s:
            self._since_s = now_s
        self._asked_s, self._share = now_s, now
        return now_s - self._since_s


def _pass_in(process: GuestProcess) -> None:
    """Our standard input is the command's, to its end; not a terminal's that another program has in the foreground."""
    with contextlib.suppress(OSError, GuestLost, GuestTimeout, MachineError):
        while _may_read() and (chunk := os.read(_STDIN, _CHUNK_BYTES)):
            process.send(chunk, Deadline(_COMMAND_LIMIT_S))
    with contextlib.suppress(OSError, GuestLost, GuestTimeout, MachineError):
        process.close_stdin()


def _may_read() -> bool:
    """Whether a read of standard input stops nobody: a program in the background that reads its terminal is stopped."""
    return not os.isatty(_STDIN) or os.tcgetpgrp(_STDIN) == os.getpgrp()


def _complaints(seen: Watched) -> list[str]:
    """What a guest's kernel did, each with its line on the console, and where that is."""
    assert seen.result is not None
    lines = []
    for finding in seen.result.findings:
        at = re.search(r"console line \d+", finding.evidence)
        lines.append(one_line(f"the guest's kernel: {finding.summary}" + (f" ({at[0]})" if at else "")))
    return [*lines, one_line(f"console: {seen.machine.console.log}")] if lines else []
