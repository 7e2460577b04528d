# SPDX-License-Identifier: GPL-2.0-only
"""The event log of guest-modules/notifier_hold: its binary records, read on the host.

Mirrors struct nh_event in notifier_hold_uapi.h, format 3, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.model.errors import MachineError

if TYPE_CHECKING:  # numpy takes 0.1 s to import, which `harness list` has no use for
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[Any]
    Mask = npt.NDArray[np.bool_]

# The format of the log, which outlives the module that wrote it; the module's counters are no part of it.
FORMAT = 3
MAGIC = 0x474C484E
HEADER = struct.Struct("<IIIIQQQ")
RECORD = struct.Struct("<10QIIiIIIBBBBI")
# How many events are looked at together: 1.8 MB, which fits into a CPU's own cache.
CHUNK_RECORDS = 1 << 14

BLOCKABLE = 1 << 0  # MMU_NOTIFIER_RANGE_BLOCKABLE, include/linux/mmu_notifier.h
MAYFAIL = 1 << 1  # MMU_NOTIFIER_RANGE_MAYFAIL, the patch
PF_MEMALLOC = 0x0000_0800  # include/linux/sched.h, the same in v5.10 to v6.12
PF_KSWAPD = 0x0002_0000


class Kind(IntEnum):
    """What a record is about."""

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
    MIRROR = 12
    COMPARE = 13
    YOUNG = 14
    FLUSH = 15


class Young(IntEnum):
    """Which callback asked whether a device accessed its pages: the `event` of such a record."""

    CLEAR_FLUSH = 1
    CLEAR = 2
    TEST = 3


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


class Policy(IntEnum):
    """What a subscriber was to answer."""

    ACCEPT = 1
    EAGAIN_MAYFAIL = 2
    EAGAIN_RECLAIM = 3
    EAGAIN_ALWAYS = 4
    ERRNO = 5
    WAIT_FENCE = 6
    WAIT_MUTEX = 7
    MAYFAIL_TRYLOCK = 8
    MAYFAIL_FENCE = 9
    BLOCK_MUTEX = 10


# The kinds that a log may be full of.
MANY = (Kind.START, Kind.END, Kind.INVALIDATE, Kind.VIOLATION, Kind.MIRROR, Kind.YOUNG, Kind.FLUSH)

# In the flags of a REGISTER.
SUB_END = 1 << 0
SUB_GET = 1 << 1
SUB_INTERVAL = 1 << 2
SUB_MIRROR = 1 << 3
SUB_YOUNG = 1 << 4
SUB_ACCESSED = 1 << 5
SUB_TLB = 1 << 6

# In the flags of a YOUNG: the task holds a spinlock; the kernel counts that.
YOUNG_ATOMIC = 1 << 0
YOUNG_COUNTED = 1 << 1

RECLAIM_STATE = 1 << 0
OWN_BUFFER = 1 << 1
OWNER_IS_CURRENT = 1 << 2
HAS_END = 1 << 3
QUENCHED = 1 << 4
OBSERVED = 1 << 5
UNMAP_ONE = 1 << 6
DIRECT = 1 << 7


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
class Chunk:
    """Some records that follow each other in the log; `chunk["flags"]` is that field of each of them.

    Valid until the next chunk is asked for.
    """

    records: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, field: str) -> Column:
        column: Column = self.records[field]
        return column

    def __iter__(self) -> Iterator[Event]:
        return map(Event._make, self.records.tolist())

    def of(self, *kinds: Kind) -> Mask:
        """Which records are of one of these kinds."""
        mask: Mask = self["kind"] == kinds[0]
        for kind in kinds[1:]:
            mask = mask | (self["kind"] == kind)
        return mask

    def take(self, which: Column) -> Chunk:
        """The records of a mask, or at some places."""
        return Chunk(self.records[which])

    @property
    def own(self) -> Mask:
        """The range overlaps the subscriber's own buffer."""
        return (self["context"] & OWN_BUFFER).astype(bool)

    @property
    def mayfail(self) -> Mask:
        """As Event.mayfail."""
        return (self["flags"] & MAYFAIL).astype(bool)

    @property
    def blockable(self) -> Mask:
        """As Event.blockable."""
        return (self["flags"] & BLOCKABLE).astype(bool)

    @property
    def observed(self) -> Mask:
        """A probe watched try_to_unmap_one()."""
        return (self["context"] & OBSERVED).astype(bool)

    @property
    def unmap_one(self) -> Mask:
        """The probe saw the task below try_to_unmap_one()."""
        return (self["context"] & UNMAP_ONE).astype(bool)

    @property
    def below_direct(self) -> Mask:
        """The probe saw the task below try_to_free_pages() or try_to_free_mem_cgroup_pages()."""
        return (self["context"] & DIRECT).astype(bool)

    @property
    def strict_direct(self) -> Mask:
        """As Event.strict_direct."""
        direct: Mask = self["pf_flags"] & (PF_MEMALLOC | PF_KSWAPD) == PF_MEMALLOC
        direct &= (self["context"] & RECLAIM_STATE).astype(bool)
        return direct


