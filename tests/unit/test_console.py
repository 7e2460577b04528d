# SPDX-License-Identifier: GPL-2.0-only
"""From console bytes to reports: golden logs, torn lines, streams, limits."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.console import Report, Scanner, find, records, scan
from harness.console.lines import LINE_LIMIT, decode
from harness.console.scanner import BODY_LINES
from harness.console.stack import plain_name, title_name
from harness.console.title import source_path, stable

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WARN = "WARNING: CPU: 1 PID: 9 at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10"


def text(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def titles(console: bytes) -> list[str]:
    return [report.title for report in find(console)]


def expected() -> dict[str, list[tuple[str, ...]]]:
    """Log → its reports, by expected.tsv."""
    wanted: dict[str, list[tuple[str, ...]]] = {path.name: [] for path in sorted(GOLDEN.glob("*.log"))}
    rows = [line for line in (GOLDEN / "expected.tsv").read_text().splitlines() if not line.startswith("#")]
    for row in rows[1:]:
        name, *rest = row.split("\t")
        wanted[name].append(tuple(rest))
    return wanted


def row(report: Report) -> tuple[str, ...]:
    torn = "torn" if report.torn else "whole"
    return (str(report.line), report.type, report.title, torn, report.task or "-", report.site or "-")


@pytest.mark.parametrize(("name", "wanted"), expected().items())
def test_golden_logs(name: str, wanted: list[tuple[str, ...]]) -> None:
    assert [row(report) for report in find((GOLDEN / name).read_bytes())] == wanted


def test_the_title_is_the_same_whatever_the_compiler_and_the_run() -> None:
    """It has no addresses, offsets, pids, CPUs or names of the compiler's clones of a function."""
    first = text("[    1.000001][  T9] WARNING: CPU: 1 PID: 9 at mm/rmap.c:12 try_to_unmap_one.isra.0+0x5/0x10")
    second = text(
        "[  777.000001][ T88] WARNING: CPU: 0 PID: 88 at ./mm/rmap.c:99 try_to_unmap_one.constprop.0.cold+0xf5/0x1"
    )
    new = text("[    1.000001][  T9] WARNING: mm/rmap.c:12 at try_to_unmap_one+0x5/0x10, CPU#1: drive/9")

    assert titles(first) == titles(second) == titles(new) == ["WARNING in try_to_unmap_one"]


@pytest.mark.parametrize(
    ("old", "new", "title"),
    [
        (
            ("BUG: workqueue leaked lock or atomic: kworker/0:0/0x00000001/4", "     last function: nh_work"),
            (
                "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[12]",
                "     preempt=0x00000000 lock=0->1 RCU=0->0 workfn=nh_work",
            ),
            "BUG: workqueue leaked lock or atomic in nh_work",
        ),
        (
            ("BUG: KASAN: double-free or invalid-free in nh_release+0x1/0x2",),
            ("BUG: KASAN: invalid-free in nh_release+0x1/0x2",),
            "KASAN: invalid-free in nh_release",
        ),
        (
            ("divide error: 0000 [#1] SMP", "RIP: 0010:nh_rate+0x1/0x2"),
            ("divide_error: 0000 [#1] SMP", "RIP: 0010:nh_rate+0x1/0x2"),
            "divide error in nh_rate",
        ),
        (
            ("WARNING: CPU: 1 PID: 9 at mm/rmap.c:12 nh_warn+0x5/0x10",),
            ("WARNING: [nh] mm/rmap.c:12 at nh_warn+0x5/0x10, CPU#1: drive/9",),
            "WARNING in nh_warn",
        ),
    ],
)
def test_the_title_is_the_same_in_every_kernel_version(old: tuple[str, ...], new: tuple[str, ...], title: str) -> None:
    """Linux v6.4 says double-free, v6.9 workfn=, v5.8 misspelt divide_error, v6.19 the new WARNING."""
    assert titles(text(*old)) == titles(text(*new)) == [title]


