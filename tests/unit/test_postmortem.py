# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.guest.console import Console
from harness.guest.machine import Machine
from harness.host import process
from harness.kernel.build import KernelBuild
from harness.model.errors import MachineError
from harness.model.postmortem import PostMortem, Wait
from harness.postmortem import examine, kdump, registers
from harness.postmortem.core import Core
from harness.postmortem.symbols import Symbols

TABLE = [
    (0xFFFFFFFF81000000, "_text", ""),
    (0xFFFFFFFF81000000, "first", ""),
    (0xFFFFFFFF81000100, "wait.isra.0", ""),
    (0xFFFFFFFF81000180, "last", ""),
    (0xFFFFFFFFC0000000, "nh_wait", "notifier_hold"),
    (0xFFFFFFFFC0000040, "nh_end", "notifier_hold"),
]

# info registers -a of QEMU 7.2, shortened: an idle CPU, and one in user space with page tables of five levels.
LOOK = """
CPU#0
RAX=0000000000000000 RBX=0000000000000000 RCX=00000005ab03f600 RDX=0000000000000000
RIP=ffffffff81340f03 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CR0=80050033 CR2=00007f7fdb5df000 CR3=0000000003414000 CR4=003506b0

CPU#1
RIP=000000000043d073 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
CR0=80050033 CR2=00007f7fdb5df000 CR3=0000000003414000 CR4=003516b0
"""


def flattened(*records: tuple[int, bytes], end: bool = True) -> bytes:
    """A file as dump-guest-memory writes it."""
    parts = [b"makedumpfile".ljust(4096, b"\0")]
    parts += [struct.pack(">qq", offset, len(data)) + data for offset, data in records]
    return b"".join([*parts, struct.pack(">qq", -1, -1) if end else b""])


def test_an_address_is_named_as_the_kernel_prints_it():
    symbols = Symbols(TABLE)

    assert symbols.name(0xFFFFFFFF81000108) == "wait.isra.0+0x8/0x80"
    assert symbols.name(0xFFFFFFFFC0000010) == "nh_wait+0x10/0x40 [notifier_hold]"
    assert symbols.name(0x1234) == "0x1234"


def stacked(offset: int, *callers: int, top: int) -> list[str]:
    """The stack of a CPU `offset` bytes into wait(), as drgn shows it and with `top` on the stack."""
    core = Core.__new__(Core)
    core.symbols = Symbols(TABLE)
    frames = [
        SimpleNamespace(pc=pc, interrupted=number == 0, register=lambda _: 0x1000)
        for number, pc in enumerate([0xFFFFFFFF81000100 + offset, *callers])
    ]
    memory = {0x1000 + 8 * offset: top}
    core.program = cast("Any", SimpleNamespace(stack_trace=lambda _: frames, read_u64=lambda at: memory[at]))
    return [frame.text for frame in core.stack(cast("Any", SimpleNamespace()))]


@pytest.mark.parametrize("offset", [0, 1])
def test_the_caller_of_a_function_that_was_just_entered_is_in_its_stack(offset):
    """Frame pointers do not show the caller, DWARF does; later the end of the stack can hold any value."""
    whole = [f"wait.isra.0+{offset:#x}/0x80", "_text+0x20/0x100", "nh_wait+0x10/0x40 [notifier_hold]"]

    assert stacked(offset, 0xFFFFFFFFC0000010, top=0xFFFFFFFF81000020) == whole
    assert stacked(offset, 0xFFFFFFFF81000020, 0xFFFFFFFFC0000010, top=0xFFFFFFFF81000020) == whole
    assert stacked(offset, 0xFFFFFFFFC0000010, top=0x1234) == [whole[0], whole[2]]
    assert stacked(4, 0xFFFFFFFFC0000010, top=0xFFFFFFFF81000020) == ["wait.isra.0+0x4/0x80", whole[2]]


def test_where_a_call_at_a_functions_end_returns_to_is_still_that_function():
    symbols = Symbols(TABLE)

    assert symbols.name(0xFFFFFFFF81000180, called=True) == "wait.isra.0+0x80/0x80"
    assert symbols.name(0xFFFFFFFF81000180) == "last+0x0/0x0"


def test_a_modules_names_do_not_hide_the_kernels():
    symbols = Symbols(TABLE).plus([(0xFFFFFFFFC0000050, "first", "other")])

    assert symbols.addresses["first"] == 0xFFFFFFFF81000000
    assert symbols.name(0xFFFFFFFFC0000051) == "first+0x1/0x0 [other]"


def test_registers_tell_halted_from_running_and_kernel_from_user():
    idle, busy = registers.parse(LOOK)

    assert (idle.cpu, idle.rip, idle.halted, idle.user, idle.five_levels) == (0, 0xFFFFFFFF81340F03, True, False, False)
    assert (busy.cpu, busy.rip, busy.halted, busy.user, busy.five_levels) == (1, 0x43D073, False, True, True)


def test_registers_that_are_none_are_no_error(tmp_path: Path):
    assert registers.parse("unknown command\nCPU#0\nno rip") == []
    assert registers.read(tmp_path) == ([], [])


