# SPDX-License-Identifier: GPL-2.0-only
"""The guest's kernel log as it comes, and the interactive shell beside it.

What a guest prints is hostile: it is kept raw in console.log, up to a limit,
and goes to a terminal only through clean().
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pexpect.socket_pexpect
import pexpect.spawnbase

from harness.host.clock import Deadline
from harness.host.workspace import space
from harness.model.characters import UNSAFE
from harness.model.errors import GuestLost

# A broken kernel that warns for ever must not fill the disk: 64 MiB are 600,000 lines.
FILE_LIMIT_BYTES = 64 << 20
# What is kept in memory for excerpts and messages.
_TAIL_LINES = 400
_LINE_LIMIT_BYTES = 4096
# Ctrl-], as in telnet(1) and virsh(1).
_LEAVE = b"\x1d"
# How long a shell may take to learn that it is to say when it ends.
_TRAP_LIMIT_S = 10.0
_TRUNCATED = b"\n[harness: console.log ends here, %d MiB; the rest was read and counted only]\n"

_PANIC = (b"Kernel panic - not syncing", b"---[ end Kernel panic")
_OOPS = (b"Oops: ", b"BUG: unable to handle", b"general protection fault", b"kernel BUG at")


def clean(text: bytes | str) -> str:
    """Guest text that is safe to print: control and escape characters become visible, newlines stay."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="backslashreplace")
    return UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n").replace("\r", "\n"))