@dataclass
class Tally:
    """How many events were of a sort, and the one that began first."""

    count: int = 0
    first: Event | None = None

    def add(self, chunk: Chunk, which: Mask) -> None:
        """Count the records of a mask."""
        count = int(which.sum())
        if not count:
            return
        self.count += count
        some = chunk.records[which]
        earliest = Event._make(some[some["seq"].argmin()].item())
        if self.first is None or earliest.seq < self.first.seq:
            self.first = earliest


@dataclass(frozen=True)
class EventLog:
    """A log, in a file or in memory, of which never more than a chunk is looked at.

    Records lie in the order in which callbacks reserved them. That is the
    order of `seq` for each task, but not across tasks: between taking its
    number and its record, a task can be preempted for any length of time.

    lost: how many records did not fit. capacity: how many fit.
    """

    source: Path | bytes
    count: int
    lost: int
    capacity: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Event]:
        for chunk in self.chunks():
            yield from chunk

    def of(self, *kinds: Kind) -> Iterator[Event]:
        """The events of some kinds, in the order of the log; for the rare kinds the log is read only once."""
        if not any(kind in MANY for kind in kinds):
            return (entry for entry in self._few if entry.kind in kinds)
        return (entry for chunk in self.chunks() for entry in chunk.take(chunk.of(*kinds)))

    @cached_property
    def _few(self) -> Sequence[Event]:
        """The events of all kinds but those that a log may be full of."""
        return [entry for chunk in self.chunks() for entry in chunk.take(~chunk.of(*MANY))]

    def chunks(self) -> Iterator[Chunk]:
        """All records in the order of the log, CHUNK_RECORDS at a time."""
        import numpy as np

        if not self.count:
            return
        if isinstance(self.source, bytes):
            whole = np.frombuffer(self.source, _layout(), self.count, HEADER.size)
            for begin in range(0, self.count, CHUNK_RECORDS):
                yield Chunk(whole[begin : begin + CHUNK_RECORDS])
            return
        records = np.empty(min(CHUNK_RECORDS, self.count), _layout())
        with self.source.open("rb", buffering=0) as file:
            file.seek(HEADER.size)
            for begin in range(0, self.count, CHUNK_RECORDS):
                some = records[: self.count - begin]
                # A file of the host gives all that was asked for, unless it ended (read(2)).
                if file.readinto(some.view(np.uint8).data) != some.nbytes:
                    raise MachineError(f"{self.source}: changed while it was read")
                yield Chunk(some)


def _layout() -> np.dtype[np.void]:
    """RECORD as a structured type."""
    import numpy as np

    codes = {"Q": "<u8", "I": "<u4", "i": "<i4", "B": "u1"}
    letters = "Q" * 10 + RECORD.format.removeprefix("<10Q")
    return np.dtype([(name, codes[letter]) for name, letter in zip(Event._fields, letters, strict=True)])


EMPTY = EventLog(b"", 0, 0, 0)


def parse(content: bytes, where: str = "event log") -> EventLog:
    """A log that was read from /dev/notifier_hold_log. Raises MachineError when it is not a log."""
    return _checked(content, content[: HEADER.size], len(content), where)


def read(path: Path) -> EventLog:
    """A log that a run kept, empty if the run got none. Raises MachineError when the file is not a log."""
    if not path.exists():
        return EMPTY
    with path.open("rb") as file:
        return _checked(path, file.read(HEADER.size), path.stat().st_size, str(path))


def _checked(source: Path | bytes, head: bytes, size: int, where: str) -> EventLog:
    if len(head) < HEADER.size:
        raise MachineError(f"{where}: {size} bytes, shorter than its header of {HEADER.size}")
    magic, layout, record_size, _, count, lost, capacity = HEADER.unpack(head)
    if (magic, layout, record_size) != (MAGIC, FORMAT, RECORD.size):
        raise MachineError(
            f"{where}: magic {magic:#x}, format {layout}, records of {record_size} bytes; "
            f"this harness reads {MAGIC:#x}, format {FORMAT}, {RECORD.size} bytes",
            "judge the run with the harness that wrote it",
        )
    body = size - HEADER.size
    if body != count * RECORD.size:
        raise MachineError(f"{where}: {body} bytes of records, the header promises {count} × {RECORD.size}")
    return EventLog(source, count, lost, capacity)
