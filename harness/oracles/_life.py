# SPDX-License-Identifier: GPL-2.0-only
"""The span in which each subscriber could be called, by the log's own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.model.event import SUB_GET, SUB_INTERVAL, Event, EventLog, Kind, Tally

NEVER = 2**64 - 1


@dataclass(frozen=True)
class Life:
    """One registration. Its subscriber may be called from `asked` to `gone`, and must be from `began` to `cut`.

    The sequence numbers of four steps. asked: the call of mmu_notifier_register()
    or _get(). began: its return. cut: the mm's release or the call of
    _unregister() or _put(), whichever came first. gone: the return of
    _unregister(), or free_notifier.
    """

    subscriber: int
    mm: int
    asked: int
    began: int
    cut: int = NEVER
    gone: int = NEVER


def lives(log: EventLog) -> list[Life]:
    """Every registration that succeeded, in the order of the calls, but no interval's: they have no part in pairing."""
    found: list[Life] = []
    now: dict[int, int] = {}
    rare = log.of(Kind.REGISTER, Kind.UNREGISTER, Kind.RELEASE)
    for entry in sorted(rare, key=lambda entry: entry.seq):
        place = now.get(entry.subscriber)
        if entry.kind == Kind.REGISTER and (entry.result or entry.flags & SUB_INTERVAL):
            continue
        if entry.kind == Kind.REGISTER:
            now[entry.subscriber] = len(found)
            found.append(Life(entry.subscriber, entry.mm, entry.seq, entry.seq_exit or NEVER))
        elif place is not None:
            life = found[place]
            found[place] = replace(life, cut=min(life.cut, entry.seq))
            if entry.kind == Kind.UNREGISTER:
                found[place] = replace(found[place], gone=entry.seq_exit or NEVER)
                del now[entry.subscriber]
    return found


def strangers(log: EventLog, all_lives: Sequence[Life]) -> Iterator[tuple[str, int, Tally]]:
    """Callbacks for subscribers of the list that were not registered: what is wrong, the subscriber, how many.

    Nothing is known of a subscriber whose registration is not in the log.
    """
    import numpy as np

    spans: dict[int, list[tuple[int, int]]] = {}
    for life in all_lives:
        spans.setdefault(life.subscriber, []).append((life.asked, life.gone))
    early, late = ({number: Tally() for number in spans} for _ in range(2))
    for chunk in log.chunks():
        calls, seq = chunk.of(Kind.START, Kind.END, Kind.YOUNG), chunk["seq"]
        for number, lived in spans.items():
            mine = calls & (chunk["subscriber"] == number)
            for asked, gone in lived:
                mine &= ~((seq > np.uint64(asked)) & (seq < np.uint64(gone)))
            early[number].add(chunk, mine & (seq < lived[0][0]))
            late[number].add(chunk, mine & (seq > lived[0][0]))
    yield from (("was called before it was registered", number, tally) for number, tally in early.items())
    yield from (("was called after it was unregistered", number, tally) for number, tally in late.items())


def hurried(log: EventLog, all_lives: Sequence[Life]) -> Iterator[tuple[int, Tally]]:
    """A subscriber that was gone although a callback that ran when it began to leave had not returned.

    The callback may be of any mm: all callbacks of the list run within
    srcu_read_lock() of one srcu_struct, and both mmu_notifier_unregister() and the
    free_notifier() after mmu_notifier_put() wait for its readers (mm/mmu_notifier.c).
    """
    import numpy as np

    listed = {life.subscriber for life in all_lives}
    left = sorted(
        (entry.seq, entry.seq_exit, entry.subscriber)
        for entry in log.of(Kind.UNREGISTER)
        if entry.seq_exit and entry.subscriber in listed
    )
    if not left:
        return
    began = np.array([seq for seq, _, _ in left], np.uint64)
    # When the first subscriber was gone that began to leave at that time or later; none began after the last.
    gone = np.minimum.accumulate(np.array([NEVER, *(seq for _, seq, _ in reversed(left))], np.uint64))[::-1]
    running = Tally()
    for chunk in log.chunks():
        calls = chunk.of(Kind.START, Kind.END, Kind.RELEASE, Kind.YOUNG, Kind.FLUSH)
        running.add(chunk, calls & (gone[np.searchsorted(began, chunk["seq"], "right")] < chunk["seq_exit"]))
    if (first := running.first) is not None:
        who = next(who for seq, end, who in left if first.seq < seq and end < first.seq_exit)
        yield who, running