class Console:
    """Reads ttyS0 from a connected socket into a file; any thread may ask.

    Memory is bounded whatever the guest prints: the last lines are kept in memory,
    the file grows up to its limit, and the rest is counted.
    """

    def __init__(
        self,
        channel: socket.socket,
        log: Path,
        on_line: Callable[[str], None] = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
        limit_bytes: int = FILE_LIMIT_BYTES,
        before: bytes = b"",
    ) -> None:
        """on_line gets each line, raw text, from the reading thread; on_change is called at a panic and at the end.

        before: what the kernel said before the snapshot that this guest is a clone of; the log begins with it.
        """
        self.log = log
        self._channel = channel
        self._on_line = on_line
        self._on_change = on_change
        self._limit = limit_bytes
        self._file = log.open("wb", buffering=0)
        self._aside = False
        self._news = threading.Condition()
        self._size = 0  # bytes that the guest printed
        self._heard_s = time.monotonic()
        self._kept = 0  # bytes of them in the file
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._partial = b""
        self._panic = ""
        self._oops = ""
        self._ended = False
        self._failure: Exception | None = None
        if before:
            self._take(before)
        self._reader = threading.Thread(target=self._read, name="console-reader", daemon=True)
        self._reader.start()

    @property
    def panic(self) -> str:
        """The line that reports a panic; empty while there is none."""
        return self._panic

    @property
    def oops(self) -> str:
        """The first line that reports an oops or a BUG; empty while there is none."""
        return self._oops

    @property
    def size(self) -> int:
        """Bytes that the guest has printed so far, including those beyond the file's limit."""
        return self._size

    @property
    def silent_s(self) -> float:
        """Seconds since the guest last printed something, or since it began."""
        return time.monotonic() - self._heard_s

    @property
    def ended(self) -> bool:
        """Whether QEMU has closed the console: nothing more will come."""
        return self._ended

    @property
    def failure(self) -> Exception | None:
        """Why the host stopped keeping or passing on the log (a full disk, a bug in on_line); None as a rule."""
        return self._failure

    def mark(self) -> int:
        """An offset into console.log, for text_since() and wait_for()."""
        with self._news:
            return self._kept

    def text_since(self, mark: int, limit_bytes: int = 1 << 20) -> str:
        """What was logged since a mark, the first `limit_bytes` of it."""
        with self.log.open("rb") as stream:
            stream.seek(mark)
            return stream.read(limit_bytes).decode("utf-8", errors="backslashreplace")

    def tail(self, lines: int = 30) -> str:
        """The last lines, cleaned, for a message to a person."""
        with self._news:
            kept = [*self._tail, self._partial] if self._partial else list(self._tail)
        return "\n".join(clean(line) for line in kept[-lines:])

    def wait_for(self, pattern: str, deadline: Deadline, since: int = 0) -> re.Match[str]:
        """Wait until the log matches a regular expression; returns the match.

        Raises TimeoutError at the deadline, GuestLost when the console ended without a match.
        """
        follower = _Follower(self, since)
        try:
            follower.expect(pattern, timeout=deadline.remaining_s)
        except pexpect.TIMEOUT:
            raise TimeoutError(f"console: no {pattern!r} after {deadline}") from None
        except pexpect.EOF:
            raise GuestLost(f"console: ended without {pattern!r}") from None
        finally:
            follower.close()
        match = follower.match
        assert isinstance(match, re.Match)
        return match

    def wait_more(self, offset: int, timeout_s: float) -> bool:
        """Wait until the file is longer than `offset`; False when it never will be."""
        with self._news:
            self._news.wait_for(lambda: self._kept > offset or self._ended, timeout=timeout_s)
            return self._kept > offset or not self._ended

    def divert(self, path: Path) -> None:
        """Keep further output in another file, and do not look at it: the guest was made to print it."""
        with self._news, space(path):
            aside = path.open("wb", buffering=0)
            self._file, before = aside, self._file
            self._aside = True
            before.close()

    def settle(self, timeout_s: float) -> None:
        """Wait until QEMU closed the console, so that the log is whole."""
        self._reader.join(timeout_s)

    def close(self) -> None:
        """End the reader; the file stays."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=5)
        self._channel.close()
        self._file.close()

    def _read(self) -> None:
        # A QEMU that is killed with our bytes unread resets the channel: an end like any other.
        with contextlib.suppress(OSError):
            while data := self._channel.recv(1 << 16):
                self._take(data)
        with self._news:
            self._ended = True
            self._news.notify_all()
        self._on_change()

    def _take(self, data: bytes) -> None:
        """Keep a piece of the log; a failure is remembered, and reading goes on: the guest must not stall."""
        if self._failure is None:
            try:
                with self._news, space(self.log):
                    self._store(data)
            except Exception as error:  # noqa: BLE001 - reported by `failure`; a reader that dies would stall the guest
                self._failure = error
        if self._aside:
            return
        try:
            for line in self._lines(data):
                self._look(line)
                self._on_line(line.decode("utf-8", errors="backslashreplace"))
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = self._failure or error
        with self._news:
            self._heard_s = time.monotonic()
            self._size += len(data)
            self._news.notify_all()

    def _store(self, data: bytes) -> None:
        room = self._limit - self._kept
        if room > 0:
            kept = data[:room]
            self._file.write(kept)
            if len(kept) == room:
                self._file.write(_TRUNCATED % (self._limit >> 20))
            self._kept += len(kept)

    def _lines(self, data: bytes) -> Sequence[bytes]:
        *lines, rest = (self._partial + data).split(b"\n")
        while len(rest) > _LINE_LIMIT_BYTES:
            lines.append(rest[:_LINE_LIMIT_BYTES])
            rest = rest[_LINE_LIMIT_BYTES:]
        lines = [line.rstrip(b"\r")[:_LINE_LIMIT_BYTES] for line in lines]
        with self._news:
            self._partial = rest
            self._tail.extend(lines)
        return lines

    def _look(self, line: bytes) -> None:
        if not self._panic and any(sign in line for sign in _PANIC):
            self._panic = clean(line)
            self._on_change()
        if not self._oops and any(sign in line for sign in _OOPS):
            self._oops = clean(line)


if TYPE_CHECKING:  # generic in its stubs only
    _TextSpawn = pexpect.spawnbase.SpawnBase[str]
else:
    _TextSpawn = pexpect.spawnbase.SpawnBase


class _Follower(_TextSpawn):
    """Lets pexpect search console.log as it grows: the file is the buffer, so nothing is lost between two waits."""

    def __init__(self, console: Console, offset: int) -> None:
        super().__init__(maxread=1 << 16, encoding="utf-8", codec_errors="backslashreplace")
        self._console = console
        self._offset = offset
        self._stream = console.log.open("rb")

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        while True:
            self._stream.seek(self._offset)
            if data := self._stream.read(size):
                self._offset += len(data)
                return data.decode("utf-8", errors="backslashreplace")
            if not self._console.wait_more(self._offset, timeout if timeout is not None else 3600.0):
                self.flag_eof = True
                raise pexpect.EOF("the console ended")
            if self._console.mark() <= self._offset:
                raise pexpect.TIMEOUT("the console is silent")

    def close(self) -> None:
        self._stream.close()


@contextlib.contextmanager
def _raw(number: int) -> Iterator[None]:
    """A terminal in raw mode until the block ends; what is not a terminal is left as it is."""
    if not os.isatty(number):
        yield
        return
    before = termios.tcgetattr(number)
    tty.setraw(number)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized() -> Iterator[int]:
    """A descriptor that can be read when the user's terminal has got another size."""
    hears, tells = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(_number: int, _frame: object) -> None:
        # A full pipe can be read, too.
        with contextlib.suppress(BlockingIOError):
            os.write(tells, b".")

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield hears
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(hears)
        os.close(tells)


