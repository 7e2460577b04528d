# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from harness.guest.agent import MAGIC, PAYLOAD_MAX, Agent, Frame, GuestTimeout
from harness.host.clock import Deadline
from harness.model.errors import GuestLost, MachineError

HEAD = struct.Struct("<IIII")
SOON = 10.0


class Guest:
    """The guest's end: reads what the harness sends, and answers as a test tells it."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.seen: list[tuple[int, Frame, bytes]] = []
        self.stream = channel.makefile("rb")

    def send(self, number: int, kind: int, payload: bytes = b"", magic: int = MAGIC, size: int | None = None) -> None:
        """Send a frame, or bytes that only look like a frame."""
        self.channel.sendall(HEAD.pack(magic, number, kind, len(payload) if size is None else size) + payload)

    def number(self, number: int, kind: Frame, value: int) -> None:
        """Send a frame that holds one number."""
        self.send(number, kind, struct.pack("<i", value))

    def take(self) -> tuple[int, Frame, bytes]:
        """Wait for the next frame of the harness."""
        _, number, kind, size = HEAD.unpack(self.stream.read(HEAD.size))
        self.seen.append((number, Frame(kind), self.stream.read(size)))
        return self.seen[-1]

    def serve(self, play: Callable[[Guest], None]) -> threading.Thread:
        """Play a part on a thread of its own."""
        thread = threading.Thread(target=play, args=(self,), daemon=True)
        thread.start()
        return thread


@pytest.fixture
def ends() -> Iterator[tuple[Agent, Guest]]:
    ours, theirs = socket.socketpair()
    agent = Agent(ours)
    guest = Guest(theirs)
    yield agent, guest
    agent.close()
    guest.stream.close()
    theirs.close()


def test_a_command_returns_its_output_and_status(ends):
    """Standard output, standard error and the exit code come back apart; argv travels NUL-separated."""
    agent, guest = ends

    def play(guest: Guest) -> None:
        number, kind, payload = guest.take()
        assert (kind, payload) == (Frame.EXEC, b"echo\0a b\0")
        guest.send(number, Frame.STDOUT, b"out ")
        guest.send(number, Frame.STDERR, b"err")
        guest.send(number, Frame.STDOUT, b"more")
        guest.take()  # end of input
        guest.number(number, Frame.DONE, 0)
        guest.number(number, Frame.EXIT, 3)

    guest.serve(play)

    result = agent.run(["echo", "a b"], SOON)

    assert (result.status, result.stdout, result.stderr) == (3, b"out more", b"err")


def test_the_next_input_waits_for_the_last(ends):
    """The guest buffers one frame a job, so a long input goes in frames, each after DONE for the one before."""
    agent, guest = ends
    early = threading.Event()

    def play(guest: Guest) -> None:
        number, _, _ = guest.take()
        for _ in range(3):  # two of data, one for the end
            guest.take()
            guest.channel.setblocking(False)
            try:
                if guest.channel.recv(1, socket.MSG_PEEK):
                    early.set()
            except BlockingIOError:
                pass
            guest.channel.setblocking(True)
            guest.number(number, Frame.DONE, 0)
        guest.number(number, Frame.EXIT, 0)

    guest.stream = guest.channel.makefile("rb", buffering=0)
    guest.serve(play)

    agent.run(["cat"], SOON, stdin=b"x" * (PAYLOAD_MAX + 1))

    assert [len(payload) for _, _, payload in guest.seen[1:]] == [PAYLOAD_MAX, 1, 0]
    assert not early.is_set()


def test_lines_come_one_by_one_until_the_end(ends):
    """Lines that arrive in pieces are whole; a last line without a newline counts; then there is None."""
    agent, guest = ends
    process = agent.start(["drive"])
    number, _, _ = guest.take()
    for piece in (b'{"step": 1}\n{"st', b'ep": 2}\n', b"rest"):
        guest.send(number, Frame.STDOUT, piece)
    guest.number(number, Frame.EXIT, 256 + 9)

    lines = list(process.lines(Deadline(SOON)))

    assert lines == ['{"step": 1}', '{"step": 2}', "rest"]
    assert process.readline(SOON) is None
    assert process.wait(SOON) == 265


def test_a_command_that_does_not_end_is_killed_and_told(ends):
    """The limit is in the message, SIGKILL goes to the job, and it is no HarnessError: a hang is a finding."""
    agent, guest = ends

    def play(guest: Guest) -> None:
        number, _, _ = guest.take()
        guest.take()
        guest.number(number, Frame.DONE, 0)

    guest.serve(play)

    with pytest.raises(GuestTimeout, match=r"sleep 99: not done after .*limit 0\.2 s"):
        agent.run(["sleep", "99"], 0.2)

    _, kind, payload = guest.take()
    assert (kind, payload) == (Frame.SIGNAL, struct.pack("<I", 9))


def test_a_file_is_read_into_memory_or_into_a_stream(ends):
    agent, guest = ends

    def play(guest: Guest) -> None:
        for _ in range(2):
            number, kind, payload = guest.take()
            assert (kind, payload) == (Frame.READ, b"/proc/vmstat")
            guest.send(number, Frame.DATA, b"allocstall 1\n")
            guest.send(number, Frame.DATA, b"pswpin 2\n")
            guest.number(number, Frame.DONE, 0)

    guest.serve(play)
    target = io.BytesIO()

    assert agent.read_file("/proc/vmstat") == b"allocstall 1\npswpin 2\n"
    assert agent.read_file("/proc/vmstat", into=target) == b""
    assert target.getvalue() == b"allocstall 1\npswpin 2\n"


def test_an_errno_of_the_guest_is_the_oserror_it_is_here(ends):
    agent, guest = ends
    guest.serve(lambda guest: guest.number(guest.take()[0], Frame.DONE, 2))

    with pytest.raises(FileNotFoundError, match="in the guest"):
        agent.read_file("/nonesuch")


def test_a_file_beyond_the_limit_is_refused_not_cut(ends):
    """A hostile guest can make us keep only a bounded amount, and half a file does not pass for a whole file."""
    agent, guest = ends

    def play(guest: Guest) -> None:
        number, _, _ = guest.take()
        for _ in range(3):
            guest.send(number, Frame.DATA, b"x" * 1000)
        guest.number(number, Frame.DONE, 0)

    guest.serve(play)

    with pytest.raises(MachineError, match=r"/dev/zero in the guest: more than 2500 bytes"):
        agent.read_file("/dev/zero", limit_bytes=2500)


@pytest.mark.parametrize(
    ("magic", "kind", "size", "message"),
    [
        (0x41414141, 17, 0, "begins with 41414141"),
        (MAGIC, 17, PAYLOAD_MAX + 1, "frame of 65537 bytes"),
        (MAGIC, 99, 0, "unknown type 99"),
        (MAGIC, 19, 0, "EXIT with 0 bytes, not 4"),
        (MAGIC, 1, 0, "unknown type 1"),
    ],
)
def test_what_is_no_frame_ends_the_channel(ends, magic, kind, size, message):
    """A guest that speaks nonsense is lost with a reason, for present and for later callers."""
    agent, guest = ends
    process = agent.start(["true"])
    number, _, _ = guest.take()
    guest.send(number, kind, magic=magic, size=size)

    with pytest.raises(GuestLost, match=message):
        process.wait(SOON)
    with pytest.raises(GuestLost, match=message):
        agent.ping()


def test_another_version_of_the_agent_is_refused(ends):
    agent, guest = ends
    guest.send(0, Frame.HELLO, b"abi=9\n")

    with pytest.raises(GuestLost, match="speaks version 9, the harness 2"):
        agent.wait_hello(Deadline(SOON))


def test_hello_and_heartbeats_are_kept(ends):
    agent, guest = ends
    guest.send(0, Frame.BEAT, struct.pack("<Q", 7_000_000_000))
    guest.send(0, Frame.HELLO, b"abi=2\nrelease=6.12.117\nmodules=a=b\n")

    hello = agent.wait_hello(Deadline(SOON))

    assert hello == {"abi": "2", "release": "6.12.117", "modules": "a=b"}
    assert agent.beat is not None
    assert agent.beat.guest_ns == 7_000_000_000


def test_the_end_of_qemu_wakes_who_waits(ends):
    agent, guest = ends
    process = agent.start(["sleep", "99"])
    guest.take()
    guest.channel.shutdown(socket.SHUT_RDWR)

    with pytest.raises(GuestLost, match="QEMU is gone"):
        process.wait(SOON)


def test_what_came_before_the_end_still_counts(ends):
    """A status that arrived counts, though the channel was lost right after it."""
    agent, guest = ends
    process = agent.start(["true"])
    number, _, _ = guest.take()
    guest.number(number, Frame.EXIT, 0)
    guest.channel.shutdown(socket.SHUT_RDWR)

    assert process.wait(SOON) == 0


def test_who_finds_the_channel_closed_finds_it_lost():
    """The reader has more to do than the sender: it is busy with a frame when QEMU ends."""
    ours, theirs = socket.socketpair()
    busy = threading.Event()

    def dawdle() -> None:
        busy.set()
        time.sleep(0.2)

    agent = Agent(ours, dawdle)
    guest = Guest(theirs)
    guest.send(0, Frame.HELLO, b"abi=2\n")
    assert busy.wait(SOON)
    guest.stream.close()
    theirs.close()

    with pytest.raises(GuestLost, match="QEMU is gone"):
        agent.start(["true"])
    assert agent.lost == "the agent's channel was closed: QEMU is gone"
    agent.close()
