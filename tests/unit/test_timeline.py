# SPDX-License-Identifier: GPL-2.0-only
"""Events beside each other: a column for each task, whatever a guest wrote into its log."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model import event
from harness.model.event import MAYFAIL, Kind
from harness.report import timeline
from tests.unit.recordings import Log


def shown(log: Log, number: int | None = None, count: int = 10) -> list[str]:
    read = event.parse(log.packed())
    return timeline.lines(timeline.around(read, number, count), lambda number: f"device-{number}")


def test_each_task_has_a_column() -> None:
    log = Log()
    log.start(pid=10, flags=MAYFAIL, result=-11, start=0, end=8192)
    log.start(pid=20, start=0, end=4096, seq_exit=0)

    head, first, second = shown(log)

    assert head.split() == ["ms", "pid", "10", "pid", "20"]
    assert "2 pages mayfail" in first
    assert first.endswith("→ −EAGAIN")
    assert second.index("start device-") == head.index("pid 20")
    assert second.endswith("never returned")


def test_more_tasks_than_columns_share_the_last_one() -> None:
    log = Log()
    for pid in range(10, 16):
        log.start(pid=pid)

    lines = shown(log)

    assert lines[0].endswith("other tasks")
    assert lines[-1].split()[1:3] == ["pid", "15:"]


def test_the_events_around_one_are_shown_and_else_the_last() -> None:
    log = Log()
    for _ in range(40):
        log.pair()
    numbers = [entry.seq for entry in event.parse(log.packed())]

    around = timeline.around(event.parse(log.packed()), numbers[20], 6)
    last = timeline.around(event.parse(log.packed()), None, 6)

    assert numbers[20] in [entry.seq for entry in around]
    assert len(around) == len(last) == 6
    assert timeline.around(event.parse(log.packed()), 1, 6)[0].seq == min(numbers)
    assert last[-1].seq == max(numbers)
    assert timeline.lines([], str) == []


def test_what_takes_things_down_is_not_shown() -> None:
    log = Log()
    log.add(Kind.MARK)
    log.pair()
    shown_last = log.start(pid=77)
    log.add(Kind.MARK)
    log.pair()
    log.add(Kind.MARK)

    assert timeline.around(event.parse(log.packed()), None, 6)[-1].seq == shown_last.seq


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))))
def test_whatever_is_in_a_log_is_a_line_of_its_own(entries: list[tuple[Kind, int, int]]) -> None:
    log = Log()
    for kind, result, pid in entries:
        log.add(kind, result=result, pid=pid)

    lines = shown(log, count=100)

    assert len(lines) == (len(entries) + 1 if entries else 0)
    assert all(line.isprintable() for line in lines)
