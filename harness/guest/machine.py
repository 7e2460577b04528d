# SPDX-License-Identifier: GPL-2.0-only
"""A machine that answers: commands, files, console, state. harness/guest/boot.py makes one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.guest.agent import Agent, GuestResult, GuestTimeout
from harness.guest.channels import Channels
from harness.guest.console import Console, Terminal, clean
from harness.guest.monitor import Monitor
from harness.host.clock import Deadline
from harness.host.starvation import Pauses, share
from harness.model.errors import GuestLost, MachineError

if TYPE_CHECKING:
    from harness.guest.keys import KeyPair
    from harness.guest.shell import Shell

# PID 1 sends a heartbeat a second.
_SILENCE_S = 5.0
# What calibrate.c takes on an ordinary machine with KVM, in nanoseconds (3 GHz x86-64 of the 2020s).
_REFERENCE_NS = 4_500_000
# Every limit is multiplied by the slow-down, so there is an end to it.
_SLOWEST = 1000
_STDERR_KEPT_BYTES = 4096
# What QEMU says of a guest that runs, or that stopped by itself; empty when QEMU does not answer.
_GUESTS_OWN = ("", "running", "suspended", "guest-panicked", "shutdown")


class Condition(StrEnum):
    """What became of a machine."""

    RUNNING = "running"
    PANICKED = "panicked"
    RESET = "reset"
    EXITED = "exited"
    SILENT = "silent"


@dataclass(frozen=True)
class Pace:
    """How fast a guest is. slowdown: how many times slower than an ordinary machine, at least 1.

    loop_ms: what a loop of arithmetic took in it, to which the kernel adds nothing: how fast its host is.
    """

    slowdown: float
    loop_ms: float = 0.0


@dataclass(frozen=True)
class MachineState:
    """A machine's condition and the evidence for it, as a sentence."""

    condition: Condition
    evidence: str = ""
    exit_status: int | None = None


@dataclass(frozen=True)
class Pulse:
    """Whether PID 1 answered; busy: how many host CPUs QEMU wanted meanwhile. A vCPU that spins wants one."""

    answers: bool
    busy: float

    @property
    def spins(self) -> bool:
        """No answer, and a vCPU that never rests. An idle guest wants 0.05 of a CPU."""
        return not self.answers and self.busy > 0.5


@dataclass(frozen=True)
class Watchdogs:
    """Seconds after which the guest's own kernel reports a hang: each before the next, all before the harness."""

    softlockup_s: int
    rcu_stall_s: int
    hung_task_s: int
    workqueue_s: int

    @classmethod
    def within(cls, limit_s: float) -> Watchdogs:
        """Limits that still fire within a scenario of `limit_s` seconds.

        In steps of 5 s from 10 s on, so that a clone of a host that is a little slower finds them set.
        """

        def whole(seconds: float) -> int:
            return int(seconds) if seconds < 10 else int(seconds) // 5 * 5

        # A soft lockup is reported after twice watchdog_thresh, so this is even; 1 s is the least the kernel takes.
        return cls(
            softlockup_s=2 * max(1, min(10, int(limit_s * 0.05))),
            rcu_stall_s=max(3, whole(limit_s * 0.15)),
            hung_task_s=max(4, whole(limit_s * 0.2)),
            workqueue_s=max(5, whole(limit_s * 0.3)),
        )


# PID 1 feeds QEMU's watchdog with every heartbeat; unfed for this long, it goes off (guest-modules/init/watchdog.c).
WATCHDOG_S = 10.0
# A second between two heartbeats, and another for QEMU's event to arrive.
_WATCHDOG_SLACK_S = 2.0
_LOOK_S = 0.1
# How long a guest may take to change the size of its terminal; the user waits.
_FIT_LIMIT_S = 5.0


