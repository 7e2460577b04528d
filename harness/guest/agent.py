# SPDX-License-Identifier: GPL-2.0-only
"""The binary channel to PID 1 of the guest: commands, files, heartbeats. guest-modules/init/agent.c is the other end.

The guest is not trusted: a frame that is malformed or too long ends the channel
with GuestLost, and the output of a command is kept only up to a limit.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import IO, BinaryIO, cast

from harness.host.clock import Deadline
from harness.model.errors import GuestLost, MachineError

ABI = "2"
MAGIC = 0x4E484147
PAYLOAD_MAX = 65536
# The output of one command that is kept; the rest is dropped and counted.
OUTPUT_LIMIT_BYTES = 64 << 20
# How much of one file is read into memory: more than two million events of a log.
FILE_LIMIT_BYTES = 256 << 20
# How much of one file is written to the host's disk.
SINK_LIMIT_BYTES = 4 << 30
# Answers that nobody has taken: one is on its way at most, unless its caller gave up.
_ANSWERS_LIMIT = 16
# An errno is below this, in the guest as here.
_ERRNO_LIMIT = 4096
# A guest that has taken no byte for this long will not take the next one either.
_SEND_LIMIT_S = 30
# How long the reader may take to see the end of the channel that the sender met.
_END_LIMIT_S = 5

_HEAD = struct.Struct("<IIII")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Frame(IntEnum):
    """Types of frames, numbered as in agent.h."""

    EXEC = 1
    STDIN = 2
    SIGNAL = 3
    READ = 4
    WRITE = 5
    CLOCK = 6
    ENTROPY = 7
    POWEROFF = 8
    PING = 9
    KEEP = 10
    # From the guest:
    HELLO = 16
    STDOUT = 17
    STDERR = 18
    EXIT = 19
    DATA = 20
    DONE = 21
    BEAT = 22


_FROM_GUEST = frozenset(kind for kind in Frame if kind >= Frame.HELLO)


@dataclass(frozen=True)
class Beat:
    """The latest sign of life: the guest's CLOCK_BOOTTIME, and when it arrived by the host's monotonic clock."""

    guest_ns: int
    host_s: float


@dataclass(frozen=True)
class GuestResult:
    """A command that ended in the guest.

    status: exit code, or 256 + signal. dropped: bytes of output beyond the limit that were not kept.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    dropped: int = 0

    @property
    def command(self) -> str:
        """The command as a line to paste into the guest's shell."""
        return shlex.join(self.argv)

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are escaped."""
        return self.stdout.decode("utf-8", errors="backslashreplace")


class GuestTimeout(TimeoutError):
    """The guest did not finish in time. Not a HarnessError: a hang is what we look for."""


@dataclass
class _Conversation:
    """What arrived for one id and has not been taken yet."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    sink: BinaryIO | None = None
    sink_error: OSError | None = None
    sunk: int = 0
    answers: list[int] = field(default_factory=list)  # errno of each DONE
    status: int | None = None
    limit: int = OUTPUT_LIMIT_BYTES
    dropped: int = 0

    def take(self, kind: Frame, payload: bytes) -> None:
        """File a frame. Raises GuestLost for one that no guest of ours sends."""
        if kind is Frame.EXIT:
            self.status = _number(_I32, kind, payload)
        elif kind is Frame.DONE:
            if len(self.answers) >= _ANSWERS_LIMIT:
                raise GuestLost(f"the guest's agent answered what nobody asked (limit {_ANSWERS_LIMIT} answers)")
            self.answers.append(_number(_I32, kind, payload))
        elif kind is Frame.DATA and self.sink is not None:
            self._sink(self.sink, payload)
        else:
            kept = self.stderr if kind is Frame.STDERR else self.stdout
            room = max(0, self.limit - len(kept))
            kept += payload[:room]
            self.dropped += max(0, len(payload) - room)

    def _sink(self, sink: BinaryIO, payload: bytes) -> None:
        if self.sunk + len(payload) > self.limit:
            self.dropped += len(payload)
            return
        self.sunk += len(payload)
        try:
            sink.write(payload)
        except OSError as error:  # the host's disk is full: raised where the file was asked for
            self.sink_error = self.sink_error or error