def test_a_report_whose_first_line_lost_its_stamp_is_whole() -> None:
    """Another CPU, or a program, wrote into the line; the caller is known from the next line."""
    console = text(
        "foo baWARNING: suspicious RCU usage",
        "[    1.000001][   T9] Call Trace:",
        "[    1.000002][   T8] someone else",
        "[    1.000003][   T9]  nh_walk+0x1/0x2",
    )
    (report,) = find(console)

    assert report.title == "WARNING: suspicious RCU usage in nh_walk"
    assert "someone else" not in report.text


@pytest.mark.parametrize(
    "line", ["DEBUG: KASAN: x in y+0x1/0x2", 'cmd="BUG: KASAN: x in y+0x1/0x2"', "no_BUG: KASAN: x"]
)
def test_a_word_that_goes_on_to_the_left_is_another(line: str) -> None:
    assert titles(text(f"[    1.000001][   T9] {line}")) == []


STACK = ("schedule+0x1/0x2", "nh_inner+0x1/0x2", "nh_asked+0x1/0x2", "vfs_ioctl+0x1/0x2", "do_syscall_64+0x1/0x2")


@pytest.mark.parametrize(
    ("first", "frames", "title"),
    [
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [drive:1]", STACK[1:], "BUG: soft lockup in nh_asked"),
        ("INFO: task drive:1 blocked for more than 10 seconds.", STACK, "INFO: task hung in nh_inner"),
        (
            "INFO: task drive:1 blocked for more than 10 seconds.",
            ("schedule+0x1/0x2", "synchronize_srcu+0x1/0x2", "mmu_notifier_unregister+0x1/0x2"),
            "INFO: task hung in synchronize_rcu",
        ),
        (
            "INFO: task drive:1 blocked for more than 10 seconds.",
            ("schedule+0x1/0x2", "nh_inner+0x1/0x2", "rtnl_lock+0x1/0x2"),
            "INFO: task hung in rtnl_lock",
        ),
        ("general protection fault: 0000 [#1]", ("memcpy+0x1/0x2", *STACK[1:]), "general protection fault in nh_inner"),
        (
            "BUG: memory leak",
            ("kmalloc_trace+0x1/0x2", "sk_alloc+0x1/0x2", "nh_open+0x1/0x2"),
            "memory leak in nh_open",
        ),
    ],
)
def test_the_frame_is_chosen_by_the_kind_of_report(first: str, frames: tuple[str, ...], title: str) -> None:
    trace = ("Call Trace:", *(f" {frame}" for frame in frames))

    assert titles(text(*(f"[    1.000001][   T9] {line}" for line in (first, *trace)))) == [title]


def test_an_inlined_function_is_in_no_title() -> None:
    """A report has the same title before and after it was symbolised."""
    frames = (" nh_small mm/nh.c:1 [inline]", " nh_outer+0x1/0x2 mm/nh.c:2")

    assert titles(text(f"[    1.0] {WARN.replace('try_to_unmap_one', 'memcpy')}", "Call Trace:", *frames)) == [
        "WARNING in nh_outer"
    ]


@pytest.mark.parametrize(
    ("function", "plain", "named"),
    [
        ("foo.isra.0.constprop.3", "foo", "foo"),
        ("foo.cold", "foo", "foo"),
        ("foo.llvm.1234567890", "foo", "foo"),
        ("__x64_sys_ioctl", "__x64_sys_ioctl", "sys_ioctl"),
        ("__arm64_sys_socket", "__arm64_sys_socket", "sys_socket"),
        ("smp_call_function_many_cond", "smp_call_function_many_cond", "smp_call_function"),
        ("synchronize_rcu_expedited", "synchronize_rcu_expedited", "synchronize_rcu"),
    ],
)
def test_names_lose_what_compiler_and_architecture_added(function: str, plain: str, named: str) -> None:
    assert plain_name(function) == plain
    assert title_name(function) == named