def test_a_flattened_dump_is_put_in_order_and_told_its_kernel(tmp_path: Path):
    """Later records win, holes are zeros, and the header names the kernel as libkdumpfile wants it."""
    (tmp_path / "flat").write_bytes(flattened((500, b"tail"), (0, b"KDUMP   "), (8, b"\6\0\0\0"), (500, b"TAIL")))

    kdump.assemble(tmp_path / "flat", tmp_path / "dump", "6.12.117")

    raw = (tmp_path / "dump").read_bytes()
    assert raw[:12] == b"KDUMP   \6\0\0\0"
    assert [raw[12 + 65 * n :][:65].rstrip(b"\0") for n in (0, 2, 4)] == [b"Linux", b"6.12.117", b"x86_64"]
    assert raw[402:] == bytes(98) + b"TAIL"


@pytest.mark.parametrize("raw", [b"", b"KDUMP   ", flattened((0, b"x"), end=False)])
def test_what_is_no_flattened_dump_is_refused(tmp_path: Path, raw: bytes):
    (tmp_path / "flat").write_bytes(raw)

    with pytest.raises(MachineError, match="flat"):
        kdump.assemble(tmp_path / "flat", tmp_path / "dump", "6.12")


def test_a_look_that_fails_is_told_and_fails_nothing(tmp_path: Path):
    def execute(*_: Any, **__: Any) -> None:
        raise MachineError("QEMU's monitor: gone")

    machine = cast("Machine", SimpleNamespace(monitor=SimpleNamespace(execute=execute)))
    kernel = cast("KernelBuild", SimpleNamespace(release="6.12"))

    assert examine.examine(machine, kernel, tmp_path, tmp_path).cause == "post-mortem: QEMU's monitor: gone"
    assert "looked at from outside" in (tmp_path / "postmortem.txt").read_text()


@pytest.mark.parametrize(
    ("ends", "trouble"),
    [("", ""), ("; sys.exit(3)", "drgn ended with status 3"), ("; time.sleep(60)", "drgn is not done")],
)
def test_a_circle_outlives_the_reader_that_found_it(ends: str, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is proof, whatever becomes of the rest of the dump."""
    monkeypatch.setattr(examine, "_READ_LIMIT_S", 2.0)
    waits = '[{"pid": 1, "task": "pid 1 a", "where": ["f", "g"], "switches": 5, "ends": false}]'
    told = f'{{"circles": [["pid 1 a", "pid 2 b"]], "waits": {waits}}}'
    says = f"import sys, time; sys.stdin.readline(); print({told!r}, flush=True)"
    argv = [sys.executable, "-c", says + ends]

    with process.running(process.spawn(argv, stdin=subprocess.PIPE)) as child:
        found, said = examine.read(child)

    assert found.circles == [["pid 1 a", "pid 2 b"]]
    assert found.waits == [Wait(1, "pid 1 a", ("f", "g"))]
    assert said.startswith(trouble)
    assert bool(said) is bool(trouble)


@pytest.mark.parametrize("says", ["", "print(3)", "print('{}')", "print('{\"circles\": [[1]]}')"])
def test_a_reader_that_says_nothing_of_use_has_found_no_circle(says: str) -> None:
    argv = [sys.executable, "-c", says]

    with process.running(process.spawn(argv, stdin=subprocess.PIPE)) as child:
        assert examine.read(child) == (PostMortem(), "")


def test_the_cause_is_the_first_paragraph_and_short_and_safe_to_print(tmp_path: Path):
    lines = [f"line {n}" for n in range(100)]
    (tmp_path / "postmortem.txt").write_text("\x1b[2J" + "\n".join(lines) + "\n\nCPUs\n")

    cause = examine.cause(tmp_path).splitlines()

    assert cause[0] == "\\x1b[2Jline 0"
    assert cause[-1] == f"… {100 - 40} more lines in postmortem.txt"
    assert examine.cause(tmp_path / "none") == ""


def test_silence_counts_from_the_last_that_a_guest_printed(tmp_path: Path, monkeypatch):
    """By a clock of the test's own."""
    now = [100.0]
    monkeypatch.setattr("harness.guest.console.time", SimpleNamespace(monotonic=lambda: now[0]))
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log")
    now[0] = 105.0
    assert console.silent_s == 5.0

    theirs.sendall(b"alive\n")
    theirs.close()
    console.settle(30)
    now[0] = 107.0

    assert console.silent_s == 2.0
    console.close()


def test_what_a_guest_is_made_to_say_is_kept_aside_and_is_no_evidence(tmp_path: Path):
    ours, theirs = socket.socketpair()
    heard: list[str] = []
    console = Console(ours, tmp_path / "console.log", heard.append)
    theirs.sendall(b"before\n")
    assert console.wait_more(0, 30)

    console.divert(tmp_path / "nmi.log")
    theirs.sendall(b"Kernel panic - not syncing: NMI\n")
    theirs.close()
    console.settle(30)

    assert (tmp_path / "console.log").read_bytes() == b"before\n"
    assert (tmp_path / "nmi.log").read_bytes() == b"Kernel panic - not syncing: NMI\n"
    assert (heard, console.panic) == (["before"], "")
    console.close()
