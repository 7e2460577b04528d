# SPDX-License-Identifier: GPL-2.0-only
"""Consoles that nobody has seen: any bytes, in any pieces, in linear work and bounded memory."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console import Report, Scanner, find, records, scan
from harness.console.lines import LINE_LIMIT, Reader, decode
from harness.console.scanner import _WAITING_REPORTS
from tests.unit.fuzzing import fuzz

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LINES = sorted({line for path in GOLDEN.glob("*.log") for line in path.read_bytes().split(b"\n")})
STAMPS = [
    b"",
    b"[    1.000001] ",
    b"[    1.000001][  T9] ",
    b"<4>[    2.5][ C0]",
    b"[    1.000001] [4: init: 1] ",
    b"[<0>] ",
]
WARN = b"[    1.000001][%s] WARNING: CPU: 1 PID: 9 at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10\n"
END = b"[    1.000002][%s] ---[ end trace 0000000000000000 ]---\n"
PIECES = st.one_of(
    st.sampled_from(LINES),
    st.tuples(st.sampled_from(STAMPS), st.sampled_from([b"Call Trace:", b" foo+0x1/0x2", b"BUG: bad", b""])).map(
        b"".join
    ),
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
    st.sampled_from(
        [b"\x1b[31m", b"\r", b"\0", b"x" * (LINE_LIMIT + 1), b"DEBUG: BUG: bad thing", b"\x1b[KBUG: bad thing"]
    ),
)
CONSOLES = st.lists(st.lists(PIECES, max_size=3).map(b"".join), max_size=40).map(b"\n".join)


HEADS = [
    "",
    "[    1.{:06}] ",
    "[Mon Sep  3 05:57:{} 2029] ",
    "[Mon Sep  3 05:57:{} 2029][  T{}] ",
    "Sep  3 05:57:{} host kernel: ",
    "Sep  3 05:57:{} host kernel: [    1.{:06}] ",
    "2029-09-03T05:57:48.{:06}+0200 host kernel: ",
    "kern  :warn  : [    3.{:06}] [      T{}] ",
    "<4>[    1.{:06}] c2 ",
    "[{}.345678] kernel: ",
    "4,{},125297687,-;",
    "> Sep  3 05:57:{} host kernel: ",
]


@fuzz(300)
@given(st.sampled_from(HEADS), st.sampled_from(HEADS), CONSOLES)
def test_many_lines_at_once_are_read_as_one_by_one(head: str, learned: str, console: bytes) -> None:
    """Whatever stands before them, and whatever stood before the lines that were read before."""
    lines = [head.format(n + 10, n).encode() + line for n, line in enumerate(console.split(b"\n"))]
    reader = Reader()
    for line in (learned.format(77, 77), learned.format(78, 78) + "text", learned.format(79, 79) + "text"):
        reader.records(line, 1)
    fast = reader.rows(b"\n".join(lines) + b"\n")
    one_by_one = [records(decode(line), 1) for line in lines]

    assert fast is None or [[fast.record(index, 1)] for index in range(len(fast.lines))] == [*map(list, one_by_one)]
    for raw, wanted in zip(lines, one_by_one, strict=True):
        got = reader.records(decode(raw), 1)
        assert len(wanted) != 1 or list(got) == list(wanted)


@pytest.mark.parametrize("head", [head for head in HEADS[1:] if "kernel: " in head[:30] and head[0] != ">"])
def test_what_stands_before_every_line_is_learned(head: str) -> None:
    reader = Reader()
    for number in (10, 11):
        reader.records(head.format(number, number) + "text", 1)

    assert reader.rows("".join(head.format(n, n) + f" nh_x+0x{n}/0x90\n" for n in range(10, 60)).encode()) is not None


@fuzz(100)
@given(CONSOLES, st.lists(st.integers(1, 6000), max_size=30))
def test_lines_of_any_length_may_come_in_any_pieces(console: bytes, cuts: list[int]) -> None:
    scanner, position = Scanner(), 0
    got: list[Report] = []
    for size in cuts:
        got += scanner.feed(console[position : position + size])
        position += size
    got += [*scanner.feed(console[position:]), *scanner.close()]

    assert got == list(find(console))


@pytest.mark.parametrize("byte", [b"\x80", b"\xff", b"\xc3"])
def test_a_byte_that_is_no_text_neither_hides_a_report_nor_ends_its_line(byte: bytes) -> None:
    line = b"BUG: unable to handle page fault for address: 00"
    console = b"[    1.000000] " + line + byte + b"\n" + byte + line + b"\n" + b"quiet\n" * 900 + line + b"\n"

    assert [report.line for report in find(console)] == [1, 2, 903]


def test_whether_a_clock_went_back_is_known_when_a_report_begins() -> None:
    console = b"BUG: bad thing\nCall Trace:\n" * 2 + b"[    3.000000] late\n[    1.000000] early\n"
    scanner = Scanner()

    pieces = [*scanner.feed(console[:54]), *scanner.feed(console[54:]), *scanner.close()]

    assert pieces == list(find(console))
    assert [report.line for report in pieces] == [1, 3]


def test_a_line_without_end_is_one_line() -> None:
    """What stands beyond its limit is neither looked at nor kept, in however many pieces it comes."""
    scanner = Scanner()
    got: list[Report] = []
    for _ in range(50):
        got += scanner.feed(b"BUG: KASAN: use-after-free in foo+0x1/0x2 " * 500)
        assert len(scanner._rest) <= LINE_LIMIT
    got += [*scanner.feed(b"\n" + WARN % b"T9"), *scanner.close()]

    assert [report.line for report in got] == [1, 2]


class Counted(bytes):
    """Counts the bytes that searches pass over."""

    passed = 0

    def find(self, what: Any, start: Any = None, end: Any = None) -> int:
        """As of bytes."""
        found = super().find(what, start, end)
        Counted.passed += (len(self) if found < 0 else found) - (start or 0)
        return found

    def rfind(self, what: Any, start: Any = None, end: Any = None) -> int:
        """As of bytes."""
        found = super().rfind(what, start, end)
        Counted.passed += (len(self) if end is None else end) - max(found, start or 0)
        return found


def passed(console: bytes) -> int:
    """The bytes that searches pass over to read a console that comes as one block."""
    Counted.passed = 0
    Scanner()._block(Counted(console))
    return Counted.passed


def calls(console: bytes) -> int:
    """How many functions are called to read a console."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert sum(1 for _ in scan(io.BytesIO(console))) > 0
    finally:
        sys.setprofile(before)
    return count


