# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that reports in a loop: what is recognized as a whole is what would have been read line by line."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console import Report, Scanner, loop
from harness.console.lines import Reader, Record
from tests.unit.fuzzing import fuzz

STACK = """Call Trace:
 <TASK>
 nh_collect+0x1c/0x60 [notifier_hold]
 nh_ioctl+0x2f4/0x4c0 [notifier_hold]
 do_syscall_64+0x5e/0x90
RIP: 0033:0x7f0{a}
 </TASK>
"""
REPORTS = {
    "oops": """BUG: kernel NULL pointer dereference, address: 0000000000000018
Oops: Oops: 0000 [#{n}] PREEMPT SMP NOPTI
CPU: {cpu} UID: 0 PID: {pid} Comm: drive Tainted: G      D    O       6.12.117 #1
RIP: 0010:nh_collect+0x1c/0x60 [notifier_hold]
Code: 1f 44 00 {b} <48> 8b 42 18 c3 100%
RSP: 0018:ffffc900{a} EFLAGS: 00010246
FS:  00007f0{a}(0000) GS:ffff88803ec00000(0000) knlGS:0000000000000000
"""
    + STACK
    + "---[ end trace 0000000000000000 ]---\nRIP: 0010:nh_collect+0x1c/0x60 [notifier_hold]\n",
    "other": "BUG: kernel NULL pointer dereference, address: 0000000000000020\n"
    + STACK.replace("nh_collect", "nh_other"),
    "warn": """------------[ cut here ]------------
WARNING: CPU: {cpu} PID: {pid} at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10
Modules linked in: notifier_hold(O)
CPU: {cpu} UID: 0 PID: {pid} Comm: drive Tainted: G           O       6.12.117 #1
RIP: 0010:try_to_unmap_one+0x5/0x10
RDI: ffff8880{b} R12: 00007ffe{b}
"""
    + STACK
    + "---[ end trace 0000000000000000 ]---\n",
    "lockdep": """============================================
WARNING: possible circular locking dependency detected
drive/44 is trying to acquire lock:
ffff8880{b} (&nh->lock){{+.+.}}-{{3:3}}, at: nh_start+0x1c/0x60
 but task is already holding lock:
ffff8880{a} (fs_reclaim){{+.+.}}-{{0:0}}, at: __alloc_pages+0x1/0x2
stack backtrace:
"""
    + STACK,
    "hung": "INFO: task drive:{pid} blocked for more than 122 seconds.\n      Tainted: G      O  6.12.117 #1\n"
    + STACK.replace("nh_collect", "schedule"),
    "note": "nh: all is well with subscriber {n}\n",
    "reboot": "Linux version 6.12.117 (h@h) (gcc 12.2.0) #1 SMP\n",
}
WRAPPINGS = ("{time}", "{time}{caller}", "<4>{time}", "Nov 30 12:00:{s:02} host kernel: {time}", "host kernel: ", "")
NUMBER = st.integers(0, 0xFFFFFFFF)


def wrapped(texts: Sequence[str], wrapping: str, caller: str, start: float) -> list[str]:
    """Lines as they stand on the console, a tenth of a millisecond each."""
    time_s = [start + number / 10_000 for number in range(len(texts))]
    return [
        wrapping.format(time=f"[{at:12.6f}]", caller=f"[{caller:>5}]", s=int(at) % 60)
        + (f" {text}" if wrapping else text)
        for at, text in zip(time_s, texts, strict=True)
    ]


def lines(name: str, number: int, wrapping: str, caller: str, start: float, values: Sequence[int]) -> list[str]:
    """A report, with its own numbers."""
    a, b = (f"{value:08x}" for value in values[:2])
    text = REPORTS[name].format(n=number, cpu=values[0] % 4, pid=values[1] % 50_000, a=a, b=b)
    return wrapped(text.splitlines(), wrapping, caller, start)