def test_stable_text_has_no_number_or_address() -> None:
    assert stable("page ffff888003a1c420 of 17 at 0x12") == "page ADDR of NUM at ADDR"


@pytest.mark.parametrize("path", ["mm/rmap.c:1", "./mm/rmap.c:1", "../mm/rmap.c:1", "../linux-6.12/mm/rmap.c:1"])
def test_a_site_is_named_as_in_the_tree(path: str) -> None:
    assert source_path(path) == "mm/rmap.c:1"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("[    1.234567][  T123] text", [("T123", "text")]),
        ("<4>[    1.234567][    C0] text", [("C0", "text")]),
        ("[    1.234567] text", [("", "text")]),
        ("text", [("", "text")]),
        ("login: [    1.234567][   T1] text", [("", "login: "), ("T1", "text")]),
        ("[    1.2345[    1.234567][   T1] text", [("", "[    1.2345"), ("T1", "text")]),
        ("[    1.234567] a[    1.234568] b", [("", "a"), ("", "b")]),
        (
            "** 12 printk messages dropped ** [    1.234567] text",
            [("", "** 12 printk messages dropped ** "), ("", "text")],
        ),
        ("Nov 24 07:00:00 host kernel: [    1.234567] text", [("", "text")]),
        ("[Tue Nov 24 07:00:00 2026] text", [("", "text")]),
    ],
)
def test_records_begin_where_printk_began_them(line: str, wanted: list[tuple[str, str]]) -> None:
    assert [(record.caller, record.text) for record in records(line, 1)] == wanted


def test_terminal_control_and_bad_bytes_are_taken_out_of_a_line() -> None:
    assert decode(b"\x1b[31mred\x1b[0m \xff\xfe \0end\r\n") == "red \\xff\\xfe end"


def test_reports_of_two_callers_do_not_mix() -> None:
    """PRINTK_CALLER tells which task or CPU wrote a line."""
    console = text(
        f"[    1.000001][   T9] {WARN}",
        "[    1.000002][   T8] BUG: KASAN: use-after-free in foo+0x1/0x2",
        "[    1.000003][   T9] Call Trace:",
        "[    1.000004][   T8] Read of size 4 at addr ffff888003a1c420 by task x/8",
    )
    warn, kasan = find(console)

    assert "Call Trace" in warn.text
    assert "Read of size" not in warn.text
    assert kasan.title == "KASAN: use-after-free Read in foo"


@pytest.mark.parametrize(
    "lines",
    [
        ("EXT4-fs: Warning: mounting with an experimental option",),
        ("WARNING: fbcon: driver missed to adjust virtual screen size", "more", "and more"),
        ("INFO: lockdep is turned off.",),
        ("INFO: NMI handler (perf_event_nmi_handler) took too long to run: 2.277 msecs",),
        ("rcu: INFO: rcu_preempt self-detected a change of mind",),
        ("drive[12]: segfault at 0 ip 0 sp 0 error 4",),
        ("watchdog: Delayed init of the lockup detector failed: -19",),
        ("Kernel command line: panic=-1 oops=panic softlockup_panic=1",),
    ],
)
def test_what_is_no_report_stays_silent(lines: tuple[str, ...]) -> None:
    assert titles(text(*(f"[    1.00000{n}][   T1] {line}" for n, line in enumerate(lines)))) == []


def test_a_doubtful_line_counts_when_a_stack_follows() -> None:
    """Drivers warn of old hardware in the same words."""
    line = "[    1.000001][   T1] WARNING: something that nobody has seen before"

    assert titles(text(line, "[    1.000002][   T1] all is well")) == []
    assert titles(text(line, "[    1.000002][   T1] Call Trace:", "[    1.000003][   T1]  foo+0x1/0x2")) == [
        "WARNING: something that nobody has seen before"
    ]


