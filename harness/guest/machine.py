# SPDX-License-Identifier: GPL-2.0-only
"""A machine that answers: commands, files, console, state. harness/guest/boot.py makes one."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
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
_STDERR_KEPT_BYTES = 4096


class Condition(StrEnum):
    """What became of a machine."""

    RUNNING = "running"
    PANICKED = "panicked"
    RESET = "reset"
    EXITED = "exited"
    SILENT = "silent"


@dataclass(frozen=True)
class MachineState:
    """A machine's condition and the evidence for it, as a sentence."""

    condition: Condition
    evidence: str = ""
    exit_status: int | None = None


@dataclass(frozen=True)
class Pulse:
    """PID 1 answered or not; busy: CPUs of the host that QEMU wanted meanwhile. One vCPU that spins wants one."""

    answers: bool
    busy: float

    @property
    def spins(self) -> bool:
        """No answer, and a CPU that never rests. A guest that is idle wants 0.05."""
        return not self.answers and self.busy > 0.5


@dataclass(frozen=True)
class Watchdogs:
    """When the guest's kernel itself calls a hang one, in seconds: each before the next, all before the harness."""

    softlockup_s: int
    rcu_stall_s: int
    hung_task_s: int
    workqueue_s: int

    @classmethod
    def within(cls, limit_s: float) -> Watchdogs:
        """Limits that a scenario of `limit_s` seconds can still see fire."""
        # A soft lockup is told after twice watchdog_thresh, so it is even; 1 s is the least the kernel takes.
        return cls(
            softlockup_s=2 * max(1, min(10, int(limit_s * 0.05))),
            rcu_stall_s=max(3, int(limit_s * 0.2)),
            # khungtaskd looks once in this time, so it speaks after one to two of it.
            hung_task_s=max(4, int(limit_s * 0.25)),
            workqueue_s=max(5, int(limit_s * 0.3)),
        )


