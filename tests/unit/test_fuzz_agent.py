# SPDX-License-Identifier: GPL-2.0-only
"""A guest that says anything at all to the agent's host side: it is lost, late or refused, and costs bounded memory."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest import agent as agents
from harness.guest.agent import MAGIC, PAYLOAD_MAX, Agent, Frame, GuestResult, GuestTimeout, _Conversation
from harness.host.clock import Deadline
from harness.model.errors import GuestLost, MachineError
from harness.run import drive, driven, watching
from tests.unit.fuzzing import fuzz

HEAD = struct.Struct("<IIII")
SOON = 10.0
NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([struct.pack("<i", n) for n in (0, 2, 28, 32, 110, -1, 1 << 30)]),
    st.sampled_from(
        [struct.pack("<Q", (1 << 64) - 1), b"abi=2\nmodules=ok\n=\n\xff=\xfe\n", b"line\nline\xff\n", b"\n" * 999]
    ),
)


def frame(number: int, kind: int, payload: bytes, size: int | None = None, magic: int = MAGIC) -> bytes:
    return HEAD.pack(magic, number, kind, len(payload) if size is None else size) + payload


FRAMES = st.one_of(
    st.builds(frame, NUMBERS, st.sampled_from(list(range(16, 23))), PAYLOADS),
    st.builds(frame, NUMBERS, st.sampled_from([17, 18, 19, 20, 21]), PAYLOADS),
    st.builds(frame, NUMBERS, st.integers(0, 40), PAYLOADS, st.one_of(st.none(), NUMBERS)),
    st.binary(max_size=20),
)
CALLS: dict[str, Callable[[Agent], object]] = {
    "run": lambda agent: agent.run(["x"], SOON, b"input"),
    "lines": lambda agent: list(agent.start(["x"]).lines(Deadline(SOON))),
    "read": lambda agent: agent.read_file("/x", SOON),
    "sink": lambda agent: agent.read_file("/x", SOON, io.BytesIO(), limit_bytes=50),
    "write": lambda agent: agent.write_file("/x", "1", SOON),
    "clock": lambda agent: agent.set_clock(1, SOON),
    "hello": lambda agent: agent.wait_hello(Deadline(SOON)),
    "ping": lambda agent: agent.ping(SOON),
}


def answer(guest: socket.socket, said: bytes, asked: bool = True) -> None:
    """Say something, when the harness has asked, and then never again."""
    if asked:
        guest.recv(1)
    guest.sendall(said)
    guest.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@fuzz(40)
@given(said=st.lists(FRAMES, max_size=8).map(b"".join))
def test_whatever_a_guest_says_it_is_lost_late_or_refused(call: Callable[[Agent], object], said: bytes) -> None:
    """The channel ends after it, so that nothing waits for a limit."""
    ours, theirs = socket.socketpair()
    agent = Agent(ours)
    try:
        guest = threading.Thread(target=answer, args=(theirs, said, call is not CALLS["hello"]))
        guest.start()
        # The second is what a file that is too long gets, the last what the guest's own open(2) would.
        with contextlib.suppress(GuestLost, MachineError, GuestTimeout, OSError):
            call(agent)
        guest.join(SOON)
        agent._reader.join(SOON)
        assert agent.lost
        assert "the harness could not" not in agent.lost
    finally:
        agent.close()
        theirs.close()


@pytest.mark.parametrize("kind", [Frame.EXEC, Frame.STDIN, Frame.KEEP])
def test_what_only_the_harness_sends_is_no_frame_of_a_guest(kind: Frame) -> None:
    with pytest.raises(GuestLost, match=f"unknown type {kind.value}"):
        agents._parse(HEAD.pack(MAGIC, 1, kind, 0))


def test_answers_that_nobody_asked_for_do_not_pile_up() -> None:
    talk = _Conversation()
    for _ in range(16):
        talk.take(Frame.DONE, struct.pack("<i", 0))

    with pytest.raises(GuestLost, match="answered what nobody asked"):
        talk.take(Frame.DONE, struct.pack("<i", 0))


def test_output_and_files_are_kept_up_to_a_limit() -> None:
    """On the host's disk, too; what was dropped is counted."""
    sink = io.BytesIO()
    for talk, held in ((_Conversation(limit=100_000), None), (_Conversation(sink=sink, limit=100_000), sink)):
        for _ in range(10):
            talk.take(Frame.DATA, b"x" * PAYLOAD_MAX)
        assert len(held.getvalue() if held else talk.stdout) <= 100_000
        assert talk.dropped >= 9 * PAYLOAD_MAX - 100_000


