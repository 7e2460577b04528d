# SPDX-License-Identifier: GPL-2.0-only
"""Files that a user names: each fault of a name or of a file is one line, before anything is done with it."""

from __future__ import annotations

import stat
from pathlib import Path

from harness.model.errors import UsageError

# A configuration has 300 KiB, a mailbox with a long series a few MiB.
_LIMIT_BYTES = 64 << 20


def path(word: str, what: str) -> Path:
    """The path behind a word of the command line, `~` and `~user` included. what: the option, for the error."""
    if "\0" in word:
        raise UsageError(f"{what} {word}: a name cannot hold a NUL")
    try:
        return Path(word).expanduser()
    except RuntimeError:
        raise UsageError(f"{what} {word}: there is no user {word.partition('/')[0][1:]!r}") from None


def text(path: Path, what: str, limit_bytes: int = _LIMIT_BYTES) -> str:
    """The text of a regular file. what: what kind of file was looked for, for the error."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: {what} is a file, and this is none")
        if status.st_size > limit_bytes:
            raise UsageError(f"{path}: is no {what}: {status.st_size} bytes (limit {limit_bytes})")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no {what}: byte {error.start} is not UTF-8") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
