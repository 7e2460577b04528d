# SPDX-License-Identifier: GPL-2.0-only
"""Takes the regular groups out of a chunk of events, many at once, and leaves the rest to the automaton of `pairing`.

A *run* is a stretch of a task's events of one kind for one range: the starts
of a group, or its ends. A group is regular when its run of starts names each
subscriber of the mm in order, none failed in a way that counts, and the run of
ends that follows names those with an invalidate_range_end, for the same range.
The automaton would push such a group and pop it again, so it may as well never
see it. The runs around it then become neighbours and are looked at in turn:
each round takes out one level of nesting.

Measured on 300,000 events, two levels deep: 0.5 µs of CPU time per event, 5 µs with the automaton alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.model.event import HAS_END, MAYFAIL, Chunk, Event, Kind
from harness.oracles._life import Roll

if TYPE_CHECKING:
    from harness.model.event import Column, Mask

# More levels than the kernel nests. The automaton takes deeper groups, so that a log cannot demand endless rounds.
ROUNDS = 8

_SNAPSHOT = ("mm", "start", "end", "flags", "event")
_FIELDS = (
    *_SNAPSHOT, "seq", "seq_exit", "task", "pid", "range", "result", "subscriber", "kind", "context",
)  # fmt: skip
_PAIRING = (Kind.START, Kind.END, Kind.REGISTER, Kind.UNREGISTER, Kind.MARK, Kind.HOLD, Kind.PUT)


class _Table:
    """A Roll as arrays: the `epoch` of each event, and the list of subscribers by epoch."""

    def __init__(self, roll: Roll) -> None:
        import numpy as np

        self._begins = {mm: (np.array(begins, np.uint64), first) for mm, (begins, first) in roll.begins.items()}
        # An epoch that is not certain has a length that no run has.
        self.length = np.array([-1 if who is None else len(who) for who in roll.members])
        self._last = np.maximum(self.length - 1, 0)
        self.offset = np.concatenate([[0], np.maximum(self.length, 0).cumsum()])
        self.who = np.array([number for who in roll.members for number in who or ()] + [0], np.uint32)
        # The subscriber with which a group begins; no subscriber has number 0.
        self.head = np.where(self.length > 0, self.who[self.offset[:-1]], 0)

    def at(self, epoch: Column, position: Column) -> Column:
        """The subscriber at a position of the list, for each event."""
        import numpy as np

        found: Column = self.who[self.offset[epoch] + np.minimum(position, self._last[epoch])]
        return found

    def epoch(self, mm: Column, seq: Column) -> Column:
        """The epoch in which each event lies."""
        import numpy as np

        found = np.zeros(len(mm), np.int64)
        for address, (begins, first) in self._begins.items():
            here = mm == address
            found[here] = first + np.searchsorted(begins, seq[here], "right")
        return found


class _Runs:
    """The events of a chunk sorted by task, and their runs."""

    def __init__(self, chunk: Chunk, table: _Table) -> None:
        import numpy as np

        index = np.flatnonzero(chunk.of(*_PAIRING))
        task = chunk["task"][index]
        if (task[1:] != task[:-1]).any():
            index = index[np.argsort(task, kind="stable")]
        self.records = chunk.records[index]
        column = {name: np.ascontiguousarray(self.records[name]) for name in _FIELDS}
        self.column = column
        kind, seq = column["kind"], column["seq"]
        self.is_start = kind == Kind.START
        epoch = table.epoch(column["mm"], seq)

        same_task = _same(column["task"]) & _same(column["pid"])
        again = same_task & _same(kind) & _same(column["range"]) & (kind[1:] <= Kind.END)
        new = _first(~again) | self.is_start & (column["subscriber"] == table.head[epoch])
        self.first = np.flatnonzero(new)
        self.size = np.diff(self.first, append=len(kind))
        self.ends = self.is_start & (column["context"] & HAS_END).astype(bool)
        self.wanted = np.add.reduceat(self.ends, self.first, dtype=np.int64)
        self.good = self._good(table, epoch, same_task)

    def _good(self, table: _Table, epoch: Column, same_task: Mask) -> Mask:
        """Which runs have nothing wrong in themselves."""
        import numpy as np

        column = self.column
        begin = np.repeat(self.first, self.size)
        position = np.arange(len(begin)) - begin
        good = column["kind"] <= Kind.END
        for name in _SNAPSHOT:
            good &= column[name] == column[name][begin]
        # A callback of a task begins after the previous one has returned.
        late = same_task & ~((column["seq_exit"][:-1] > 0) & (column["seq"][1:] > column["seq_exit"][:-1]))
        good[1:] &= ~late
        good[:-1] &= ~late
        tolerated = (column["result"] == -errno.EAGAIN) & (column["flags"] & MAYFAIL).astype(bool)
        listed = column["subscriber"] == table.at(epoch, position)
        complete = (epoch == epoch[begin]) & (table.length[epoch] == np.repeat(self.size, self.size)) & listed
        good &= ~self.is_start | (complete & ((column["result"] == 0) | tolerated))
        return np.logical_and.reduceat(good, self.first)

    def follows(self, left: Column, right: Column) -> Mask:
        """Which runs of `right` have the task and the range of their counterparts in `left`."""
        here, there = self.first[left], self.first[right]
        mask: Mask = self.column["range"][here] == self.column["range"][there]
        for name in ("task", "pid"):
            mask &= self.column[name][here] == self.column[name][there]
        return mask

    def pair(self, starts: Column, ends: Column) -> Mask:
        """Which runs of starts and ends, of the number that is wanted, name the same subscribers and the same range."""
        import numpy as np

        column, count = self.column, self.size[ends]
        mask = np.ones(len(starts), bool)
        for name in _SNAPSHOT:
            mask &= column[name][self.first[starts]] == column[name][self.first[ends]]
        with_end = np.flatnonzero(self.ends)
        offset = self.wanted.cumsum() - self.wanted
        which = np.repeat(np.arange(len(starts)), count)
        step = np.arange(len(which)) - np.repeat(count.cumsum() - count, count)
        started = column["subscriber"][with_end[offset[starts][which] + step]]
        ended = column["subscriber"][self.first[ends][which] + step]
        mask &= np.bincount(which[started != ended], minlength=len(starts)) == 0
        return mask


class Sieve:
    """Lets through the events that are in no regular group."""

    def __init__(self, roll: Roll) -> None:
        self._table = _Table(roll)
        # By task and pid: the number of the last event, and when that event returned.
        self._last: dict[tuple[int, int], tuple[int, int]] = {}

    def irregular(self, chunk: Chunk, pending: Sequence[tuple[int, int, int]] = ()) -> Iterator[tuple[Event, int]]:
        """A chunk's events in no regular group, in order for each task, with the number of the task's previous event.

        pending: task, pid and range of each group that is still open.
        """
        import numpy as np

        if not chunk.of(*_PAIRING).any():
            return
        runs = _Runs(chunk, self._table)
        before = self._before(runs)
        begins = runs.is_start[runs.first]
        # By run: the other run of its group, the run itself if there is no other, -1 if it is in no regular group.
        partner = np.full(len(runs.first), -1)
        alone = begins & runs.good & (runs.wanted == 0)
        partner[alone] = np.flatnonzero(alone)
        for _ in range(ROUNDS):
            rest = np.flatnonzero(partner < 0)
            left, right = rest[:-1], rest[1:]
            fits = begins[left] & ~begins[right] & runs.good[left] & runs.good[right]
            fits &= (runs.wanted[left] == runs.size[right]) & runs.follows(left, right)
            left, right = left[fits], right[fits]
            fits = runs.pair(left, right)
            runs.good[left] = fits
            left, right = left[fits], right[fits]
            if not len(left):
                break
            partner[left], partner[right] = right, left
        if (partner < 0).any() or pending:
            back = _telling(runs, partner, begins, pending)
            partner[partner[back]] = -1
            partner[back] = -1
        odd = np.repeat(partner < 0, runs.size)
        yield from zip(Chunk(runs.records[odd]), before[odd].tolist(), strict=True)

    def _before(self, runs: _Runs) -> Column:
        """For each event the number of the previous event of the same task, 0 if there is none.

        A run with an event that may overlap one of another chunk is not good.
        """
        import numpy as np

        task, pid, seq, back = (runs.column[name] for name in ("task", "pid", "seq", "seq_exit"))
        before = np.concatenate([[np.uint64(0)], seq[:-1]])
        first = np.flatnonzero(_first(~(_same(task) & _same(pid))))
        last = np.append(first[1:], len(seq)) - 1
        whose = list(zip(task[first].tolist(), pid[first].tolist(), strict=True))
        ahead = np.array([self._last.get(key, (0, 0)) for key in whose], np.uint64)
        before[first] = ahead[:, 0]
        late = (ahead[:, 0] > 0) & ((ahead[:, 1] == 0) | (ahead[:, 1] >= seq[first]))
        away = (back[last] == 0) | (back[last] > seq.max())
        for odd in (first[late], last[away]):
            runs.good[np.searchsorted(runs.first, odd, "right") - 1] = False
        self._last.update(zip(whose, zip(seq[last].tolist(), back[last].tolist(), strict=True), strict=True))
        return before


def _telling(runs: _Runs, partner: Column, begins: Mask, pending: Sequence[tuple[int, int, int]]) -> Column:
    """The regular groups that tell the automaton that an earlier group, of the same task and range, is over."""
    import numpy as np

    seen = np.flatnonzero((partner < 0) & (runs.column["kind"][runs.first] <= Kind.END) | begins)
    whose = np.array(pending, np.uint64).reshape(-1, 3)
    task, pid, address = (
        np.concatenate([whose[:, place], runs.column[name][runs.first[seen]]])
        for place, name in enumerate(("task", "pid", "range"))
    )
    regular = np.concatenate([np.zeros(len(whose), bool), partner[seen] >= 0])
    order = np.lexsort([address, pid, task])
    told = regular[order][1:] & ~regular[order][:-1] & _same(address[order]) & _same(pid[order]) & _same(task[order])
    found: Column = seen[order[1:][told] - len(whose)]
    return found


def _same(column: Column) -> Mask:
    """Which elements, from the second on, equal the one before."""
    mask: Mask = column[1:] == column[:-1]
    return mask


def _first(rest: Mask) -> Mask:
    """A mask for all elements, from the mask for all but the first."""
    import numpy as np

    return np.concatenate([[True], rest])
