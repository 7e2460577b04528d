# SPDX-License-Identifier: GPL-2.0-only
"""The event log of guest-modules/notifier_hold: its binary records, read on the host.

Mirrors struct nh_event in notifier_hold_uapi.h, ABI 2, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from harness.model.errors import MachineError

ABI = 2
MAGIC = 0x474C484E
HEADER = struct.Struct("<IIIIQQQ")
RECORD = struct.Struct("<10QIIiIIIBBBBI")

BLOCKABLE = 1 << 0  # MMU_NOTIFIER_RANGE_BLOCKABLE, include/linux/mmu_notifier.h
MAYFAIL = 1 << 1  # MMU_NOTIFIER_RANGE_MAYFAIL, the patch
PF_MEMALLOC = 0x0000_0800  # include/linux/sched.h, the same in v5.10 to v6.12
PF_KSWAPD = 0x0002_0000


class Kind(IntEnum):
    """What a record tells of."""

    START = 1
    END = 2
    RELEASE = 3
    REGISTER = 4
    UNREGISTER = 5
    WAIT = 6
    MARK = 7
    HOLD = 8
    PUT = 9
    VIOLATION = 10
    INVALIDATE = 11


class RangeEvent(IntEnum):
    """enum mmu_notifier_event, include/linux/mmu_notifier.h (v5.14 and later)."""

    UNMAP = 0
    CLEAR = 1
    PROTECTION_VMA = 2
    PROTECTION_PAGE = 3
    SOFT_DIRTY = 4
    RELEASE = 5
    MIGRATE = 6
    EXCLUSIVE = 7


RECLAIM_STATE = 1 << 0
OWN_BUFFER = 1 << 1
OWNER_IS_CURRENT = 1 << 2
HAS_END = 1 << 3
QUENCHED = 1 << 4


class Event(NamedTuple):
    """One record. Times in ns of the guest's monotonic clock; addresses as the kernel sees them."""

    seq: int
    seq_exit: int
    time_ns: int
    duration_ns: int
    task: int
    mm: int
    current_mm: int
    range: int
    start: int
    end: int
    flags: int
    pf_flags: int
    result: int
    pid: int
    tgid: int
    subscriber: int
    kind: int
    event: int
    context: int
    policy: int
    cpu: int

    @property
    def own(self) -> bool:
        """The range overlaps the subscriber's own buffer."""
        return bool(self.context & OWN_BUFFER)

    @property
    def mayfail(self) -> bool:
        """The range carries MMU_NOTIFIER_RANGE_MAYFAIL."""
        return bool(self.flags & MAYFAIL)

    @property
    def blockable(self) -> bool:
        """The range carries MMU_NOTIFIER_RANGE_BLOCKABLE."""
        return bool(self.flags & BLOCKABLE)

    @property
    def strict_direct(self) -> bool:
        """The task is in direct reclaim, global or memcg: not kswapd, not MADV_PAGEOUT.

        mm/vmscan.c sets PF_MEMALLOC and reclaim_state together only there.
        """
        return bool(self.pf_flags & PF_MEMALLOC and not self.pf_flags & PF_KSWAPD and self.context & RECLAIM_STATE)


@dataclass(frozen=True)
class EventLog:
    """A whole log: `raw` is its records, `lost` the records that did not fit into it."""

    raw: bytes
    lost: int
    capacity: int

    def __len__(self) -> int:
        return len(self.raw) // RECORD.size

    def __iter__(self) -> Iterator[Event]:
        return map(Event._make, RECORD.iter_unpack(self.raw))


EMPTY = EventLog(b"", 0, 0)


def parse(content: bytes, where: str = "event log") -> EventLog:
    """Check a log read from /dev/notifier_hold_log and sort its records into order."""
    if len(content) < HEADER.size:
        raise MachineError(f"{where}: {len(content)} bytes, shorter than its header of {HEADER.size}")
    magic, abi, record_size, _, count, lost, capacity = HEADER.unpack_from(content)
    if (magic, abi, record_size) != (MAGIC, ABI, RECORD.size):
        raise MachineError(
            f"{where}: magic {magic:#x}, ABI {abi}, records of {record_size} bytes; "
            f"this harness reads {MAGIC:#x}, ABI {ABI}, {RECORD.size} bytes",
            "rebuild the module: harness build",
        )
    body = content[HEADER.size :]
    if len(body) != count * RECORD.size:
        raise MachineError(f"{where}: {len(body)} bytes of records, the header promises {count} × {RECORD.size}")
    return EventLog(body, lost, capacity)


def read(path: Path) -> EventLog:
    """Read a log that a run kept; a run that got none has an empty one."""
    return parse(path.read_bytes(), str(path)) if path.exists() else EMPTY
