# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of a console log, from wherever a shell can name it: a file, packed or not, a pipe, a fifo, a terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.model.errors import HarnessError, MachineError, UsageError

STANDARD_INPUT = "-"
# zero, full, random and urandom (Linux, Documentation/admin-guide/devices.txt).
_ENDLESS = frozenset(os.makedev(1, minor) for minor in (5, 7, 8, 9))
BLOCK_BYTES = 256 << 10
# Nobody may ever write to a fifo that has a name; behind a pipe without one there is a writer.
FIFO_LIMIT_S = 30.0
# A kernel writes the lines of a report within milliseconds of each other.
_SILENCE_S = 2.0

# How each is unpacked, in memory that no header can ask for.
_PACKED = {
    b"\x1f\x8b": ("gzip", "-dcq"),
    b"\xfd7zXZ\x00": ("xz", "-dcq", "--memlimit-decompress=256MiB"),
    b"BZh": ("bzip2", "-dcq"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dcq", "--memory=256MB"),
}
_LOG_NAME = re.compile(
    r"(?i)(?!\.).{0,200}(?:log|txt|dmesg|kmsg|console|messages|journal|serial|boot|crash|panic|oops|eml|mbox)"
)
# Takes a command and what it reads, and yields what it writes.
Unpack = Callable[[Sequence[str], int], Iterator[bytes]]
_HINT = "name a console log, or - for standard input"


def files(name: str) -> Sequence[str]:
    """What a name stands for: itself, or the logs of a directory, without links and hidden files.

    Raises UsageError for a name that cannot be read.
    """
    if name == STANDARD_INPUT:
        return (name,)
    with _told(name):
        if stat.S_ISDIR(Path(name).stat().st_mode):
            with os.scandir(name) as entries:
                found = sorted(
                    entry.path
                    for entry in entries
                    if _LOG_NAME.match(entry.name) and entry.is_file(follow_symlinks=False)
                )
            if not found:
                raise UsageError(f"{name}: a directory without a file that is called as a log is", _HINT)
            return found
        if not os.access(name, os.R_OK):
            raise PermissionError
        return (name,)


def live(name: str) -> bool:
    """Whoever writes it may go on, so that what is known is told as soon as it is known."""
    return not stat.S_ISREG((os.fstat(0) if name == STANDARD_INPUT else Path(name).stat()).st_mode)


def blocks(name: str, note: Callable[[str], object], unpack: Unpack | None = None) -> Iterator[bytes]:
    """What is there, as it comes; an empty block when nothing has come for a while. note: takes a line for the user.

    A file ends where it ended when it was opened, even if it grows on. Raises
    UsageError for what is no log, and for a fifo to which nobody writes.
    """
    with _told(name):
        source = _open(name)
    try:
        status = os.fstat(source)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev in _ENDLESS:
            raise UsageError(f"{name}: a device without an end", _HINT)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            start = os.lseek(source, 0, os.SEEK_CUR)
            command = _packed(os.pread(source, 8, start))
            pieces = unpack(command, source) if command and unpack else _whole(source, max(0, status.st_size - start))
        else:
            pieces = _live(source, name, _is_named_fifo(name, status), note)
        with _told(name):
            yield from _text(pieces, name, note)
    finally:
        os.close(source)


def _packed(beginning: bytes) -> Sequence[str]:
    """The command that unpacks what begins so; empty for text."""
    return next((command for magic, command in _PACKED.items() if beginning.startswith(magic)), ())


def _open(name: str) -> int:
    if name in (STANDARD_INPUT, "/dev/stdin"):
        return os.dup(0)
    # A fifo without a writer would block here, where no limit can be kept.
    return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _is_named_fifo(name: str, status: os.stat_result) -> bool:
    """Pipes of a shell, as in <(dmesg), have a name below /proc only."""
    return stat.S_ISFIFO(status.st_mode) and name != STANDARD_INPUT and not os.path.realpath(name).startswith("/proc/")


def _text(pieces: Iterator[bytes], name: str, note: Callable[[str], object]) -> Iterator[bytes]:
    """The pieces, unless the first shows that they are no text."""
    first = True
    for piece in pieces:
        if first and piece:
            first = False
            if command := _packed(piece):
                raise UsageError(f"{name}: packed with {command[0]}", f"{command[0]} -dc | harness console -")
        yield piece
    if first:
        note(f"{name}: empty")


def _whole(source: int, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := os.read(source, min(size, BLOCK_BYTES))):
        size -= len(piece)
        yield piece


def _live(source: int, name: str, limited: bool, note: Callable[[str], object]) -> Iterator[bytes]:
    began = time.monotonic()
    heard = noted = False
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while True:
        if not poll.poll(_SILENCE_S * 1000):
            if not heard and not noted:
                limit = f" for up to {FIFO_LIMIT_S:g} s" if limited else ""
                note(f"{name}: nothing has come yet, waiting{limit}")
                noted = True
            if limited and not heard and time.monotonic() - began > FIFO_LIMIT_S:
                waited_s = time.monotonic() - began
                raise UsageError(
                    f"{name}: a fifo to which nobody wrote for {waited_s:.1f} s (limit {FIFO_LIMIT_S:g} s)",
                    "start its writer first, or pipe it into: harness console -",
                )
            yield b""
            continue
        try:
            piece = os.read(source, BLOCK_BYTES)
        except BlockingIOError:
            continue
        if not piece:
            return
        heard = True
        yield piece


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors of the system as ours: what was named is the user's, what broke while it was read is not."""
    try:
        yield
    except HarnessError:
        raise
    except IsADirectoryError:
        raise UsageError(f"{name}: a directory", _HINT) from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{name}: no such file", _HINT) from None
    except PermissionError:
        raise UsageError(f"{name}: cannot be read: permission denied", _HINT) from None
    except OSError as error:
        kind = MachineError if error.errno in (errno.EIO, errno.ENOMEM, errno.EMFILE) else UsageError
        raise kind(f"{name}: cannot be read: {error.strerror}", _HINT) from None