class Terminal:
    """The root shell on hvc0, through pexpect."""

    PROMPT = "guest# "

    def __init__(self, channel: socket.socket) -> None:
        # Bytes: with an encoding, SocketSpawn of pexpect 4.9 mixes bytes with text.
        self.spawn = pexpect.socket_pexpect.SocketSpawn(channel, timeout=30)
        self.channel = channel

    def run(self, command: str, timeout_s: float = 30.0) -> str:
        """Type a command and return what it printed. Raises TimeoutError, or GuestLost when the shell is gone."""
        deadline = Deadline(timeout_s)
        try:
            self.spawn.sendline("")
            self.spawn.expect_exact(self.PROMPT, timeout=deadline.remaining_s)
            # Marks around the output: what is typed may come back once from the shell, and once from the
            # terminal before the shell reads; the quotes keep both echoes from looking like a mark.
            self.spawn.sendline(f"echo harness-''begin; {command}; echo harness-''done")
            self.spawn.expect(rb"harness-begin\r\n(.*?)harness-done\r\n", timeout=deadline.remaining_s)
        except pexpect.TIMEOUT:
            raise TimeoutError(f"shell on hvc0: {command!r} not done after {deadline}") from None
        except (pexpect.EOF, OSError):
            raise GuestLost("shell on hvc0: the channel was closed") from None
        match: Any = self.spawn.match
        raw: bytes = match[1]
        return raw.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")

    def interact(self, fit: Callable[[], None]) -> None:
        """Connect standard input and output to the shell, byte by byte, until Ctrl-], the shell's or either's end.

        fit: called when the user's terminal has got another size. Here, and only
        here, what the guest prints reaches a terminal as it is.
        """
        here, there = sys.stdin.fileno(), self.channel.fileno()
        # PID 1 starts another shell when one ends, so that somebody else can come: it says so itself.
        left = f"left-{secrets.token_hex(8)}"
        with contextlib.suppress(TimeoutError):
            self.run(f"trap 'echo {left}' EXIT", _TRAP_LIMIT_S)
        tail = b""
        with _raw(here), _resized() as resized:
            os.write(there, b"\n")  # a fresh prompt
            while True:
                ready, _, _ = select.select([here, there, resized], [], [])
                if resized in ready:
                    os.read(resized, 4096)
                    fit()
                if there in ready:
                    said = os.read(there, 4096)
                    before, is_left, _ = (tail + said).partition(left.encode())
                    os.write(sys.stdout.fileno(), before[len(tail) :] if is_left else said)
                    if not said or is_left:
                        return
                    tail = (tail + said)[-len(left) :]
                if here in ready:
                    typed = os.read(here, 4096)
                    if not typed or _LEAVE in typed:
                        return
                    os.write(there, typed)

    def close(self) -> None:
        """End the channel."""
        self.channel.close()