# PID 1 feeds QEMU's watchdog with every heartbeat; so long without, and it goes off (guest-modules/init/watchdog.c).
WATCHDOG_S = 10.0
# A second between two heartbeats, and one for QEMU's event to come.
_WATCHDOG_SLACK_S = 2.0
_LOOK_S = 0.1


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
        # For how long QEMU or the harness did not run since the machine began.
        self.pauses = pauses
        self._ssh_limit_s = ssh_limit_s
        self._shell: Shell | None = None
        self._ssh_ends = 0
        # Seconds until it answered, and whether it booted for that or was cloned.
        self.ready_s = 0.0
        self.cloned = False
        # It is recorded, or the repetition of a recording.
        self.taped = False
        self._child = child
        self._channels = channels
        self._stderr = stderr
        self._terminal: Terminal | None = None
        # The guest's own word for a panic, by its pvpanic device: it needs no console.
        self.told_panic = False
        # When QEMU's watchdog last went off, by the host's monotonic clock.
        self.watchdog_s: float | None = None
        # QEMU's word for what the guest did to end itself ("guest-reset": a triple fault, too); empty before.
        self.told_end = ""
        self._last_look: Callable[[], object] | None = None
        self._began_s = time.monotonic()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._child.pid

    @property
    def hello(self) -> Mapping[str, str]:
        """What PID 1 said of itself: release, version, modules ("ok" or what failed), swap, timer."""
        return self.agent.hello or {}

    @property
    def boot_id(self) -> str:
        """A UUID that no other machine has; the kernel makes it when it is first asked."""
        return self.agent.read_file("/proc/sys/kernel/random/boot_id").decode("ascii").strip()

    @property
    def shell(self) -> Shell:
        """SSH. Its libraries take 0.1 s to import, 6 s in a host that is emulated itself: only for who asks."""
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
        """Let gdb in through a unix socket; the guest stops when it comes."""
        self.monitor.execute("human-monitor-command", command_line=f"gdbserver unix:{socket},server=on,wait=off")
        if not socket.exists():
            raise MachineError(f"{socket}: QEMU does not listen for gdb there: {self.stderr()}")

    def interact(self) -> None:
        """Hand the user's terminal over to the shell on hvc0, until Ctrl-] or the end of the machine."""
        size = shutil.get_terminal_size()
        self.run("stty", "-F", "/dev/hvc0", "rows", str(size.lines), "cols", str(size.columns))
        self.terminal.interact()

    def look_at_the_end(self, look: Callable[[], object]) -> None:
        """When the guest panics or resets, QEMU stops instead of ending, and ends after `look` returned.

        look is called from a thread of its own.
        """
        self._last_look = look
        self.monitor.execute("set-action", shutdown="pause")

    def look_no_more(self) -> None:
        """What look_at_the_end() was told is done with."""
        self._last_look = None

    def guest_ended(self, how: str) -> None:
        """QEMU told that the guest panicked or reset itself, in a word for how."""
        self.told_end = how

        def last() -> None:
            try:
                if self._last_look is not None:
                    self._last_look()
            finally:
                self.monitor.quit()

        threading.Thread(target=last, name="last-look", daemon=True).start()

    def set_watchdogs(self, watchdogs: Watchdogs) -> None:
        """Make the guest's kernel tell of hangs in time. A kernel without a detector has no file for it: skipped."""
        for path, seconds in (
            ("/proc/sys/kernel/watchdog_thresh", watchdogs.softlockup_s // 2),
            ("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", watchdogs.rcu_stall_s),
            ("/proc/sys/kernel/hung_task_timeout_secs", watchdogs.hung_task_s),
            ("/sys/module/workqueue/parameters/watchdog_thresh", watchdogs.workqueue_s),
            # For interrupt(); and every panic shows all CPUs (bit 6, since v5.18).
            ("/proc/sys/kernel/unknown_nmi_panic", 1),
            ("/proc/sys/kernel/panic_print", 1 << 6),
        ):
            # Kept: PID 1 writes it itself, which is 20 ms less than a process for it, under TCG.
            with contextlib.suppress(FileNotFoundError):
                self.agent.keep_file(path)
                self.agent.write_file(path, str(seconds))

    def pulse(self, timeout_s: float) -> Pulse:
        """Whether PID 1 answers, and how busy the guest's CPUs are while we wait for it."""
        before, deadline = share(self.pid), Deadline(timeout_s)
        answers = True
        try:
            self.agent.ping(timeout_s)
        except GuestTimeout:
            answers = False
        after = share(self.pid)
        # What a CPU of the host was wanted for counts, whether it came or not.
        wanted_s = after.ran_s + after.waited_s - before.ran_s - before.waited_s
        return Pulse(answers, wanted_s / max(deadline.elapsed_s, 1e-3))

    def signs(self) -> str:
        """What each way to hear of the guest last told, as a clause: none of them needs another."""
        beat = self.agent.beat
        heard = f"{time.monotonic() - beat.host_s:.1f} s ago" if beat else "never"
        off = "has not gone off" if self._fed else "is not fed"
        if self.watchdog_s is not None:
            off = f"went off {time.monotonic() - self.watchdog_s:.1f} s ago"
        silent_s = self.console.silent_s
        return (
            f"PID 1's heartbeat came {heard}, QEMU's watchdog {off}, "
            f"the console spoke {silent_s:.1f} s ago, QEMU says {self._status() or 'nothing'}"
        )

    def _status(self) -> str:
        """What QEMU says of the guest: running, paused, io-error, …; empty when it says nothing."""
        try:
            return str(self.monitor.execute("query-status")["status"])
        except MachineError:
            return ""

    @property
    def _fed(self) -> bool:
        """Whether QEMU's watchdog can tell anything. On a tape its seconds are instructions, and last for minutes."""
        return self.hello.get("watchdog") == "ok" and not self.taped

    def stands_still(self, patience_s: float) -> bool:
        """QEMU's watchdog went off, and PID 1 has not been heard since, for so long already."""
        heard_s = self.agent.beat.host_s if self.agent.beat else self._began_s
        off_s = self.watchdog_s
        return off_s is not None and off_s > heard_s and time.monotonic() - heard_s > patience_s

    def other_life(self, timeout_s: float) -> str:
        """What shows that PID 1 runs although nothing of it comes through the agent's channel, as a clause.

        Empty when nothing does. Takes up to timeout_s, and then as long as the
        watchdog needs to go off, by the clock of a guest that runs.
        """
        heard = self.agent.beat
        # A connection that is not in a recording could not be repeated.
        if self.taped or self.stands_still(0.0):
            return ""
        life = "it serves SSH" if self._knock(timeout_s) else "it feeds QEMU's watchdog" if self._fed else ""
        # Whoever did either sends a heartbeat, too, which comes where the channel works and the guest is only slow.
        deadline = Deadline(WATCHDOG_S + _WATCHDOG_SLACK_S)
        while life and not deadline.expired:
            if self.agent.beat is not heard or self.stands_still(0.0) or self._child.poll() is not None:
                return ""
            time.sleep(_LOOK_S)
        return life if self._status() == "running" else ""

    def _knock(self, timeout_s: float) -> bool:
        """Whether PID 1 takes a connection for SSH: dropbear greets, or is gone at once where it has no key yet."""
        deadline, ended = Deadline(timeout_s), self._ssh_ends
        with contextlib.suppress(OSError), contextlib.closing(self._channels.ssh.dial()) as connection:
            connection.settimeout(_LOOK_S)
            while not deadline.expired and self._ssh_ends == ended:
                with contextlib.suppress(TimeoutError):
                    return connection.recv(1) != b""
        return self._ssh_ends != ended

    def stopped_by_qemu(self) -> str:
        """Why QEMU stopped the guest for a trouble of its own or the host's; empty when it did not."""
        status = self._status()
        return f"QEMU stopped the guest: {status}{self.complaint()}" if status in ("io-error", "internal-error") else ""

    def interrupt(self, timeout_s: float) -> None:
        """Get all CPUs' backtraces from a guest that answers nothing, by an NMI; the guest ends with it.

        set_watchdogs() has made an NMI without a reason a panic; before, it is a line
        on the console. What the kernel says of it is in nmi.log beside console.log,
        whose evidence it is not. Raises MachineError for a machine that is recorded.
        """
        if self.taped:
            raise MachineError("QEMU has no NMI of ours in its recording, which could not be repeated with it")
        self.console.divert(self.console.log.with_name("nmi.log"))
        self.monitor.execute("inject-nmi")
        self.console.settle(timeout_s)

    def slowdown(self) -> float:
        """How many times slower than an ordinary machine this guest is, measured now; at least 1."""
        began = time.monotonic_ns()
        done = self.run("/init", "calibrate", timeout_s=120)
        spent_ns = time.monotonic_ns() - began
        try:
            # The clock of a guest that is recorded is a count of its instructions.
            return max(1.0, (spent_ns if self.taped else int(done.stdout)) / _REFERENCE_NS)
        except ValueError:
            raise GuestLost(f"calibrate: status {done.status}: {clean(done.stdout)[:80]!r}") from None

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
        # Behind a channel that broke there may be a heartbeat that nobody hears.
        if self.agent.lost is None and silent_s > silence_s:
            return MachineState(Condition.SILENT, f"no heartbeat of PID 1 for {silent_s:.1f} s (limit {silence_s:g} s)")
        return MachineState(Condition.RUNNING)

    def wait(self, timeout_s: float) -> int | None:
        """QEMU's exit status when it ends in time, None when it does not."""
        try:
            return self._child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stderr(self) -> str:
        """The last that QEMU complained about."""
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_KEPT_BYTES))
        return clean(self._stderr.read()).strip()

    def complaint(self) -> str:
        """The last line of it behind a colon; empty when there was none."""
        said = self.stderr().splitlines()
        return f": {said[-1]}" if said else ""
