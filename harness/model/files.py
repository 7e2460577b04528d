# SPDX-License-Identifier: GPL-2.0-only
"""Files that somebody else may have made: only regular ones are read, and only up to a limit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class NotRegular(OSError):
    """A folder, a pipe, a device; or, below a root, a symbolic link."""


def read(path: Path, limit_bytes: int) -> bytes:
    """All of a regular file. Raises OSError, and ValueError for a file that is larger than the limit."""
    # A pipe without a writer would be waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file", str(path))
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"more than {limit_bytes} bytes (it has {status.st_size})")
    return content


def is_below(root: Path, name: str) -> bool:
    """Whether a regular file lies below a root. Raises NotRegular when a link, a pipe or the like is in its place."""
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:count])
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not (stat.S_ISREG(mode) if count == len(parts) else stat.S_ISDIR(mode)):
            raise NotRegular(errno.EINVAL, "not a regular file below its folder; links are not followed", str(path))
    return True