class Agent:
    """Speaks with PID 1 over a connected socket that it owns. Any thread may call it."""

    def __init__(
        self,
        channel: socket.socket,
        on_change: Callable[[], None] = lambda: None,
        hello: Mapping[str, str] | None = None,
    ) -> None:
        """on_change is called from the reading thread when HELLO has come and when the channel is lost.

        hello: what PID 1 said before the snapshot that this guest is a clone of.
        """
        self._channel = channel
        # Only sending has a limit: the reader waits as long as the guest is silent.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_LIMIT_S, 0))
        self._on_change = on_change
        self._news = threading.Condition()
        self._sending = threading.Lock()
        self._ids = itertools.count(1)
        self._talks: dict[int, _Conversation] = {}
        self._lost: str | None = None
        # The error of the host that made the machine useless, if one did.
        self.trouble: MachineError | None = None
        self._hello = hello
        self._beat: Beat | None = None
        self._reader = threading.Thread(target=self._read, name="agent-reader", daemon=True)
        self._reader.start()

    @property
    def hello(self) -> Mapping[str, str] | None:
        """What PID 1 said about itself (abi, release, modules, swap, timer); None until it did."""
        return self._hello

    @property
    def beat(self) -> Beat | None:
        """The latest heartbeat; PID 1 sends one a second."""
        return self._beat

    @property
    def lost(self) -> str | None:
        """Why the channel is gone, None while it is there."""
        return self._lost

    def lose(self, trouble: MachineError) -> None:
        """Nobody is to wait for this guest any longer: whoever does, and whoever asks it something, gets the error."""
        with self._news:
            self.trouble = trouble
            self._lost = self._lost or trouble.message
            self._news.notify_all()
        self._on_change()

    def close(self) -> None:
        """End the channel and its thread."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=5)
        self._channel.close()

    def wait_hello(self, deadline: Deadline) -> Mapping[str, str]:
        """Wait for PID 1; raises GuestTimeout or GuestLost."""
        with self._news:
            self._wait(lambda: self._hello is not None, deadline, "no sign of PID 1")
        assert self._hello is not None
        return self._hello

    def start(self, argv: Sequence[str]) -> GuestProcess:
        """Start a command; its standard input stays open."""
        number, talk = self._open()
        self._send(number, Frame.EXEC, b"\0".join(word.encode() for word in argv) + b"\0")
        return GuestProcess(self, number, talk, tuple(argv))

    def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"") -> GuestResult:
        """Run a command to its end. Kills a late command, as far as possible, and raises GuestTimeout."""
        deadline = Deadline(timeout_s)
        process = self.start(argv)
        try:
            process.send(stdin, deadline)
            process.close_stdin(deadline)
            return process.result(deadline)
        except GuestTimeout:
            process.signal(9)
            raise
        finally:
            process.forget()

    def read_file(
        self, path: str, timeout_s: float = 30.0, into: BinaryIO | None = None, limit_bytes: int = 0
    ) -> bytes:
        """Read a file's content, or stream it to `into` when that is given. Raises OSError as open(2) would.

        limit_bytes: another limit than FILE_LIMIT_BYTES, or SINK_LIMIT_BYTES with `into`. More than that
        is a MachineError: half a file does not pass for a whole one.
        """
        number, talk = self._open()
        talk.sink = into
        talk.limit = limit_bytes or (FILE_LIMIT_BYTES if into is None else SINK_LIMIT_BYTES)
        try:
            self._send(number, Frame.READ, path.encode())
            self._answer(number, talk, Deadline(timeout_s), path)
        finally:
            self._forget(number)
        if talk.sink_error is not None:
            raise talk.sink_error
        if talk.dropped:
            hint = "read it into a file" if into is None else ""
            raise MachineError(f"{path} in the guest: more than {talk.limit} bytes came (limit)", hint)
        return bytes(talk.stdout)

    def write_file(self, path: str, content: bytes | str, timeout_s: float = 30.0) -> None:
        """Write a file, in one write(2) below 64 KiB, which suits /proc, /sys and cgroups. Raises OSError."""
        raw = content.encode() if isinstance(content, str) else content
        name = path.encode() + b"\0"
        if len(name) + len(raw) > PAYLOAD_MAX:
            done = self.run(["sh", "-c", 'cat > "$1"', "sh", path], timeout_s, raw)
            if done.status:
                raise OSError(0, done.stderr.decode(errors="backslashreplace").strip(), path)
            return
        self._request(Frame.WRITE, name + raw, timeout_s, path)

    def keep_file(self, path: str, timeout_s: float = 5.0) -> None:
        """Have PID 1 open a file (of /proc or /sys) now, so that write_file() works on it when memory is gone.

        Otherwise PID 1 would have to fork a process for the write, and the kernel
        would reclaim memory for the pages of that process. Raises OSError as
        open(2) would.
        """
        self._request(Frame.KEEP, path.encode(), timeout_s, path)

    def ping(self, timeout_s: float = 5.0) -> float:
        """Seconds that PID 1 needs to answer."""
        deadline = Deadline(timeout_s)
        self._request(Frame.PING, b"", timeout_s, "ping")
        return deadline.elapsed_s

    def set_clock(self, realtime_ns: int, timeout_s: float = 5.0) -> int:
        """Step the guest's CLOCK_REALTIME; returns what the clock shows after that, in ns."""
        return _number(_U64, Frame.CLOCK, self._request(Frame.CLOCK, _U64.pack(realtime_ns), timeout_s, "clock"))

    def add_entropy(self, content: bytes, timeout_s: float = 5.0) -> None:
        """Feed and reseed the guest's random generator; at most 512 bytes are used."""
        self._request(Frame.ENTROPY, content, timeout_s, "entropy")

    def power_off(self) -> None:
        """Ask PID 1 to power the machine off; no answer comes."""
        self._send(next(self._ids), Frame.POWEROFF, b"")

    def _request(self, kind: Frame, payload: bytes, timeout_s: float, what: str) -> bytes:
        """Ask PID 1 itself; returns the data in its answer, if there is any."""
        number, talk = self._open()
        try:
            self._send(number, kind, payload)
            self._answer(number, talk, Deadline(timeout_s), what)
        finally:
            self._forget(number)
        return bytes(talk.stdout)

    def _answer(self, number: int, talk: _Conversation, deadline: Deadline, what: str) -> None:
        with self._news:
            try:
                self._wait(lambda: bool(talk.answers), deadline, what)
            except GuestTimeout:
                self._kill(number)
                raise
            error = talk.answers.pop(0)
        if not 0 <= error < _ERRNO_LIMIT:
            raise GuestLost(f"the guest's agent answered {what!r} with error {error}, which is no errno")
        if error:
            raise OSError(error, f"in the guest: {_errno_text(error)}", what)

    def _kill(self, number: int) -> None:
        self._send(number, Frame.SIGNAL, _U32.pack(9))

    def _open(self) -> tuple[int, _Conversation]:
        talk = _Conversation()
        with self._news:
            number = next(self._ids)
            self._talks[number] = talk
        return number, talk

    def _forget(self, number: int) -> None:
        with self._news:
            self._talks.pop(number, None)

    def _send(self, number: int, kind: Frame, payload: bytes) -> None:
        if self._lost is not None:
            raise self.trouble or GuestLost(self._lost)
        if len(payload) > PAYLOAD_MAX:
            raise MachineError(f"agent: a {kind.name} frame of {len(payload)} bytes (limit {PAYLOAD_MAX})")
        try:
            with self._sending:
                self._channel.sendall(_HEAD.pack(MAGIC, number, kind, len(payload)) + payload)
        except BlockingIOError:
            raise GuestLost(f"the guest read nothing from the agent's channel for {_SEND_LIMIT_S} s") from None
        except OSError as error:
            # A caller that now asks what became of the guest must find the channel lost.
            self._reader.join(timeout=_END_LIMIT_S)
            gone = self.lost or f"the agent's channel is closed: {error.strerror}"
            raise self.trouble or GuestLost(gone) from error

    def _wait(self, ready: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """Under the lock: wait until `ready`; what came counts even if the channel was lost after it."""
        self._news.wait_for(lambda: ready() or self._lost is not None, timeout=deadline.remaining_s)
        if ready():
            return
        if self._lost is not None:
            raise self.trouble or GuestLost(self._lost)
        raise GuestTimeout(f"{what}: not done after {deadline}")

    def _read(self) -> None:
        """The reading thread: takes frames until the channel ends or brings something that is not a frame."""
        try:
            with cast("IO[bytes]", self._channel.makefile("rb", buffering=1 << 18)) as stream:
                while head := stream.read(_HEAD.size):
                    self._file(*_parse(head), stream)
            why = "the agent's channel was closed: QEMU is gone"
        except (GuestLost, OSError) as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a reader that dies in silence would leave every caller to its limit
            why = f"the harness could not take what the guest's agent sent: {error!r}"
        with self._news:
            self._lost = self._lost or why
            self._news.notify_all()
        self._on_change()

    def _file(self, number: int, kind: Frame, size: int, stream: IO[bytes]) -> None:
        payload = stream.read(size)
        if len(payload) < size:
            raise GuestLost("the agent's channel was closed within a frame")
        with self._news:
            if kind is Frame.BEAT:
                self._beat = Beat(_number(_U64, kind, payload), time.monotonic())
            elif kind is Frame.HELLO:
                self._hello = _hello(payload)
            elif talk := self._talks.get(number):
                talk.take(kind, payload)
            self._news.notify_all()
        if kind is Frame.HELLO:
            self._on_change()


class GuestProcess:
    """A command that runs in the guest; lines go in, lines come out."""

    def __init__(self, agent: Agent, number: int, talk: _Conversation, argv: tuple[str, ...]) -> None:
        self.argv = argv
        self._agent = agent
        self._number = number
        self._talk = talk
        self._fed = 0  # STDIN frames whose DONE is still to come: at most 1
        self._searched = 0  # bytes of stdout known to hold no newline

    @property
    def stderr(self) -> str:
        """What came on standard error so far."""
        with self._agent._news:
            return self._talk.stderr.decode("utf-8", errors="backslashreplace")

    @property
    def status(self) -> int | None:
        """The command's status when it ended, None while it runs."""
        return self._talk.status

    def send(self, data: bytes | str, deadline: Deadline | None = None) -> None:
        """Write to standard input; returns before the command has read it. Raises BrokenPipeError as write(2) would."""
        raw = data.encode() if isinstance(data, str) else data
        for start in range(0, len(raw), PAYLOAD_MAX):
            self._feed(raw[start : start + PAYLOAD_MAX], deadline or Deadline(30.0))

    def close_stdin(self, deadline: Deadline | None = None) -> None:
        """End standard input."""
        with contextlib.suppress(BrokenPipeError):
            self._feed(b"", deadline or Deadline(30.0))

    def readline(self, timeout_s: float) -> str | None:
        """The next line of standard output without its newline; None when there will be none."""
        return self._next(Deadline(timeout_s))

    def lines(self, deadline: Deadline) -> Iterator[str]:
        """Lines of standard output to its end. Raises GuestTimeout at the deadline, GuestLost if the guest is lost."""
        while (line := self._next(deadline)) is not None:
            yield line

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._agent._send(self._number, Frame.SIGNAL, _U32.pack(number))

    def wait(self, timeout_s: float) -> int:
        """The command's status: exit code, or 256 + signal."""
        return self.result(Deadline(timeout_s)).status

    def result(self, deadline: Deadline) -> GuestResult:
        """Wait for the end; what lines() did not take is in the result."""
        talk = self._talk
        with self._agent._news:
            self._agent._wait(lambda: talk.status is not None, deadline, shlex.join(self.argv))
            assert talk.status is not None
            return GuestResult(self.argv, talk.status, bytes(talk.stdout), bytes(talk.stderr), talk.dropped)

    def forget(self) -> None:
        """Drop what still comes from this command."""
        self._agent._forget(self._number)

    def _feed(self, chunk: bytes, deadline: Deadline) -> None:
        # The guest holds one frame per job: the next one may go when the guest has answered the last.
        self._drained(deadline)
        self._agent._send(self._number, Frame.STDIN, chunk)
        self._fed += 1
        if not chunk:
            self._drained(deadline)

    def _drained(self, deadline: Deadline) -> None:
        while self._fed:
            with self._agent._news:
                self._agent._wait(
                    lambda: bool(self._talk.answers) or self._talk.status is not None,
                    deadline,
                    f"{self.argv[0]} reads no input",
                )
                error = self._talk.answers.pop(0) if self._talk.answers else 32
            self._fed -= 1
            if error:
                raise BrokenPipeError(error, f"in the guest: {_errno_text(error)}", self.argv[0])

    def _next(self, deadline: Deadline) -> str | None:
        talk = self._talk
        with self._agent._news:
            self._agent._wait(lambda: self._has_line() or talk.status is not None, deadline, shlex.join(self.argv))
            if not talk.stdout:
                return None
            end = talk.stdout.find(b"\n")
            raw = bytes(talk.stdout if end < 0 else talk.stdout[:end])
            del talk.stdout[: len(raw) + 1]
            self._searched = 0
        return raw.decode("utf-8", errors="backslashreplace")

    def _has_line(self) -> bool:
        found = self._talk.stdout.find(b"\n", self._searched) >= 0
        if not found:
            self._searched = len(self._talk.stdout)
        return found


def _parse(head: bytes) -> tuple[int, Frame, int]:
    """A frame's id, type and length. Raises GuestLost for what is not a frame."""
    if len(head) < _HEAD.size:
        raise GuestLost("the agent's channel was closed within a frame")
    magic, number, kind, size = _HEAD.unpack(head)
    if magic != MAGIC:
        raise GuestLost(f"the guest's agent sent no frame: it begins with {magic:08x}, not {MAGIC:08x}")
    if size > PAYLOAD_MAX:
        raise GuestLost(f"the guest's agent announced a frame of {size} bytes (limit {PAYLOAD_MAX})")
    if kind not in _FROM_GUEST:
        raise GuestLost(f"the guest's agent sent a frame of unknown type {kind}")
    return number, Frame(kind), size


def _number(form: struct.Struct, kind: Frame, payload: bytes) -> int:
    if len(payload) != form.size:
        raise GuestLost(f"the guest's agent sent {kind.name} with {len(payload)} bytes, not {form.size}")
    return int(form.unpack(payload)[0])


def _hello(payload: bytes) -> Mapping[str, str]:
    text = payload.decode("utf-8", errors="backslashreplace")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if fields.get("abi") != ABI:
        raise GuestLost(f"the guest's agent speaks version {fields.get('abi', '?')[:20]}, the harness {ABI}")
    return fields


def _errno_text(number: int) -> str:
    return os.strerror(number) if 0 < number < _ERRNO_LIMIT else f"error {number}"
