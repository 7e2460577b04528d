# SPDX-License-Identifier: GPL-2.0-only
"""Files that the user names: a path, standard input, or a pipe of the shell's."""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import os
import select
import shlex
import stat
from pathlib import Path

from harness.host.below import FILE_LIMIT
from harness.host.clock import Deadline
from harness.model.errors import UsageError, unreadable

STANDARD_INPUT, STANDARD_INPUT_FD = "-", 0
_SILENCE_S = 60.0
_CHUNK = 1 << 16
# So many names of a folder are compared with a mistyped one.
_NAMES = 1000


def path(name: str) -> Path:
    """The absolute path that a name means; a `~` of nobody stays as it is, and is not found."""
    return Path(os.path.expanduser(name)).absolute()  # noqa: PTH111 - Path's own raises for nobody's ~


def is_folder(name: str) -> bool:
    """Whether a name leads to a folder; a name that no path can have does not."""
    return os.path.isdir(path(name))  # noqa: PTH112 - Path's own raises for a name that is too long


def exists(name: str) -> bool:
    """Whether a name leads to anything."""
    return os.path.exists(path(name))  # noqa: PTH110 - As above.


def kind(option: str, name: str, hint: str = "") -> int:
    """The mode of what a name leads to. UsageError when there is nothing, in words that fit the option."""
    try:
        return path(name).stat().st_mode
    except ValueError:
        raise UsageError(f"{option} {name}: a name cannot have a NUL", hint) from None
    except OSError as error:
        raise unreadable(error, f"{option} {name}: {_why(error)}", hint or _near(path(name))) from None


def content(option: str, name: str) -> bytes:
    """The bytes of a file, or of what is written into standard input or a pipe; a pipe is read once and remembered.

    Raises UsageError for what cannot be read, does not end, or stays silent for a minute.
    """
    if name != STANDARD_INPUT and stat.S_ISREG(kind(option, name)):
        return _read(option, name)
    return _piped(option, name)


def text(option: str, name: str) -> str:
    """The same as text. Raises UsageError for what is not UTF-8, too."""
    try:
        return content(option, name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {name}: is not text: byte {error.start} is not UTF-8") from None


@functools.lru_cache(maxsize=64)
def _piped(option: str, name: str) -> bytes:
    return _read(option, name)


def _read(option: str, name: str) -> bytes:
    try:
        # Without O_NONBLOCK, the opening of a fifo waits for a writer.
        handle = (
            os.dup(STANDARD_INPUT_FD)
            if name == STANDARD_INPUT
            else os.open(path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        )
        with os.fdopen(handle, "rb", buffering=0) as stream:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            parts: list[bytes] = []
            size = 0
            while True:
                silence = Deadline(_SILENCE_S)
                if not poll.poll(silence.limit_s * 1000):
                    raise UsageError(f"{option} {name}: nobody has written into it for {silence}")
                part = os.read(stream.fileno(), _CHUNK)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                size += len(part)
                if size > FILE_LIMIT:
                    raise UsageError(f"{option} {name}: holds more than {FILE_LIMIT >> 20} MiB (limit)")
    except OSError as error:
        raise unreadable(error, f"{option} {name}: {_why(error)}") from None


def _near(missing: Path) -> str:
    """A hint for a path that leads to nothing: the nearest name in its folder, or how far it leads."""
    if os.path.lexists(missing):
        return ""
    folder = next(parent for parent in missing.parents if os.path.isdir(parent))  # noqa: PTH112 - As above.
    if folder != missing.parent:
        return f"{folder} is as far as the path leads"
    with contextlib.suppress(OSError):
        near = difflib.get_close_matches(missing.name, itertools.islice(os.listdir(folder), _NAMES), n=1)  # noqa: PTH208
        return f"did you mean {folder / near[0]}?" if near else f"ls {shlex.quote(str(folder))}"
    return ""


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
