# SPDX-License-Identifier: GPL-2.0-only
"""Recordings made by hand, event by event, for the tests of the oracles."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.model.event import (
    BLOCKABLE,
    FORMAT,
    HAS_END,
    HEADER,
    MAGIC,
    MAYFAIL,
    OWN_BUFFER,
    PF_MEMALLOC,
    RECLAIM_STATE,
    RECORD,
    Event,
    Kind,
    RangeEvent,
    parse,
)
from harness.model.recording import Answer, Ended, Recording
from harness.model.scenario import Expected, Scenario
from harness.model.shape import MachineShape

MM = 0xFFFF888000001000
TASK = 0xFFFF888000002000
RANGE = 0xFFFFC90000003000
BANNER = "[    0.000000][    T0] Linux version 6.12.117 (harness) #1 SMP"


class Log:
    """Builds events one after the other; each gets the next sequence number."""

    def __init__(self) -> None:
        self._seq = itertools.count(1)
        self.events: list[Event] = []

    def stamp(self) -> int:
        """The next number in the order of everything."""
        return next(self._seq)

    def add(self, kind: Kind, **fields: Any) -> Event:
        """One event; by default a MAYFAIL range in memcg direct reclaim for the subscriber's own page."""
        seq = self.stamp()
        values: dict[str, Any] = {
            "seq": seq,
            "seq_exit": seq,
            "time_ns": seq * 1000,
            "duration_ns": 500,
            "task": TASK,
            "mm": MM,
            "current_mm": MM,
            "range": RANGE,
            "start": 0x7F0000000000,
            "end": 0x7F0000001000,
            "flags": BLOCKABLE | MAYFAIL,
            "pf_flags": PF_MEMALLOC,
            "result": 0,
            "pid": 100,
            "tgid": 100,
            "subscriber": 1,
            "kind": int(kind),
            "event": int(RangeEvent.CLEAR),
            "context": RECLAIM_STATE | OWN_BUFFER | HAS_END,
            "policy": 0,
            "cpu": 0,
        }
        event = Event(**(values | fields))
        self.events.append(event)
        return event

    def start(self, **fields: Any) -> Event:
        """An invalidate_range_start."""
        return self.add(Kind.START, **fields)

    def end(self, **fields: Any) -> Event:
        """An invalidate_range_end."""
        return self.add(Kind.END, **fields)

    def pair(self, **fields: Any) -> None:
        """A start and its end."""
        self.start(**fields)
        self.end(**(fields | {"result": 0}))

    def packed(self, lost: int = 0) -> bytes:
        """The log as the module hands it out."""
        head = HEADER.pack(MAGIC, FORMAT, RECORD.size, 1, len(self.events), lost, 1 << 17)
        return head + b"".join(RECORD.pack(*event) for event in self.events)


# A call from munmap: no reclaim, no MAYFAIL.
MUNMAP = {
    "flags": BLOCKABLE,
    "pf_flags": 0,
    "event": int(RangeEvent.UNMAP),
    "context": OWN_BUFFER | HAS_END,
}


def scenario(
    exercised: Mapping[str, int] | None = None, expected: Iterable[tuple[str, str]] = (), name: str = "sample"
) -> Scenario:
    """A scenario that asks only for what is given."""
    return Scenario(
        name=name,
        path=Path(f"{name}.yaml"),
        summary="a sample",
        default=True,
        shape=MachineShape(),
        cgroup={},
        buffers={},
        subscribers={},
        steps=(),
        exercised=dict(exercised or {}),
        expected=tuple(Expected(*entry) for entry in expected),
    )


def recording(
    log: Log | None = None,
    console: Iterable[str] = (),
    *,
    ended: Ended = Ended.COMPLETE,
    answers: Iterable[Answer] = (),
    lost: int = 0,
    module: Mapping[str, int] | None = None,
    before: Mapping[str, int] | None = None,
    after: Mapping[str, int] | None = None,
    slowdown: float = 1.0,
    plan: Scenario | None = None,
    banner: str = BANNER,
) -> Recording:
    """A recording of a scenario that ran, with a boot banner on its console."""
    name = (plan or scenario()).name
    return Recording(
        scenario=plan or scenario(),
        ended=ended,
        detail="",
        seconds=1.0,
        answers=tuple(answers),
        before=dict(before or {}),
        after=dict(after or {}),
        module=dict(module or {}),
        events=parse((log or Log()).packed(lost)),
        slowdown=slowdown,
        console="\n".join([banner, f"drive: mark begin:{name}", *console, f"drive: mark end:{name}"]).encode(),
    )


def complaint(
    errno: int = -11, site: str = "mm/mmu_notifier.c:489", function: str = "__mmu_notifier_invalidate_range_start"
) -> list[str]:
    """What the kernel writes when an answer is not tolerated."""
    return [
        (
            f"[    2.1][  T100] mmu_notifier: nh_start+0x0/0x40 [notifier_hold] callback failed with {errno} "
            "in blockable context."
        ),
        "[    2.1][  T100] ------------[ cut here ]------------",
        f"[    2.1][  T100] WARNING: CPU: 0 PID: 100 at {site} {function}+0x1c5/0x210",
        "[    2.1][  T100] Call Trace:",
        "[    2.1][  T100] ---[ end trace 0000000000000000 ]---",
    ]
