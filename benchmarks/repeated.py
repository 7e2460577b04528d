# SPDX-License-Identifier: GPL-2.0-only
"""A long event log from a real log: its longest stretch of callbacks is repeated again and again."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model import event
from harness.model.errors import MachineError
from harness.model.event import HEADER, RECORD, Event, Kind


def repeated(content: bytes, count: int) -> bytes:
    """A log of at least `count` records: all that `content` holds, and its longest stretch again as often as needed.

    Numbers and times continue without a gap, so a guest could have written the log.
    """
    log = event.parse(content)
    entries = sorted(log, key=lambda entry: entry.seq)
    first, last = _stretch(entries)
    stretch = entries[first:last]
    copies = -(-max(0, count - len(entries)) // len(stretch))
    seqs = max(max(entry.seq, entry.seq_exit) for entry in stretch) - stretch[0].seq + 1
    times_ns = stretch[-1].time_ns + stretch[-1].duration_ns - stretch[0].time_ns + 1

    def written() -> Iterator[bytes]:
        for number in range(copies + 1):
            for entry in stretch if number else entries[:last]:
                yield _pack(entry, number * seqs, number * times_ns)
        for entry in entries[last:]:
            yield _pack(entry, copies * seqs, copies * times_ns)

    magic, layout, size, flags, _, lost, _ = HEADER.unpack_from(content)
    total = len(entries) + copies * len(stretch)
    return HEADER.pack(magic, layout, size, flags, total, lost, max(total, log.capacity)) + b"".join(written())


def _pack(entry: Event, seqs: int, times_ns: int) -> bytes:
    moved = entry._replace(seq=entry.seq + seqs, seq_exit=entry.seq_exit + seqs, time_ns=entry.time_ns + times_ns)
    return RECORD.pack(*moved)


def _stretch(entries: list[Event]) -> tuple[int, int]:
    """The bounds of the longest run of starts and ends with nothing else between them."""
    best = (0, 0)
    begin = 0
    for index in range(len(entries) + 1):
        if index == len(entries) or entries[index].kind not in (Kind.START, Kind.END):
            best = max(best, (begin, index), key=lambda found: found[1] - found[0])
            begin = index + 1
    if best[0] == best[1]:
        raise MachineError("this log has no callback")
    return best
