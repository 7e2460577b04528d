# SPDX-License-Identifier: GPL-2.0-only
"""From an image and a kernel to a machine that answers, or to the reason why there is none."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.guest import qemu, swap
from harness.guest.agent import Agent
from harness.guest.channels import Channels
from harness.guest.console import Console
from harness.guest.image import GuestImage
from harness.guest.machine import Condition, Machine
from harness.guest.monitor import Event, Monitor
from harness.host import confinement, emulator, process, workspace
from harness.host.accelerator import usual_slowdown
from harness.host.clock import Deadline, scaled
from harness.host.starvation import Share, share, starved, watched
from harness.model.errors import GuestLost, LaunchError, MachineError
from harness.model.shape import MachineShape

# Seconds, on an ordinary machine. Booting takes 0.7 s under TCG, which is 10 times slower; a debug kernel needs more.
BOOT_LIMIT_S = 12.0
SSH_LIMIT_S = 15.0
# A look at a guest that panicked at boot takes 1 s, more on a busy host; then QEMU ends.
_LAST_LOOK_S = 30.0
# How long QEMU may take to end its recording: no time, as a rule.
_TAPE_LIMIT_S = 3.0
# At boot the kernel counts 25 ticks of the local APIC timer and as many of the PIT, and when they differ by three it
# gives the timer up for good (apic.c, calibrate_APIC_clock(), v6.1 and v6.12): then no timer is finer than 4 ms, and
# the hard lockup detector is useless. A vCPU that QEMU cannot run gets several ticks as one: 13 of 65 boots at load 3.
_BOOTS = 8
# QEMU 7.2 under TCG died of SIGSEGV in three boots so far, two of them within seconds and while the second CPU came up;
# 220 boots made to reproduce it did not. No kernel is to blame.
_CRASHES = 4


class _Crashed(LaunchError):
    """QEMU died of SIGSEGV before PID 1 spoke."""


class BootFailed(Exception):
    """The kernel did not reach PID 1. That is an observation, not a HarnessError: it becomes a verdict.

    reason: "panic", "exited" (QEMU ended without a word: a triple fault) or
    "silent" (no heartbeat before the limit). console: the last lines, cleaned.
    """

    def __init__(self, reason: str, message: str, console: str, elapsed_s: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.console = console
        self.elapsed_s = elapsed_s


@dataclass(frozen=True)
class Parts:
    """What machines are started from: an image, a vmlinux, an accelerator ("tcg" or "kvm").

    slowdown scales the limits; the default is the usual slowdown of the accelerator.
    confined: QEMU has no more rights than it needs; off for a program that needs others.
    """

    image: GuestImage
    kernel: Path
    accel: str = "tcg"
    slowdown: float = 0.0
    program: str = emulator.PROGRAM
    confined: bool = True

    @property
    def scale(self) -> float:
        """How many times longer than on an ordinary machine things may take."""
        return self.slowdown or usual_slowdown(self.accel)


@dataclass(frozen=True)
class Memory:
    """RAM that is a file. hello, console: what was said before the snapshot; hello None: the machine boots into it."""

    path: Path
    hello: Mapping[str, str] | None = None
    console: bytes = b""


@contextlib.contextmanager
def boot(
    parts: Parts,
    shape: MachineShape = MachineShape(),  # noqa: B008 - frozen
    *,
    run_dir: Path,
    on_line: Callable[[str], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
    limit_s: float = BOOT_LIMIT_S,
    memory: Memory | None = None,
    look: Callable[[Machine, Path], object] | None = None,
    tape: qemu.Tape | None = None,
) -> Iterator[Machine]:
    """A machine that answers, until the block ends; then nothing of it is left but run_dir/console.log.

    on_line gets every line of the kernel log as it comes, on_event every event
    of QEMU; both from threads of their own. limit_s: how long the machine may take
    to answer; it is scaled.
    tape: what the machine is recorded on. look: called with the machine and run_dir
    when the guest panics before it answers, while QEMU still runs.
    The machine dies with the calling thread. A machine whose kernel gave its timer up
    because the host was busy is booted again, and so is a machine whose QEMU crashed.

    Raises LaunchError when QEMU is missing or refuses, BootFailed when the
    kernel does not reach PID 1, GuestLost when the kernel gave its timer up in every boot.
    """
    began_s = time.monotonic()
    crashes = given_up = 0
    while given_up < _BOOTS:
        if memory is not None:
            memory.path.unlink(missing_ok=True)
        deadline = Deadline.scaled(limit_s, parts.scale)
        with contextlib.ExitStack() as stack:
            try:
                machine, news = stack.enter_context(
                    started(parts, shape, run_dir, on_line, on_event, memory, deadline, tape)
                )
                if look is not None:
                    machine.look_at_the_end(functools.partial(look, machine, run_dir))
                _await_hello(machine, news, deadline)
            except _Crashed:
                crashes += 1
                if crashes == _CRASHES:
                    raise
                continue
            machine.look_no_more()
            # On a tape both timers are counts of instructions.
            if tape is not None or machine.hello.get("timer") != "given up":
                machine.ready_s = time.monotonic() - began_s
                yield machine
                return
            given_up += 1
    raise GuestLost(
        f"the kernel gave up its local APIC timer in each of {_BOOTS} boots: the host runs QEMU too unevenly",
        "run fewer programs or guests (--jobs 1) at once, then run it again",
    )


@contextlib.contextmanager
def started(
    parts: Parts,
    shape: MachineShape,
    run_dir: Path,
    on_line: Callable[[str], None],
    on_event: Callable[[Event], None],
    memory: Memory | None,
    deadline: Deadline,
    tape: qemu.Tape | None = None,
) -> Iterator[tuple[Machine, threading.Event]]:
    """A QEMU with all its channels, whose guest has not spoken yet, and an event that is set on news of the guest."""
    program = emulator.find(parts.program)
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        channels = Channels()
        stack.callback(channels.close)
        disk = stack.enter_context(swap.disk(shape.swap_mib, run_dir)) if shape.swap_mib else None
        stderr = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        plain = contextlib.nullcontext((program.words, ()))
        with (
            confinement.reached(program) if parts.confined else plain as (words, lent),
            _files(parts, shape, channels, disk, memory, tape) as files,
        ):
            argv = qemu.command(words, shape, parts.accel, files)
            child = stack.enter_context(
                process.running(
                    process.spawn(
                        argv,
                        stdout=stderr,
                        stderr=stderr,
                        pass_fds=(*files.descriptors(), *lent),
                        wrap=confinement.tied if parts.confined else process.tied,
                    )
                )
            )
        blocking = stack.enter_context(channels.blocking()) if tape else contextlib.ExitStack()
        channels.started()
        news = threading.Event()
        said = memory.console if memory else b""
        console = Console(channels.console.ours, run_dir / "console.log", on_line, news.set, before=said)
        stack.callback(console.close)
        agent = Agent(channels.agent.ours, news.set, memory.hello if memory else None)
        stack.callback(agent.close)

        def hear(event: Event) -> None:
            if event.name == "VSERPORT_CHANGE" and event.data == {"id": qemu.SSH_DEVICE, "open": False}:
                machine.session_ended()
            if event.name == "GUEST_PANICKED":
                machine.told_panic = True
            # A guest on tape is told of the error, and its kernel would be blamed for it.
            if event.name == "BLOCK_IO_ERROR":
                machine.fail(_broken_disk(event, run_dir))
            if event.name == "WATCHDOG":
                machine.watchdog_s = time.monotonic()
            if event.name == "SHUTDOWN" and event.data.get("guest"):
                machine.guest_ended(str(event.data.get("reason", "no reason")))
            on_event(event)

        pauses = stack.enter_context(watched(child.pid))
        monitor = Monitor(channels.monitor.ours, hear)
        stack.callback(monitor.close)
        limit_s = scaled(SSH_LIMIT_S, parts.scale)
        machine = Machine(child, argv, channels, stderr, console, agent, monitor, pauses, limit_s)
        machine.taped = tape is not None
        stack.callback(machine.hang_up)
        # Before the guest opens its ports: an event between our first command and
        # QEMU's answer would be taken for the answer (qemu.qmp 0.0.6, _negotiate).
        try:
            monitor.connect(scaled(10.0, parts.scale))
            blocking.close()
        except MachineError:
            _look_for_end(machine, deadline)
            raise
        try:
            yield machine, news
        finally:
            if machine.state().condition is not Condition.EXITED:
                monitor.quit()
            if tape is not None:
                # The tape's header is the last thing that QEMU writes.
                machine.wait(scaled(_TAPE_LIMIT_S, parts.scale))


@contextlib.contextmanager
def _files(
    parts: Parts,
    shape: MachineShape,
    channels: Channels,
    disk: IO[bytes] | None,
    memory: Memory | None,
    tape: qemu.Tape | None,
) -> Iterator[qemu.Files]:
    """What a machine is started with. Its files are open until it has started, and QEMU knows them by descriptor."""
    files = qemu.Files(
        kernel=parts.kernel,
        initrd=parts.image.path,
        console=channels.console.theirs.fileno(),
        terminal=channels.terminal.theirs.fileno(),
        agent=channels.agent.theirs.fileno(),
        ssh=channels.ssh.theirs.fileno(),
        monitor=channels.monitor.theirs.fileno(),
        swap=disk.fileno() if disk is not None else -1,
        tsc_khz=tsc_khz(parts.image.init) if tape is None else 0,
        memory=memory.path if memory else None,
        clone=memory is not None and memory.hello is not None,
        tape=tape,
    )
    if not parts.confined:
        yield files
        return
    with contextlib.ExitStack() as stack:
        lent: list[int] = []

        def opened(file: contextlib.AbstractContextManager[int]) -> Path:
            lent.append(stack.enter_context(file))
            return confinement.name(lent[-1])

        ram_bytes = None if files.clone else shape.memory_mib << 20
        yield dataclasses.replace(
            files,
            kernel=opened(confinement.lent(parts.kernel)),
            initrd=opened(confinement.lent(parts.image.path)),
            memory=opened(confinement.given(memory.path, ram_bytes)) if memory else None,
            tape=dataclasses.replace(
                tape, path=opened(confinement.given(tape.path)), answers=opened(confinement.given(tape.answers))
            )
            if tape
            else None,
            lent=tuple(lent),
        )


def _broken_disk(event: Event, folder: Path) -> MachineError:
    """What an error of a guest's disk, which is a file of ours in a folder, means."""
    if event.data.get("nospace"):
        return workspace.no_space(folder)
    said = f"{event.data.get('operation', 'access')}: {event.data.get('reason', 'no reason')}"
    return MachineError(f"{folder}: the guest's swap disk there failed: {said}")