def told(log: bytes, piece: int) -> list[tuple[Report, int, int]]:
    """What a scanner finds in a log that comes in pieces, and how often."""
    scanner = Scanner()
    found = [report for start in range(0, len(log), piece) for report in scanner.feed(log[start : start + piece])]
    found += scanner.close()
    return [(report, report.count, scanner.times(report.line)) for report in found]


def agree(log: bytes, piece: int = 1 << 20) -> int:
    """How many reports were recognized as wholes; what was found is what is found line by line."""
    recognized = 0
    of = loop.Repeated.of

    def counted(*words: object, **more: object) -> loop.Repeated:
        nonlocal recognized
        recognized += 1
        return of(*words, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Repeated, "of", counted)
        quick = told(log, piece)
        patch.setattr(loop.Shapes, "learn", lambda *_, **__: None)
        patch.setattr(Reader, "_bare_rows", lambda *_: None)
        assert quick == told(log, piece)
    return recognized


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["oops", "warn", "lockdep", "hung"])
def test_nearly_all_reports_of_a_loop_are_recognized(name: str, wrapping: str, end: str) -> None:
    log = [line for n in range(20) for line in lines(name, n, wrapping, "T44", n, (n * 7919, n * 104_729))]
    if name == "hung" or "kernel: " in wrapping[-8:]:
        # Who hangs is said in the first line, and other PIDs are other lines.
        assert agree(end.join([*log, ""]).encode()) >= 0
    else:
        assert agree(end.join([*log, ""]).encode()) > 12


def test_loops_of_several_reports_are_recognized() -> None:
    names = ("oops", "other", "warn", "oops") * 12
    log = [line for n, name in enumerate(names) for line in lines(name, n, "{time}{caller}", "T44", n, (n * 7919, n))]
    assert agree("\n".join([*log, ""]).encode()) > 30


def test_lines_before_which_nothing_stands_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their addresses are."""
    judged: list[str] = []
    records = Reader.records

    def counted(reader: Reader, text: str, line: int) -> Sequence[Record]:
        judged.append(text)
        return records(reader, text, line)

    monkeypatch.setattr(Reader, "records", counted)
    log = [line for n in range(300) for line in lines("lockdep", n, "", "", 0, (n * 7919, n * 104_729))]

    assert len(told("\n".join([*log, ""]).encode(), 5000)) == 300
    assert len(judged) < 2 * len(log) / 300, judged


CHANGES = st.sampled_from(["", "", "", "", "drop", "caller", "back", "noise", "tear", "join", "again"])


@fuzz(30)
@given(
    st.lists(
        st.tuples(st.sampled_from([*REPORTS, "oops", "oops", "warn"]), st.integers(1, 6), CHANGES, NUMBER, NUMBER),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(WRAPPINGS),
    st.sampled_from([1 << 20, 700, 5000]),
)
def test_whatever_a_loop_is_disturbed_by_the_same_is_found(
    drawn: list[tuple[str, int, str, int, int]], wrapping: str, piece: int
) -> None:
    log: list[str] = []
    time_s, number = 5.0, 0
    for name, times, change, one, two in drawn:
        for _ in range(times):
            number, time_s = number + 1, time_s + 0.01
            caller = "T45" if change == "caller" and one % 3 == number % 3 else "T44"
            now = lines(name, number, wrapping, caller, time_s, (one ^ number, two ^ (number << 4)))
            place = two % len(now)
            if change == "drop" and number % 2:
                del now[place]
            elif change == "back" and number % 2:
                time_s = max(0.0, time_s - 0.015 * (one % 4))
            elif change == "noise":
                now[place:place] = wrapped([f"usb 1-1: device {one}"], wrapping, "T9" if one % 2 else "T44", time_s)
            elif change == "tear" and number % 2:
                now[place] = now[place][: one % (len(now[place]) + 1)] + now[(place + 1) % len(now)]
            elif change == "join":
                now[place] += " [   12.345678] late"
            elif change == "again":
                now *= 2
            log += now
    agree("\n".join([*log, ""]).encode(), piece)
