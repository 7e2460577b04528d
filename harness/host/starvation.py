# SPDX-License-Identifier: GPL-2.0-only
"""Whether the host kept a process from running: then its silence says nothing about what runs inside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Below this share of the time that its threads wanted to run, a guest is starved. Two guests of two CPUs on
# two cores get 0.5; four harnesses side by side, 0.12.
_SHARE = 0.2
# Less waiting than this explains no hang.
_LEAST_S = 2.0


@dataclass(frozen=True)
class Share:
    """What all threads of a process got so far: seconds on a CPU, seconds ready to run but waiting for one."""

    ran_s: float = 0.0
    waited_s: float = 0.0
    stopped: bool = False


def share(pid: int) -> Share:
    """The share of a process; zeros where the host's kernel does not count it, or the process is gone.

    /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst):
    nanoseconds on a CPU, and on a run queue.
    """
    ran = waited = 0
    stopped = False
    for task in _tasks(pid):
        with contextlib.suppress(OSError, ValueError):
            on_cpu, on_queue, _ = (task / "schedstat").read_text(encoding="ascii").split()
            ran += int(on_cpu)
            waited += int(on_queue)
        with contextlib.suppress(OSError, IndexError):
            stopped = stopped or (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "Tt"
    return Share(ran / 1e9, waited / 1e9, stopped)


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


def _tasks(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()
