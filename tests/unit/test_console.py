# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.guest.console import Console, Terminal, clean
from harness.host.clock import Deadline
from harness.model.errors import GuestLost, OutOfSpace

SOON = 10.0


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log", limit_bytes=1 << 20)
    yield console, theirs
    theirs.close()
    console.close()


def finish(theirs: socket.socket, console: Console) -> None:
    """Close the guest's end and wait until everything was read."""
    theirs.close()
    console.settle(SOON)
    assert console.ended


def test_the_log_is_kept_byte_for_byte(ends):
    console, theirs = ends
    raw = b"[    0.0] Linux\r\n\xff\xfe\x00\x1b[31mred\r\nno newline at the end"
    theirs.sendall(raw)
    finish(theirs, console)

    assert console.log.read_bytes() == raw


def test_lines_reach_the_listener_whole(tmp_path: Path):
    """A line that arrives in pieces is one line; carriage returns of the serial port are gone; bytes stay visible."""
    lines: list[str] = []
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log", lines.append)
    for piece in (b"one\r\ntw", b"o \xff", b"\r\nthree"):
        theirs.sendall(piece)
    finish(theirs, console)
    console.close()

    assert lines == ["one", "two \\xff"]


def test_a_flood_fills_neither_disk_nor_memory(ends):
    """Beyond the limit the file ends with a note, the count goes on, and a line without end is cut."""
    console, theirs = ends
    flood = b"x" * (1 << 16)
    for _ in range(40):
        theirs.sendall(flood)
    theirs.sendall(b"\nlast line\n")
    finish(theirs, console)

    kept = console.log.read_bytes()
    assert len(kept) < (1 << 20) + 200
    assert kept.endswith(b"counted only]\n")
    assert console.size == 40 * len(flood) + 11
    assert console.tail(1) == "last line"
    assert len(console.tail(400)) < 2 << 20


def test_a_panic_is_seen_and_cleaned(tmp_path: Path):
    told = threading.Event()
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log", on_change=told.set)
    theirs.sendall(b"[  1.0] Kernel panic - not syncing: \x1b]0;title\x07 gone\r\n")

    assert told.wait(SOON)
    assert console.panic == "[  1.0] Kernel panic - not syncing: \\x1b]0;title\\x07 gone"
    theirs.close()
    console.close()


@pytest.mark.parametrize("line", ["Oops: 0000 [#1] SMP", "BUG: unable to handle page fault for address: 0"])
def test_an_oops_is_seen(ends, line: str):
    console, theirs = ends
    theirs.sendall(f"[  1.0] {line}\n".encode())
    finish(theirs, console)

    assert line in console.oops
    assert not console.panic


def test_waiting_finds_what_came_before_and_what_comes(ends):
    console, theirs = ends
    theirs.sendall(b"first 1\n")
    assert console.wait_for(r"first (\d)", Deadline(SOON))[1] == "1"
    mark = console.mark()
    threading.Timer(0.05, theirs.sendall, [b"first 2\nsecond 3\n"]).start()

    assert console.wait_for(r"first (\d)", Deadline(SOON), since=mark)[1] == "2"
    assert console.wait_for(r"second (\d)", Deadline(SOON))[1] == "3"
    assert console.text_since(mark).startswith("first 2")


def test_waiting_ends_with_the_deadline_or_with_the_console(ends):
    console, theirs = ends
    with pytest.raises(TimeoutError, match="no 'never' after"):
        console.wait_for("never", Deadline(0.05))
    finish(theirs, console)
    with pytest.raises(GuestLost, match="ended without 'never'"):
        console.wait_for("never", Deadline(SOON))


def test_a_full_disk_is_told_and_does_not_stall_the_guest():
    """The reader reads on: a guest whose console is not read stops at its next line."""
    ours, theirs = socket.socketpair()
    console = Console(ours, Path("/dev/full"))
    theirs.sendall(b"a line\nKernel panic - not syncing: later\n")
    finish(theirs, console)

    assert isinstance(console.failure, OutOfSpace)
    assert console.panic
    console.close()


def test_clean_leaves_nothing_that_a_terminal_obeys():
    hostile = b"a\tb\r\nc\x1b[2J\x07\x00\x7f" + "\u202e\x9b".encode() + b"\xff"

    assert clean(hostile) == "a\tb\nc\\x1b[2J\\x07\\x00\\x7f\\x202e\\x9b\\xff"


def test_the_terminal_returns_what_a_command_printed():
    """Nothing of what was typed is in it, though that comes back too, here twice."""
    ours, theirs = socket.socketpair()

    def shell() -> None:
        theirs.recv(100)
        theirs.sendall(b"\r\nguest# ")
        typed = theirs.recv(200)
        theirs.sendall(2 * typed.replace(b"\n", b"\r\n") + b"harness-begin\r\n/dev/hvc0\r\nharness-done\r\nguest# ")

    thread = threading.Thread(target=shell, daemon=True)
    thread.start()
    terminal = Terminal(ours)

    assert terminal.run("tty", SOON) == "/dev/hvc0\n"
    thread.join(SOON)
    theirs.close()
    with pytest.raises(GuestLost):
        terminal.run("tty", SOON)
    terminal.close()