def unreleased(log: EventLog) -> Iterator[Event]:
    """The UNREGISTER of each subscriber whose release() was never called.

    Either exit_mmap() calls it, or mmu_notifier_unregister(), or both at once;
    mmu_notifier_put() does not (mm/mmu_notifier.c).
    """
    told: dict[int, Event] = {}
    since: dict[int, Event] = {}
    for entry in sorted(
        log.of(Kind.REGISTER, Kind.UNREGISTER, Kind.RELEASE), key=lambda entry: entry.seq_exit or NEVER
    ):
        if entry.kind == Kind.RELEASE:
            told[entry.subscriber] = entry
        elif entry.kind == Kind.REGISTER and not entry.result and not entry.flags & (SUB_GET | SUB_INTERVAL):
            since[entry.subscriber] = entry
        elif entry.kind == Kind.UNREGISTER and (began := since.pop(entry.subscriber, None)) and entry.seq_exit:
            last = told.get(entry.subscriber)
            if last is None or last.seq < began.seq:
                yield entry


def repeated(log: EventLog) -> Iterator[Event]:
    """Each RELEASE for a subscriber that the same task had released before, since it was registered.

    mmu_notifier_unregister() and exit_mmap() may both call release(), but only if
    they overlap, and so in two tasks; each calls it once (mm/mmu_notifier.c).
    """
    told: dict[int, set[int]] = {}
    for entry in sorted(log.of(Kind.REGISTER, Kind.RELEASE), key=lambda entry: entry.seq):
        tasks = told.setdefault(entry.subscriber, set())
        if entry.kind == Kind.REGISTER:
            tasks.clear()
        elif entry.task in tasks:
            yield entry
        else:
            tasks.add(entry.task)


@dataclass
class Roll:
    """The subscribers that must be called, in order, for a range of an mm at any time.

    Time is cut into epochs, at each step in the life of a subscriber of the mm.
    `members` of an epoch are the subscribers in the order of the list (the
    last to register comes first, hlist_add_head_rcu() in mm/mmu_notifier.c),
    None while a subscriber is on its way in or out. Epoch 0 is that of an mm
    for which the log has no subscribers.
    """

    members: list[Sequence[int] | None] = field(default_factory=lambda: [None])
    # By mm: the times at which an epoch ends, and the number of its first epoch, which lasts until the first of them.
    begins: dict[int, tuple[Sequence[int], int]] = field(default_factory=dict)

    @classmethod
    def of(cls, all_lives: Sequence[Life]) -> Roll:
        """From all lives of a log."""
        roll = cls()
        for mm in {life.mm for life in all_lives}:
            roll._add(mm, sorted(step for life in all_lives if life.mm == mm for step in _steps(life)))
        return roll

    def _add(self, mm: int, steps: Sequence[tuple[int, int, int]]) -> None:
        begins: list[int] = []
        first = len(self.members)
        self.members.append(())
        here: list[int] = []
        moving = 0
        for time, step, subscriber in steps:
            moving += (+1, -1, +1, -1)[step]
            if step == 1:
                here.insert(0, subscriber)
            elif step == 2 and subscriber in here:
                here.remove(subscriber)
            members = None if moving else tuple(here)
            if begins and begins[-1] == time:
                self.members[-1] = members
            else:
                begins.append(time)
                self.members.append(members)
        self.begins[mm] = (begins, first)


def _steps(life: Life) -> Iterator[tuple[int, int, int]]:
    for step, time in enumerate((life.asked, life.began, life.cut, life.gone)):
        if time != NEVER:
            yield time, step, life.subscriber