QUIET = b"[    1.000003][  T9] all is well\n"
OOPSES = b"".join(line + b"\n" for line in (GOLDEN / "oops-then-panic.log").read_bytes().split(b"\n")[10:40])


@pytest.mark.parametrize(
    "report",
    [WARN % b"  T9" + END % b"  T9", WARN % b"  T9" + QUIET * 60, OOPSES, WARN % b"  T9", b"BUG: bad thing DEBUG\n"],
    ids=["ended", "quiet", "oops", "one line", "unstamped"],
)
def test_twice_the_reports_are_twice_the_work(report: bytes) -> None:
    """Neither the log behind a report nor the reports before it make it dearer."""
    few, many = report * 200, report * 400

    assert passed(many) <= 2.2 * passed(few)
    assert calls(many) <= 2.2 * calls(few)


def test_reports_behind_one_that_never_ends_are_told_as_they_come() -> None:
    """A stall takes in every caller's lines, so a flood of another caller's stacks keeps it open."""
    scanner = Scanner()
    told = list(scanner.feed(b"[    1.000001][  C0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [drive:1]\n"))
    for _ in range(1000):
        told += scanner.feed(
            WARN % b"  T9" + b"[    1.000002][  T9] Call Trace:\n" + END.replace(b"---[", b" foo+0x1/0x2") % b"  T9"
        )
        assert len(scanner._queue) <= _WAITING_REPORTS + 1
    assert len(told) > 900
    assert len(told) + len(list(scanner.close())) == 1001


def test_a_pause_tells_what_is_open_once() -> None:
    """Its later lines still belong to it."""
    scanner = Scanner()
    hung = b"[    9.000001][  T25] INFO: task drive:77 blocked for more than 10 seconds.\n"

    assert list(scanner.feed(hung)) == []
    assert [report.line for report in scanner.pause()] == [1]
    assert list(scanner.feed(b"[    9.000002][  T25] Call Trace:\n[    9.000002][  T25]  foo+0x1/0x2\n")) == []
    assert list(scanner.pause()) == []
    assert [report.line for report in [*scanner.feed(WARN % b"  T9"), *scanner.close()]] == [4]
