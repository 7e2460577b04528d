# SPDX-License-Identifier: GPL-2.0-only
"""Whether the host kept a process from running: then its silence says nothing about what runs inside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Below this share of the time that its threads wanted to run, a guest is starved. Two guests of two CPUs on
# two cores get 0.5; four harnesses side by side, 0.12.
_SHARE = 0.2
# A shorter wait than this explains no hang.
_LEAST_S = 2.0
# Seconds between two checks whether a process is stopped.
_TICK_S = 0.25


@dataclass(frozen=True)
class Share:
    """What all threads of a process got so far: seconds on a CPU, seconds ready to run but waiting for one.

    stopped, blocked: whether a thread is stopped, or waits for the host's disk (D), at this moment.
    """

    ran_s: float = 0.0
    waited_s: float = 0.0
    stopped: bool = False
    blocked: bool = False


def share(pid: int) -> Share:
    """The share of a process; zeros where the host's kernel does not count it, or the process is gone.

    /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst):
    nanoseconds on a CPU, and on a run queue.
    """
    ran = waited = 0
    states = ""
    for task in _tasks(pid):
        with contextlib.suppress(OSError, ValueError):
            on_cpu, on_queue, _ = (task / "schedstat").read_text(encoding="ascii").split()
            ran += int(on_cpu)
            waited += int(on_queue)
        states += _state(task)
    return Share(ran / 1e9, waited / 1e9, _is_stopped(states), "D" in states)


def starved(before: Share, after: Share) -> str:
    """How the host starved a process between two looks, as a sentence; empty when it did not."""
    if after.stopped:
        return "the host has stopped QEMU (SIGSTOP)"
    ran_s, waited_s = after.ran_s - before.ran_s, after.waited_s - before.waited_s
    if waited_s < _LEAST_S or ran_s >= _SHARE * (ran_s + waited_s):
        return ""
    got = 100 * ran_s / (ran_s + waited_s)
    return (
        f"the host gave QEMU {got:.0f} % of the CPU time that it wanted (limit {_SHARE:.0%}): "
        f"{ran_s:.1f} s on a CPU, {waited_s:.1f} s waiting for one"
    )


@dataclass
class Pauses:
    """How long a process and its watcher were stopped, in seconds."""

    process_s: float = 0.0
    watcher_s: float = 0.0

    def told(self) -> str:
        """The pauses that were too long to blame anybody for a missed deadline; empty when there were none."""
        reasons = [
            f"QEMU was stopped for {self.process_s:.1f} s (SIGSTOP)" if self.process_s > _LEAST_S else "",
            f"the harness itself did not run for {self.watcher_s:.1f} s (Ctrl-Z, or all of the host stood still)"
            if self.watcher_s > _LEAST_S
            else "",
        ]
        return "; ".join(filter(None, reasons))


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Pauses]:
    """Pauses, as a thread sees them: a process that was stopped and runs again shows no trace of the stop.

    A check that comes late shows that we did not run. Only pauses that ended or were seen are counted.
    """
    pauses, over = Pauses(), threading.Event()

    def watch() -> None:
        last_s = time.monotonic()
        while not over.wait(_TICK_S):
            now_s = time.monotonic()
            if now_s - last_s > _LEAST_S:
                pauses.watcher_s += now_s - last_s
            elif _is_stopped(_state(Path(f"/proc/{pid}"))):
                pauses.process_s += now_s - last_s
            last_s = now_s

    thread = threading.Thread(target=watch, name="pauses", daemon=True)
    thread.start()
    try:
        yield pauses
    finally:
        over.set()
        thread.join()


def _state(task: Path) -> str:
    """The state of a process or a thread, a letter of proc_pid_stat(5); empty when it is gone."""
    try:
        return (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _is_stopped(states: str) -> bool:
    """Whether one of several states is that of a stop, by a signal or by a debugger."""
    return bool(set(states) & set("Tt"))


def _tasks(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()