def test_a_panic_alone_is_a_report_and_after_a_report_it_is_its_end() -> None:
    panic = "[    2.000001][   T1] Kernel panic - not syncing: Fatal exception"

    assert titles(text(panic)) == ["kernel panic: Fatal exception"]
    assert titles(text(f"[    1.000001][   T1] {WARN}", panic)) == ["WARNING in try_to_unmap_one"]


def test_an_oom_kill_is_a_report() -> None:
    kill = "[    2.000001][   T1] Memory cgroup out of memory: Killed process 12 (drive) total-vm:5000kB"

    assert [(report.type, report.title) for report in find(text(kill))] == [
        ("DoS", "Memory cgroup out of memory: Killed process")
    ]


def test_a_second_boot_is_a_report() -> None:
    boot = "[    0.000000][   T0] Linux version 6.12.117 (h@h)"
    up = "[    5.123456][   T1] up and running"

    assert titles(text(boot, up)) == []
    assert titles(text(boot, up, boot, up)) == ["unexpected kernel reboot"]
    assert titles(text("[    9.123456][   T1] the end of a run", "Booting the kernel.", boot)) == [
        "unexpected kernel reboot"
    ]


def test_a_report_without_its_stack_is_torn() -> None:
    hung = "[    9.000001][  T25] INFO: task drive:77 blocked for more than 10 seconds."
    (report,) = find(text(hung))

    assert report.torn
    assert report.title == "INFO: task hung in corrupted"


def test_reports_that_differ_in_registers_alone_are_judged_alike_and_keep_their_own_text() -> None:
    def report(registers: int, function: str) -> str:
        return (
            "general protection fault: 0000 [#1] SMP\nCPU: 0 PID: 44 Comm: drive Not tainted 6.12.117 #1\n"
            f"RIP: 0010:{function}+0x1/0x2\nRSP: 0018:ffffc900000{registers:05} EFLAGS: 00010246\n"
            f"RAX: ffff8880000{registers:05} RBX: 0000000000000001\nRIP: 0033:0x7f{registers:010}\n user+0x1/0x2\n"
            f"Call Trace:\n {function}+0x1/0x2\n"
        )

    written = [report(1, "nh_one"), report(2, "nh_one"), report(2, "nh_two")]
    reports = find("".join(written).encode())

    assert [report.text + "\n" for report in reports] == written
    assert [report.title.rpartition(" ")[2] for report in reports] == ["nh_one", "nh_one", "nh_two"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=60), st.sampled_from(sorted(GOLDEN.glob("*.log"))))
def test_it_does_not_matter_in_which_pieces_a_console_comes(cuts: list[int], path: Path) -> None:
    data = path.read_bytes()
    scanner, position = Scanner(), 0
    got: list[Report] = []
    for size in cuts:
        got += scanner.feed(data[position : position + size])
        position += size
    got += [*scanner.feed(data[position:]), *scanner.close()]

    assert got == list(find(data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4000))
def test_any_bytes_are_a_console(data: bytes) -> None:
    assert list(scan(io.BytesIO(data))) == list(find(data))


def test_memory_is_bounded_whatever_comes() -> None:
    """A report that never ends, a line that never ends, and callers that never speak again."""
    scanner = Scanner()
    got: list[Report] = []
    for number in range(3000):
        got += scanner.feed(f"[    1.000001][T{number}] {WARN}\n".encode())
        assert len(scanner._open) <= 8
        assert len(scanner._queue) <= 8
    for _ in range(5000):
        got += scanner.feed(b"[    1.000002][T2999]  ? foo+0x1/0x2\n")
    for _ in range(100):
        got += scanner.feed(b"x" * LINE_LIMIT)
        assert len(scanner._rest) <= 2 * LINE_LIMIT
    got += scanner.close()

    assert len(got) == 3000
    assert got[-1].text.count("\n") < BODY_LINES
