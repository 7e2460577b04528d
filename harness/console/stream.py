# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of a console log, from wherever a shell can name it: a file, a pipe, a fifo, a terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import stat
import time
from collections.abc import Callable, Iterator
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

_PACKED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\xfd7zXZ\x00": ("xz", "xzcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
}
_HINT = "name a console log, or - for standard input"


def check(name: str) -> None:
    """Raises UsageError for a name that cannot be read."""
    if name == STANDARD_INPUT:
        return
    with _told(name):
        if stat.S_ISDIR(Path(name).stat().st_mode):
            raise IsADirectoryError
        if not os.access(name, os.R_OK):
            raise PermissionError


def blocks(name: str, note: Callable[[str], object]) -> Iterator[bytes]:
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
            pieces = _whole(source, max(0, status.st_size - os.lseek(source, 0, os.SEEK_CUR)))
        else:
            pieces = _live(source, name, _is_named_fifo(name, status), note)
        with _told(name):
            yield from _text(pieces, name, note)
    finally:
        os.close(source)


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
            for magic, (what, command) in _PACKED.items():
                if piece.startswith(magic):
                    shown = "" if name == STANDARD_INPUT else f" {shlex.quote(name)}"
                    raise UsageError(f"{name}: packed with {what}", f"{command}{shown} | harness console -")
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