class Machine:
    """A running guest. boot() makes one; everything here is usable until its block ends."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        argv: list[str],
        channels: Channels,
        stderr: IO[bytes],
        console: Console,
        agent: Agent,
        monitor: Monitor,
        pauses: Pauses,
        ssh_limit_s: float,
    ) -> None:
        self.argv = argv
        self.console = console
        self.agent = agent
        self.monitor = monitor
        # How long QEMU or the harness did not run since the machine began.
        self.pauses = pauses
        self._ssh_limit_s = ssh_limit_s
        self._shell: Shell | None = None
        self._ssh_ends = 0
        # Seconds until the machine answered, and whether it was cloned rather than booted.
        self.ready_s = 0.0
        self.cloned = False
        # Whether the machine is recorded, or replays a recording.
        self.taped = False
        self._child = child
        self._channels = channels
        self._stderr = stderr
        self._terminal: Terminal | None = None
        # Whether the guest reported a panic through its pvpanic device, which needs no console.
        self.told_panic = False
        # When QEMU's watchdog last went off, by the host's monotonic clock.
        self.watchdog_s: float | None = None
        # QEMU's word for how the guest ended itself ("guest-reset": also a triple fault); empty before.
        self.told_end = ""
        self._last_look: Callable[[], object] | None = None
        # See guest/ready.py: the files that PID 1 holds open, and what those of the kernel hold.
        self.kept: set[str] = set()
        self.settings: dict[str, str] = {}
        self._began_s = time.monotonic()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._child.pid

    @property
    def hello(self) -> Mapping[str, str]:
        """What PID 1 said about itself: release, version, modules ("ok" or what failed), swap, timer."""
        return self.agent.hello or {}

    @property
    def boot_id(self) -> str:
        """A UUID that no other machine has; the kernel makes it at the first read."""
        return self.agent.read_file("/proc/sys/kernel/random/boot_id").decode("ascii", "backslashreplace").strip()

    @property
    def shell(self) -> Shell:
        """SSH. Its libraries take 0.1 s to import, 6 s on an emulated host: imported only when used."""
        if self._shell is None:
            from harness.guest.shell import Shell

            self._shell = Shell(self._channels.ssh.dial, self._install_keys, self._ssh_limit_s)
        return self._shell

    def _install_keys(self, client: KeyPair, server: KeyPair) -> None:
        self.agent.write_file("/etc/dropbear/host_key", server.dropbear)
        self.agent.write_file("/root/.ssh/authorized_keys", client.public + "\n")

    def session_ended(self) -> None:
        """PID 1 closed its end of the ssh channel: dropbear ended."""
        self._ssh_ends += 1
        if self._shell is not None:
            self._shell.ended()

    def hang_up(self) -> None:
        """End the SSH session."""
        if self._shell is not None:
            self._shell.close()

    @property
    def terminal(self) -> Terminal:
        """The interactive shell on hvc0."""
        if self._terminal is None:
            self._terminal = Terminal(self._channels.terminal.ours)
        return self._terminal

    def run(self, *argv: str, timeout_s: float = 30.0, stdin: bytes = b"") -> GuestResult:
        """Run a command through the agent."""
        return self.agent.run(argv, timeout_s, stdin)

    def serve_gdb(self, socket: Path) -> None:
        """Let gdb connect through a unix socket; the guest stops when gdb connects."""
        self.monitor.execute("human-monitor-command", command_line=f"gdbserver unix:{socket},server=on,wait=off")
        if not socket.exists():
            raise MachineError(f"{socket}: QEMU does not listen for gdb there: {self.stderr()}")

    def interact(self) -> None:
        """Hand the user's terminal over to the shell on hvc0, until Ctrl-], its `exit` or the end of the machine."""
        self._fit()
        self.terminal.interact(self._fit)
        self.mind_the_host()

    def _fit(self) -> None:
        """Give the guest's terminal the size of the user's. One that hangs keeps the size that it has."""
        try:
            size = os.get_terminal_size(sys.stdin.fileno())
        except (OSError, ValueError):
            size = shutil.get_terminal_size()
        with contextlib.suppress(GuestTimeout):
            words = ("rows", str(size.lines), "cols", str(size.columns))
            self.run("stty", "-F", "/dev/hvc0", *words, timeout_s=_FIT_LIMIT_S)

    def fail(self, trouble: MachineError) -> None:
        """End the machine at once, because the host cannot go on with it; whoever waits for the guest gets the error.

        From any thread, the monitor's too.
        """
        self.agent.lose(trouble)
        self._child.kill()

    def mind_the_host(self) -> None:
        """Raise the error for which the machine was ended, if it was."""
        if self.agent.trouble is not None:
            raise self.agent.trouble

    def look_at_the_end(self, look: Callable[[], object]) -> None:
        """When the guest panics or resets, QEMU pauses instead of ending, and ends after `look` has returned.

        look is called from a thread of its own.
        """
        self._last_look = look
        self.monitor.execute("set-action", shutdown="pause")

    def look_no_more(self) -> None:
        """Drop the callback that look_at_the_end() was given."""
        self._last_look = None

    def guest_ended(self, how: str) -> None:
        """Take note that QEMU reported a panic or a reset of the guest; `how` is QEMU's word for it."""
        self.told_end = how

        def last() -> None:
            try:
                if self._last_look is not None:
                    self._last_look()
            finally:
                self.monitor.quit()

        threading.Thread(target=last, name="last-look", daemon=True).start()

    def set_watchdogs(self, watchdogs: Watchdogs) -> None:
        """Make the guest's kernel report hangs in time. A detector that the kernel lacks has no file and is skipped."""
        for path, seconds in (
            ("/proc/sys/kernel/watchdog_thresh", watchdogs.softlockup_s // 2),
            ("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", watchdogs.rcu_stall_s),
            # khungtaskd looks once in its limit, and would report after one to two times as long; now each second.
            ("/proc/sys/kernel/hung_task_check_interval_secs", 1),
            ("/proc/sys/kernel/hung_task_timeout_secs", watchdogs.hung_task_s),
            ("/sys/module/workqueue/parameters/watchdog_thresh", watchdogs.workqueue_s),
            # For interrupt(); and every panic shows all CPUs (bit 6, since v5.18).
            ("/proc/sys/kernel/unknown_nmi_panic", 1),
            ("/proc/sys/kernel/panic_print", 1 << 6),
        ):
            if self.settings.get(path) == str(seconds):
                continue
            # Kept: PID 1 writes the file itself, which saves 20 ms against a process for it, under TCG.
            with contextlib.suppress(FileNotFoundError):
                self.keep(path)
                self.agent.write_file(path, str(seconds))
                self.settings[path] = str(seconds)

    def keep(self, path: str) -> None:
        """Have PID 1 open a file, once: what Agent.keep_file() says."""
        if path not in self.kept:
            self.agent.keep_file(path)
            self.kept.add(path)

    def was_made(self, kept: Iterable[str], settings: Mapping[str, str]) -> None:
        """Take over what the guest had done before it was frozen: what a Ready of guest/ready.py holds."""
        self.kept = set(kept)
        self.settings = dict(settings)

    def pulse(self, timeout_s: float) -> Pulse:
        """Whether PID 1 answers, and how busy the guest's CPUs are while we wait for it."""
        before, deadline = share(self.pid), Deadline(timeout_s)
        answers = True
        try:
            self.agent.ping(timeout_s)
        except GuestTimeout:
            answers = False
        after = share(self.pid)
        # The time for which QEMU wanted a CPU of the host counts, whether it got one or not.
        wanted_s = after.ran_s + after.waited_s - before.ran_s - before.waited_s
        return Pulse(answers, wanted_s / max(deadline.elapsed_s, 1e-3))

    def signs(self) -> str:
        """What each source last said about the guest, as a clause; no source depends on another."""
        beat = self.agent.beat
        heard = f"{time.monotonic() - beat.host_s:.1f} s ago" if beat else "never"
        off = "has not gone off" if self._fed else "is not fed"
        if self.watchdog_s is not None:
            off = f"went off {time.monotonic() - self.watchdog_s:.1f} s ago"
        silent_s = self.console.silent_s
        return (
            f"PID 1's heartbeat came {heard}, QEMU's watchdog {off}, "
            f"the console last printed {silent_s:.1f} s ago, QEMU says {self._status() or 'nothing'}"
        )

    def _status(self) -> str:
        """What QEMU says about the guest: running, paused, io-error, …; empty when it says nothing."""
        # The host has stopped QEMU: nobody need wait for what cannot come.
        if share(self.pid).stopped:
            return ""
        try:
            return str(self.monitor.execute("query-status")["status"])
        except MachineError:
            return ""

    @property
    def _fed(self) -> bool:
        """Whether QEMU's watchdog can tell anything. On a tape its seconds are instructions, and last for minutes."""
        return self.hello.get("watchdog") == "ok" and not self.taped

    def stands_still(self, patience_s: float) -> bool:
        """Whether QEMU's watchdog went off, and PID 1 has been silent since and for longer than `patience_s`."""
        heard_s = self.agent.beat.host_s if self.agent.beat else self._began_s
        off_s = self.watchdog_s
        return off_s is not None and off_s > heard_s and time.monotonic() - heard_s > patience_s

    def other_life(self, timeout_s: float) -> str:
        """What shows, as a clause, that PID 1 runs although nothing from it comes through the agent's channel.

        Empty when nothing does. Takes up to timeout_s, and then as long as the
        watchdog needs to go off, by the clock of a guest that runs.
        """
        heard = self.agent.beat
        # A connection that is not in the recording could not be replayed.
        if self.taped or self.stands_still(0.0):
            return ""
        life = "it serves SSH" if self._knock(timeout_s) else "it feeds QEMU's watchdog" if self._fed else ""
        # A PID 1 that does either also sends heartbeats, which arrive if the channel works and the guest is only slow.
        deadline = Deadline(WATCHDOG_S + _WATCHDOG_SLACK_S)
        while life and not deadline.expired:
            if self.agent.beat is not heard or self.stands_still(0.0) or self._child.poll() is not None:
                return ""
            time.sleep(_LOOK_S)
        return life if self._status() == "running" else ""

    def _knock(self, timeout_s: float) -> bool:
        """Whether PID 1 accepts an SSH connection: dropbear greets, or ends at once where it has no key yet."""
        deadline, ended = Deadline(timeout_s), self._ssh_ends
        with contextlib.suppress(OSError), contextlib.closing(self._channels.ssh.dial()) as connection:
            connection.settimeout(_LOOK_S)
            while not deadline.expired and self._ssh_ends == ended:
                with contextlib.suppress(TimeoutError):
                    return connection.recv(1) != b""
        return self._ssh_ends != ended

    def stopped_by_qemu(self) -> str:
        """Why QEMU does not run a guest that did not end itself, such as internal-error; empty when it runs it."""
        status = self._status()
        return "" if status in _GUESTS_OWN else f"QEMU stopped the guest: {status}{self.complaint()}"

    def interrupt(self, timeout_s: float) -> None:
        """Get all CPUs' backtraces from a guest that does not answer, by an NMI, which ends the guest.

        After set_watchdogs() an NMI without a reason is a panic; before, it is a line
        on the console. What the kernel prints then is in nmi.log beside console.log,
        because it is not evidence. Raises MachineError for a machine that is recorded.
        """
        if self.taped:
            raise MachineError("QEMU does not record an NMI from the harness, so the recording could not be replayed")
        self.console.divert(self.console.log.with_name("nmi.log"))
        self.monitor.execute("inject-nmi")
        self.console.settle(timeout_s)

    def pace(self) -> Pace:
        """How fast this guest is, measured now."""
        began = time.monotonic_ns()
        try:
            done = self.run("/init", "calibrate", timeout_s=120)
        except OSError as fault:
            raise GuestLost(f"the guest did not do what each guest of ours does: {fault}") from fault
        spent_ns = time.monotonic_ns() - began
        try:
            # No guest worked longer than we waited; but the clock of one that is recorded counts its instructions, and
            # its limits, which are by that clock as well as by ours, must hold by the faster one.
            told_ns, loop_ns = map(int, done.stdout.split())
            worked_ns = (max if self.taped else min)(told_ns, spent_ns)
        except ValueError:
            raise GuestLost(f"calibrate: status {done.status}: {clean(done.stdout)[:80]!r}") from None
        slowdown = max(1.0, worked_ns / _REFERENCE_NS)
        if slowdown > _SLOWEST:
            raise GuestLost(
                f"the guest is {slowdown:.0f} times slower than on an ordinary machine (limit {_SLOWEST})",
                "run it when the host does less",
            )
        return Pace(slowdown, max(0, loop_ns) / 1e6)

    def state(self, silence_s: float = _SILENCE_S) -> MachineState:
        """What became of the machine: the kernel's own words first, then QEMU's, then the silence."""
        # A QEMU that closed the channel is about to end; once it is gone, its last bytes may still be on their way.
        if self.agent.lost is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=2.0)
        status = self._child.poll()
        if status is not None:
            self.console.settle(2.0)
        if self.console.panic:
            return MachineState(Condition.PANICKED, self.console.panic, status)
        if self.told_panic:
            return MachineState(Condition.PANICKED, "the guest told QEMU that it panicked (pvpanic)", status)
        if self.told_end:
            return MachineState(
                Condition.RESET, f"the guest ended itself without a word (QEMU: {self.told_end})", status
            )
        if status is not None:
            return MachineState(Condition.EXITED, f"QEMU ended with status {status}{self.complaint()}", status)
        beat = self.agent.beat
        silent_s = time.monotonic() - (beat.host_s if beat else self._began_s)
        # A guest whose channel broke may still send heartbeats that nobody hears.
        if self.agent.lost is None and silent_s > silence_s:
            return MachineState(
                Condition.SILENT, f"no heartbeat from PID 1 for {silent_s:.1f} s (limit {silence_s:g} s)"
            )
        return MachineState(Condition.RUNNING)

    def wait(self, timeout_s: float) -> int | None:
        """QEMU's exit status when it ends in time, None when it does not."""
        try:
            return self._child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stderr(self) -> str:
        """The last part of what QEMU wrote to standard error."""
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_KEPT_BYTES))
        return clean(self._stderr.read()).strip()

    def complaint(self) -> str:
        """The last line of stderr() after a colon; empty when there is none."""
        said = self.stderr().splitlines()
        return f": {said[-1]}" if said else ""