@functools.cache
def tsc_khz(init: Path) -> int:
    """The rate of this host's time stamp counter; 0 when it is not known."""
    done = process.run([init, "tsc"], timeout_s=10)
    return int(done.stdout) if done.status == 0 and done.stdout.strip().isdigit() else 0


def _await_hello(machine: Machine, news: threading.Event, deadline: Deadline) -> None:
    """Wait until PID 1 speaks, or say why it will not."""
    while True:
        if machine.agent.hello is not None:
            return
        news.wait(deadline.remaining_s)
        news.clear()
        if machine.agent.lost is not None:
            _look_for_end(machine, deadline)
            raise GuestLost(machine.agent.lost)
        if machine.console.panic:
            # What the panic prints after its first line is what a reader wants.
            machine.console.settle(_LAST_LOOK_S)
            raise _failed("panic", machine, f"the kernel panicked at boot: {machine.console.panic}", deadline)
        if deadline.expired:
            host = starved(Share(), share(machine.pid)) or machine.pauses.told()
            if host:
                raise GuestLost(f"the kernel did not reach PID 1 after {deadline}, but {host}")
            oops = f"; the log has {machine.console.oops}" if machine.console.oops else ""
            raise _failed("silent", machine, f"the kernel did not reach PID 1 after {deadline}{oops}", deadline)


def _look_for_end(machine: Machine, deadline: Deadline) -> None:
    """Return if QEMU still runs; otherwise find out what is to blame for its end, and raise."""
    machine.mind_the_host()
    status = machine.wait(2.0)
    if status is None:
        return
    machine.console.settle(5.0)
    if machine.console.panic:
        raise _failed("panic", machine, f"the kernel panicked at boot: {machine.console.panic}", deadline)
    if status:
        error = _Crashed if status == -signal.SIGSEGV else LaunchError
        raise error(f"QEMU ended with status {status}{machine.complaint()}", shlex.join(machine.argv))
    raise _failed("exited", machine, "the machine was reset before the kernel reached PID 1", deadline)


def _failed(reason: str, machine: Machine, message: str, deadline: Deadline) -> BootFailed:
    return BootFailed(reason, message, machine.console.tail(), deadline.elapsed_s)
