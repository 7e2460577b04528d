# SPDX-License-Identifier: GPL-2.0-only
"""Logs as people have them: every class of report in every wrapping is read as on a raw console."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.console import Scanner, find, patterns, prefix
from harness.console.pattern import Pattern
from tests.unit.fuzzing import fuzz

# Before and after a report, as on any machine.
BEFORE = ("usb 1-1: new high-speed USB device number 2 using xhci_hcd", "EXT4-fs (vda): mounted filesystem r/w")
AFTER = ("usb 1-1: USB disconnect, device number 2", "eth0: renamed from veth0")
TRACE = (
    "CPU: 1 UID: 0 PID: 9 Comm: drive Tainted: G           O       6.12.117 #1",
    "Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-1 04/01/2014",
    "RIP: 0010:nh_inner+0x1c/0x60 [nh]",
    "RSP: 0018:ffffc90000117d88 EFLAGS: 00010246",
    "",
    "Call Trace:",
    " <TASK>",
    " dump_stack_lvl+0x5d/0x80",
    " ? nh_guess+0x1/0x2",
    " nh_inner+0x1c/0x60 [nh]",
    " nh_asked+0x2f4/0x4c0 [nh]",
    " __x64_sys_ioctl+0x91/0xd0",
    " do_syscall_64+0x82/0x160",
    " </TASK>",
    "---[ end trace 0000000000000000 ]---",
)

Wrapping = Callable[[int, str], str]


def stamp(number: int) -> str:
    return f"[{3.0 + number / 1000:12.6f}]"


# The n-th line of a log as some tool writes it.
WRAPPINGS: dict[str, Wrapping] = {
    "printk": lambda n, text: f"{stamp(n)} {text}",
    "printk with caller": lambda n, text: f"{stamp(n)}[   T12] {text}",
    "printk with level": lambda n, text: f"<4>{stamp(n)} {text}",
    "dmesg -t": lambda _, text: text,
    "dmesg -T": lambda n, text: f"[Mon Sep  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -T, German": lambda n, text: f"[Mo Sep  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -T, French": lambda n, text: f"[lun. sept.  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -T, Russian": lambda n, text: f"[Пн сен  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -T, Japanese": lambda n, text: f"[月 9月  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -T, year first": lambda n, text: f"[2029年 09月 03日 月曜日 05:57:{n % 60:02} JST] {text}",
    "dmesg -x": lambda n, text: f"kern  :warn  : {stamp(n)} {text}",
    "dmesg -x with caller": lambda n, text: f"kern  :warn  : {stamp(n)} [      T0] {text}",
    "dmesg -x -t": lambda n, text: f"kern  :{'alert' if n % 2 else 'err'}   : {text}",
    "dmesg -x -T": lambda n, text: f"kern  :emerg : [Mon Sep  3 05:57:{n % 60:02} 2029] {text}",
    "dmesg -e": lambda n, text: f"[  +0.{n:06}] {text}" if n % 7 else f"[Sep 3 05:57] {text}",
    "dmesg -d": lambda n, text: f"[{3.0 + n / 1000:12.6f} <{n / 1000:12.6f}>] {text}",
    "dmesg -d -t": lambda n, text: f"[<{n / 1000:12.6f}>] {text}",
    "dmesg -d -T": lambda n, text: f"[Mon Sep  3 05:57:{n % 60:02} 2029 <{n / 1000:12.6f}>] {text}",
    "dmesg --time-format iso": lambda n, text: f"2029-09-03T05:57:48,{n:06}+02:00 {text}",
    "dmesg -x --time-format iso": lambda n, text: f"kern  :warn  : 2029-09-03T05:57:48,{n:06}+02:00 {text}",
    "journalctl -o short": lambda n, text: f"Sep 03 05:57:{n % 60:02} host kernel: {text}",
    "journalctl -o short-precise": lambda n, text: f"Sep 03 05:57:48.{n:06} host kernel: {text}",
    "journalctl -o short-iso": lambda n, text: f"2029-09-03T05:57:{n % 60:02}+0200 host kernel: {text}",
    "journalctl -o short-iso-precise": lambda n, text: f"2029-09-03T05:57:48.{n:06}+0200 host kernel: {text}",
    "journalctl -o short-monotonic": lambda n, text: f"{stamp(n)} host kernel: {text}",
    "journalctl -o short-unix": lambda n, text: f"1883195868.{n:06} host kernel: {text}",
    "journalctl -o short-full": lambda n, text: f"Mon 2029-09-03 05:57:{n % 60:02} UTC host kernel: {text}",
    "journalctl, German": lambda n, text: f"Sep 03 05:57:{n % 60:02} büro-pc kernel: {text}",
    "syslog": lambda n, text: f"Sep  3 05:57:{n % 60:02} host kernel: {stamp(n)} {text}",
    "syslog, RFC 3339": lambda n, text: f"2029-09-03T05:57:48.{n:06}+02:00 host kernel: {stamp(n)} {text}",
    "syslog, RFC 5424": lambda n, text: f"<4>1 2029-09-03T05:57:48.{n:06}Z host kernel - - - {text}",
    "syslog of busybox": lambda n, text: f"Mon Sep  3 05:57:{n % 60:02} 2029 kern.warn kernel: {stamp(n)} {text}",
    "kernel:": lambda _, text: f"kernel: {text}",
    "[t] kernel:": lambda n, text: f"[{323 + n / 1000:.6f}] kernel: {text}",
    "Android": lambda n, text: f"<6>{stamp(n)}  I[7:      swapper/0:    1] {text}",
    "Android without a clock": lambda _, text: f"I[7:  swapper/0:    1] {text}",
    "Android, CPU": lambda n, text: f"{stamp(n)} [2:  swapper/0:    1] {text}",
    "Android, no clock": lambda _, text: f"[2:  swapper/0:    1] {text}",
    "MediaTek": lambda n, text: f"<4>{stamp(n)}  (2)[123:kworker/2:1]{text}",
    "MediaTek, bootloader's": lambda n, text: f"<4>{stamp(n)}.(2)[123:kworker/2:1]{text}",
    "Huawei": lambda n, text: f"<4>{stamp(n)}[pid:123,cpu2,kworker/2:1]{text}",
    "Unisoc": lambda n, text: f"<4>{stamp(n)} c2 {text}",
    "/dev/kmsg": lambda n, text: f"4,{1000 + n},{125297687 + n},-;{text}",
    "/dev/kmsg with caller": lambda n, text: f"4,{1000 + n},{125297687 + n},-,caller=T12;{text}",
    "netconsole": lambda n, text: f"6.12.117,4,{1000 + n},{125297687 + n},-;{text}",
    "mail": lambda n, text: f"> {stamp(n)} {text}",
    "mail, twice": lambda n, text: f"> > {stamp(n)}[   T12] {text}",
    "mail, wide": lambda _, text: f">>    {text}",
    "mail, no clock": lambda _, text: f"> {text}",
    "mail, journal": lambda n, text: f"> Sep 03 05:57:{n % 60:02} host kernel: {text}",
    "bar": lambda _, text: f" | {text}",
    "table": lambda n, text: f"│ {stamp(n)} {text:<90} │",
    "box": lambda _, text: f"| {text:<90} |",
    "CI with time": lambda n, text: f"2029-09-03T05:57:48.{n:07}Z {stamp(n)} {text}",
    "CI with time, no clock": lambda n, text: f"2029-09-03T05:57:48.{n:07}Z {text}",
    "CI with time of day": lambda n, text: f"05:57:{n % 60:02}.{n:03} {stamp(n)} {text}",
    "CI with time in brackets": lambda n, text: f"[05:57:{n % 60:02}] {stamp(n)}[   T12] {text}",
    "CI with level": lambda n, text: f"2029-09-03 05:57:48,{n:03} INFO  console: {stamp(n)} {text}",
    "CI with job": lambda n, text: f"boot-x86 | {stamp(n)} {text}",
    "CI with job and number": lambda n, text: f"[job 7/12] step {n}: {stamp(n)} {text}",
    "CI with machine and channel": lambda n, text: f"[guest0/uart0] {stamp(n)} {text}",
    "docker compose": lambda n, text: f"qemu_1  | {stamp(n)}[   T12] {text}",
    "padded by a terminal": lambda n, text: f"{stamp(n)} {text:<170}",
    "colours": lambda n, text: f"\x1b[32m{stamp(n)}\x1b[0m \x1b[31m{text}\x1b[0m",
    "CRLF": lambda n, text: f"{stamp(n)} {text}\r",
    "indented": lambda n, text: f"    {stamp(n)} {text}",
    "indented, no clock": lambda _, text: f"      {text}",
}
# Where an unknown prefix and no clock leave only the words that are unmistakable.
VAGUE: dict[str, Wrapping] = {
    "job: ": lambda n, text: f"guest{n % 3}: {text}",
    "name: ": lambda _, text: f"vm-a console: {text}",
    "Kubernetes": lambda n, text: f"2029-09-03T05:57:48.{n:09}Z stdout F {text}",
    "grep -n": lambda n, text: f"{n + 118}{':' if n == len(BEFORE) else '-'}{text}",
}


def log(entry: Pattern, wrapping: Wrapping) -> bytes:
    lines = (*BEFORE, entry.sample, *TRACE, *AFTER)
    return "".join(wrapping(n, text) + "\n" for n, text in enumerate(lines)).encode()


def said(console: bytes) -> list[tuple[str, str, bool, str, int | None]]:
    return [(report.type, report.title, report.torn, report.task, report.pid) for report in find(console)]


# A program's words are no program's behind what the kernel writes; the tail of a torn name needs its whole line.
CLASSES = [entry for entry in patterns.PATTERNS if not entry.program and entry.name != "hung-task-tail"]


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_class_is_read_in_every_wrapping(name: str) -> None:
    other = {}
    for entry in CLASSES:
        wanted, got = said(log(entry, WRAPPINGS["printk"])), said(log(entry, WRAPPINGS[name]))
        if not wanted or got != wanted:
            other[entry.name] = (wanted, got)

    assert other == {}


@pytest.mark.parametrize("name", VAGUE)
def test_an_unknown_prefix_hides_no_unmistakable_report(name: str) -> None:
    other = {}
    for entry in CLASSES:
        wanted, got = said(log(entry, WRAPPINGS["printk"])), said(log(entry, VAGUE[name]))
        if not entry.first and entry.role.name != "WEAK" and got != wanted:
            other[entry.name] = (wanted, got)

    assert other == {}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_the_text_of_a_report_has_nothing_of_its_wrapping(name: str) -> None:
    warn = next(entry for entry in CLASSES if entry.name == "warn")
    (report,) = find(log(warn, WRAPPINGS[name]))

    assert [line.strip() for line in report.text.splitlines()] == [line.strip() for line in (warn.sample, *TRACE)]


def test_a_program_is_not_the_kernel() -> None:
    """Whatever it says, and whether or not syslogd knows its process."""
    console = "".join(
        f"Sep 03 05:57:48 host {tag}: {text}\n"
        for tag in ("gnome-shell[1234]", "myapp")
        for text in (
            "BUG: bad thing",
            "panic: runtime error: index out of range",
            "WARNING: CPU: 1 PID: 9 at a.c:1 b+0x5",
        )
    )

    assert find(console.encode()) == ()


def test_two_words_with_a_colon_are_not_always_a_host_and_its_process() -> None:
    """Mails leave out host and tag."""
    warn = next(entry for entry in CLASSES if entry.name == "null-dereference")

    assert said(log(warn, lambda _, text: f"May  4 14:08:51  {text}")) == said(log(warn, WRAPPINGS["printk"]))


def test_a_record_of_several_lines_is_taken_apart() -> None:
    """As syslogd writes it."""
    lines = ("WARNING: CPU: 1 PID: 9 at mm/rmap.c:12 nh_warn+0x5/0x10", *TRACE)
    (report,) = find(f"Sep  3 05:57:48 host kernel: [    3.078160] {'#012'.join(lines)}\n".encode())

    assert report.text.splitlines() == list(lines)
    assert not report.torn


@pytest.mark.parametrize(
    ("console", "wrapping"),
    [
        ("BUG: bad thing", "none"),
        ("[    1.000001][   T1] BUG: bad thing", "stamp+caller"),
        ("kern  :warn  : [    3.078160] [      T0] BUG: bad thing", "facility+stamp+caller"),
        ("Sep  3 05:57:48 host kernel: BUG: bad thing", "clock+kernel"),
        ("> > [Mon Sep  3 05:57:48 2029] BUG: bad thing", "quote+quote+date"),
    ],
)
def test_a_report_says_in_which_wrapping_it_was(console: str, wrapping: str) -> None:
    assert [report.wrapping for report in find(console.encode())] == [wrapping]


BOOT = "".join(
    f"[{time:12.6f}] {text}\n" for time, text in ((0, "Linux version 6.12.117"), (0.1, "a"), (0.2, "b"), (0.3, "c"))
)


@pytest.mark.parametrize(
    ("console", "resets"),
    [
        (BOOT, 0),
        (BOOT + BOOT, 0),
        (BOOT + BOOT.replace("0.100000", "0.100001"), 1),
        ("U-Boot SPL 2021.10\nU-Boot 2021.10\n" + BOOT, 0),
        (BOOT + "U-Boot SPL 2021.10\nU-Boot 2021.10\n" + BOOT.replace("0.1", "0.11"), 1),
        ("U-Boot 2021.10\n[    4.000000] spl\n" + BOOT, 0),
        ("[    3.123456] Linux version 6.12.117\n[    3.123457] a\n", 0),
        (BOOT + "Linux version 6.12.117 (cat /proc/version)\n", 0),
    ],
    ids=[
        "boot",
        "dumped again",
        "reset",
        "firmware",
        "reset to firmware",
        "stamped firmware",
        "late clock",
        "a program",
    ],
)
def test_a_reset_is_told_from_a_boot(console: str, resets: int) -> None:
    assert [report.type for report in find(console.encode())] == ["REBOOT"] * resets


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("BUG: i915 on x86 with eth10 and 12 more", "BUG: i915 on x86 with eth10 and NUM more"),
        ("BUG: KASAN: wild-memory-access on address dead000000000108", "KASAN: wild-memory-access in nh_inner"),
        (
            "BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0x1/0x2",
            "KASAN: slab-out-of-bounds in kmalloc_oob_right",
        ),
        ("WARNING: CPU: 6 PID: 1 at fn+0xa2/0x210 [mod]", "WARNING in fn"),
        ("WARNING: at fn+0xa2/0x210 [mod], CPU#6: drive/1", "WARNING in fn"),
        ("WARNING: mm/page_alloc.c:4000 at split+0x1/0x2", "WARNING in split"),
        ("WARNING: at /build/kernel/net/sched/sch_generic.c:255 dev_watchdog+0x1/0x2()", "WARNING in dev_watchdog"),
        ("BUG: Bad page map in process drive  pte:8000000123456867 pmd:1a2b3c067", "BUG: Bad page map"),
        ("Kernel bug detected[#1]:", "kernel BUG in nh_inner"),
        (
            "BUG: Unable to handle kernel instruction fetch (NULL function pointer?)",
            "BUG: unable to handle kernel paging request in nh_inner",
        ),
        (
            "Oops: general protection fault, kernel NULL pointer dereference 0x8: 0000 [#1] SMP",
            "general protection fault in nh_inner",
        ),
        ("Kernel panic - not syncing: Fatal hardware error!", "kernel panic: Fatal hardware error!"),
        ("Unhandled kernel unaligned access[#1]:", "Unhandled kernel unaligned access in nh_inner"),
        (
            "kworker/u8:1: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL)",
            "page allocation failure in nh_inner",
        ),
        (
            "WARNING: kernel stack regs at         (ptrval) in comm:123 has bad 'bp' value         (ptrval)",
            "WARNING: kernel stack regs has bad 'bp' value",
        ),
        ("WARNING: " + "long " * 60, "WARNING: " + "long " * 24 + "l"),
    ],
)
def test_titles(line: str, title: str) -> None:
    assert [report.title for report in find("\n".join((line, *TRACE)).encode())] == [title]


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        (
            (
                "INFO: task drive:77 blocked for more than 10 seconds.",
                "Backtrace: ",
                "[<c04d0800>] (schedule) from [<bf0b7480>] (nh_wait+0x1/0x2 [nh])",
                "[<bf0b7480>] (nh_wait [nh]) from [<bf51a24c>] (nh_asked+0x1/0x2 [nh])",
                "[<bf51a24c>] (nh_asked [nh]) from [<c003c658>] (kthread+0x1/0x2)",
            ),
            "INFO: task hung in nh_asked",
        ),
        (
            (
                "BUG: unable to handle page fault for address: ffffb3a08a1c9000",
                "Call Trace:",
                "? memcpy_toio+0x1/0x2",
                "nh_inner+0x1/0x2 [nh ae2e4a1b0a7aee0f]",
                "nh_asked+0x1/0x2 (P)",
            ),
            "BUG: unable to handle kernel paging request in nh_inner",
        ),
        (
            ("WARNING: CPU: 0 PID: 0 at nh.c:1 memcpy+0x1/0x2", "Call trace:", "[<(ptrval)>] nh_inner+0x1/0x2"),
            "WARNING in nh_inner",
        ),
        (
            (
                "CFI failure (target: nh_show.d5e1ad21498a5fd1.cfi_jt+0x0/0x8):",
                "WARNING: CPU: 3 PID: 1356 at kernel/cfi.c:29 __ubsan_handle_cfi_check_fail+0x33/0x40",
                "Call Trace:",
                " __cfi_check+0x4e0d0/0x4e0d0",
                " nh_inner+0x1/0x2",
            ),
            "CFI failure in nh_inner",
        ),
        (
            (
                "rust_kernel: panicked at drivers/nh.rs:12:34:",
                "attempt to subtract with overflow   ",
                "kernel BUG at rust/helpers/bug.c:7!",
                "Call Trace:",
                " rust_helper_BUG+0x1/0x2",
                " nh_inner+0x1/0x2",
            ),
            "attempt to subtract with overflow in nh_inner",
        ),
    ],
    ids=["ARM, a module's frame", "frames that lost their blank", "hidden addresses", "CFI of clang 13", "Rust"],
)
def test_frames_as_kernels_write_them(lines: tuple[str, ...], title: str) -> None:
    assert [report.title for report in find("\n".join(lines).encode())] == [title]


PANIC = "Kernel panic - not syncing: {}"


@pytest.mark.parametrize(
    "last",
    [
        PANIC.format("Oops - BUG: Fatal exception"),
        PANIC.format("Fatal exception: panic_on_oops"),
        "---[ end Kernel panic - not syncing: Asynchronous SError Interrupt ]---",
    ],
)
def test_what_the_kernel_says_last_is_no_other_report(last: str) -> None:
    lines = ("kernel BUG at mm/rmap.c:1233!", *TRACE, *("more of this",) * 60, last)

    assert [report.title for report in find("\n".join(lines).encode())] == ["kernel BUG in nh_inner"]


MISMATCH = "genirq: Flags mismatch irq 16. 00002080 (nh) vs. 00000000 (pciehp)"
OTHERS = ("task:drive state:S stack:0 pid:9 ppid:1 flags:0x2", "Call Trace:", " schedule+0x1/0x2", " nh_x+0x1/0x2")


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_stack_confirms_only_what_it_is_of(name: str) -> None:
    def titles(*lines: str) -> list[str]:
        wrapped = (WRAPPINGS[name](n, line) for n, line in enumerate((*BEFORE, *lines, *AFTER)))
        return [report.title for report in find("\n".join(wrapped).encode())]

    assert titles(MISMATCH, *TRACE) == ["genirq: Flags mismatch irq"]
    assert titles(MISMATCH, "nh: no irq 16: -16", *TRACE) == []
    assert titles("WARNING: fbcon: the driver missed it", "sysrq: Show State", *OTHERS) == []


def test_a_report_is_known_again_whatever_follows_its_dump() -> None:
    """What comes behind a report without an end mark may look like a part of it."""
    lines = ("BUG: KASAN: use-after-free in nh_x+0x1/0x2", *TRACE[:-1])
    dump = "".join(f"{stamp(n + 9000)} {line}\n" for n, line in enumerate(lines))
    boot = f"{stamp(0)} rcu: Preemptible hierarchical RCU implementation.\n"
    scanner = Scanner()

    (report, *others) = [*scanner.feed((dump + boot + dump).encode()), *scanner.close()]
    assert others == []
    assert scanner.times(report.line) == 2


def test_lockdep_is_not_to_blame() -> None:
    own = ("print_usage_bug", "valid_state", "mark_lock", "mark_irqflags", "__lock_acquire", "lock_acquire")
    trace = "".join(f" {function}+0x1/0x2\n" for function in (*own, "nh_take"))

    assert [report.title for report in find(f"WARNING: inconsistent lock state\nCall Trace:\n{trace}".encode())] == [
        "inconsistent lock state in nh_take"
    ]


TRAP = (
    "Alignment trap: not handling instruction e1932f9f at [<00010420>]\n"
    "Unhandled fault: alignment exception ({}) at 0x1\n"
)


def test_an_alignment_trap_of_a_program_is_none_of_the_kernel() -> None:
    dies = "Internal error: : 1 [#1] SMP ARM\nPC is at nh_load+0x1/0x2\nBacktrace:\n nh_load from nh_ioctl+0x1/0x2\n"

    assert find(TRAP.format("0x221").encode()) == ()
    assert [report.title for report in find((TRAP.format("0x001") + dies).encode())] == ["Alignment trap in nh_load"]


def test_a_guess_is_better_than_nothing() -> None:
    """Without frame pointers, an unwinder is sure of nothing."""
    trace = "".join(f" [<ffffffff8de17609>] ? {name}+0x1/0x2\n" for name in ("__schedule", "schedule", "nh_stuck"))
    (report,) = find(f"INFO: task drive:77 blocked for more than 10 seconds.\nCall Trace:\n{trace}".encode())

    assert report.title == "INFO: task hung in nh_stuck"


@pytest.mark.parametrize(
    "line", ["ALSA: seq fatal error: cannot create timer (-22)", "fatal error: cannot create timer"]
)
@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_fatal_error_of_a_driver_is_no_report(name: str, line: str) -> None:
    assert find(WRAPPINGS[name](1, line).encode()) == ()


HEADS = st.lists(
    st.sampled_from(
        ["> ", "[    1.000001] ", "kern  :warn  : ", "host kernel: ", "Sep  3 05:57:48 ", "[ T1] ", "05:57:48 "]
    ),
    max_size=6,
).map("".join)


@fuzz(150)
@given(HEADS, st.text(max_size=60))
def test_a_prefix_ends_within_its_line(head: str, text: str) -> None:
    found = prefix.read(head + text)

    assert 0 <= found.end <= len(head + text)
    assert prefix.shape(head or " ").match(head or " ")