@pytest.fixture
def ends() -> Iterator[tuple[Agent, socket.socket]]:
    ours, theirs = socket.socketpair()
    agent = Agent(ours)
    yield agent, theirs
    agent.close()
    theirs.close()


def test_a_file_without_end_is_no_file(ends: tuple[Agent, socket.socket]) -> None:
    agent, theirs = ends
    said = b"".join([*[frame(1, Frame.DATA, b"x" * 1000)] * 3, frame(1, Frame.DONE, struct.pack("<i", 0))])
    threading.Thread(target=answer, args=(theirs, said)).start()

    with pytest.raises(MachineError, match=r"/log in the guest: more than 2500 bytes"):
        agent.read_file("/log", SOON, io.BytesIO(), limit_bytes=2500)


def test_a_flood_that_never_ends_keeps_nobody_beyond_his_limit(ends: tuple[Agent, socket.socket]) -> None:
    agent, theirs = ends

    def flood() -> None:
        said = frame(0, Frame.BEAT, struct.pack("<Q", 1)) * 100 + frame(7, Frame.STDOUT, b"x" * PAYLOAD_MAX)
        try:
            while True:
                theirs.sendall(said)
        except OSError:
            return

    threading.Thread(target=flood, daemon=True).start()
    with pytest.raises(GuestTimeout, match=r"limit 0\.2 s"):
        agent.start(["x"]).wait(0.2)


def test_a_fault_of_ours_in_the_reader_is_told_and_keeps_nobody(
    ends: tuple[Agent, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, theirs = ends
    monkeypatch.setattr(agents, "_hello", lambda _: 1 // 0)
    theirs.sendall(frame(0, Frame.HELLO, b""))

    with pytest.raises(GuestLost, match=r"the harness could not take .* ZeroDivisionError"):
        agent.wait_hello(Deadline(SOON))


@pytest.mark.parametrize(
    "line", ["", "[" * 100_000, "9" * 5000, "[]", "7", '{"a": NaN}', '{"a": "\\ud800"}', '{"a"', "\\xff"]
)
def test_what_is_no_reply_of_the_driver_is_none(line: str) -> None:
    assert driven.parsed(line) is None


@pytest.mark.parametrize("odd", [{"status": "0"}, {"status": []}, {"signal": None}, {"signal": 1 << 70}, {}])
@pytest.mark.parametrize("size", [10, drive.OUTPUT_LIMIT_BYTES, drive.OUTPUT_LIMIT_BYTES + 1])
def test_a_selftest_may_print_and_end_in_any_way(tmp_path: Path, odd: dict[str, object], size: int) -> None:
    """Output that was cut is told, in the results and in the file."""

    def run(argv: list[str], _: float) -> GuestResult:
        return GuestResult(tuple(argv), 0, (b"ok 1 a\n\xff\n" + b"x" * size)[: min(size, int(argv[2]))], b"")

    machine = SimpleNamespace(agent=SimpleNamespace(run=run), console=SimpleNamespace(log=tmp_path / "console.log"))
    under_way: Any = SimpleNamespace(_machine=machine, _grace_s=1.0)

    results = drive._Drive._results(under_way, {"program": "cow", **odd})

    cut = size > drive.OUTPUT_LIMIT_BYTES
    assert results.get("cut", False) is cut
    assert (b"the output went on after 4 MiB" in (tmp_path / "cow.tap").read_bytes()) is cut


@pytest.mark.parametrize("said", [b"", b"x", b"1 2", b"9" * 5000, b"\xff"])
def test_a_number_from_the_guest_may_be_none(said: bytes) -> None:
    with pytest.raises(GuestLost, match="the guest says that /proc/x holds"):
        watching._number("/proc/x", said)
