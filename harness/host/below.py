# SPDX-License-Identifier: GPL-2.0-only
"""The one door to files whose names come from outside: what is below a folder is reached, and nothing else.

A tarball, a git tree, a patch and an index may call a file `../x`, or make a
symbolic link and then name a file behind it. Each component is therefore
opened below the one before it, links not followed (openat(2), O_NOFOLLOW).
The last folder stays open: 85,000 files of a kernel lie in 5,600 folders.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from harness.model.errors import MachineError

# The longest name in Linux 6.12 has 111 bytes.
NAME_LIMIT, COMPONENT_LIMIT = 1000, 255
# The largest file in Linux 6.12 has 25 MB.
FILE_LIMIT = 256 << 20
# PATH_MAX, with the NUL at the end.
_TARGET_LIMIT = 4096

_Made = TypeVar("_Made")
_NEVER = frozenset(("", ".", "..", ".git"))
# Of so many characters no name is too long, whatever their encoding.
_SHORT = COMPONENT_LIMIT // 4


class Refused(MachineError):
    """A name leads out of its folder, or a link or a file is where a folder should be."""


def fault(name: str) -> str:
    """Why a name is no relative path of a source file, as the end of a sentence; empty when it is one."""
    parts = name.split("/")
    if _NEVER.isdisjoint(parts) and len(name) <= _SHORT and "\0" not in name:
        return ""
    if name.startswith("/"):
        return "is absolute"
    if "\0" in name:
        return "has a NUL"
    for part in parts:
        if part in _NEVER:
            return f"has the component {part!r}"
        if len(raw := os.fsencode(part)) > COMPONENT_LIMIT:
            return f"has a component of {len(raw)} bytes (limit {COMPONENT_LIMIT})"
    if len(raw := os.fsencode(name)) > NAME_LIMIT:
        return f"has {len(raw)} bytes (limit {NAME_LIMIT})"
    return ""


def shown(name: str) -> str:
    """A name for a message, cut in the middle when it is long."""
    return repr(name if len(name) <= 120 else f"{name[:60]}…{name[-50:]}")


class Below:
    """A folder that is open, and the files below it by their names. One thread at a time.

    Raises Refused for a name that has a fault, and when a write would go through a link.
    """

    def __init__(self, root: Path) -> None:
        self._path = root
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder, self._open = "", self._root

    def __enter__(self) -> Below:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave()
        os.close(self._root)

    def stat(self, name: str) -> os.stat_result | None:
        """What is there, links not followed; None when nothing is, or only behind a link."""
        try:
            folder, last = self._parent(name)
            return os.stat(last, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes:
        """The content of a regular file. OSError when it is none, Refused when it is too large."""
        folder, last = self._parent(name)
        # A file that became a fifo since it was looked at must not block.
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, "rb", buffering=0) as stream:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, "no longer a file", name)
            if found.st_size > FILE_LIMIT:
                raise Refused(f"{self._path}/{name}: has {found.st_size >> 20} MiB (limit {FILE_LIMIT >> 20} MiB)")
            return stream.read()

    def read_link(self, name: str) -> bytes:
        """The target of a symbolic link."""
        folder, last = self._parent(name)
        return os.fsencode(os.readlink(last, dir_fd=folder))

    def write(self, name: str, content: bytes, mode: int) -> None:
        """Put a file in place under a new inode, so that a hard link elsewhere keeps its content."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = self._put(name, lambda folder, last: os.open(last, flags, 0o600, dir_fd=folder))
        with os.fdopen(handle, "wb", buffering=0) as stream:
            rest = memoryview(content)
            while rest:
                rest = rest[stream.write(rest) :]
            os.fchmod(handle, mode)

    def symlink(self, name: str, target: bytes) -> None:
        """Put a symbolic link in place; where it leads does not matter, as it is never followed here.

        Raises Refused for a target that no link can have (symlink(2)).
        """
        if not 0 < len(target) < _TARGET_LIMIT or b"\0" in target:
            raise Refused(f"{self._path}: {shown(name)} is a link to what is no path: {len(target)} bytes")
        self._put(name, lambda folder, last: os.symlink(target, os.fsencode(last), dir_fd=folder))

    def link(self, name: str, origin: Below) -> None:
        """Give a file that is below another folder the same name below this one."""
        theirs, _ = origin._parent(name)
        self._put(
            name,
            lambda folder, last: os.link(last, last, src_dir_fd=theirs, dst_dir_fd=folder, follow_symlinks=False),
        )

    def remove(self, name: str) -> None:
        """Delete a file if it is there, and the folders that it leaves empty."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder, last = self._parent(name)
            os.unlink(last, dir_fd=folder)
        with contextlib.suppress(OSError):
            while name := name.rpartition("/")[0]:
                folder, last = self._parent(name)
                os.rmdir(last, dir_fd=folder)

    def _put(self, name: str, make: Callable[[int, str], _Made]) -> _Made:
        """Make something new under a name: its folder is made first, and what was there goes."""
        try:
            folder, last = self._parent(name, make=True)
            try:
                return make(folder, last)
            except FileExistsError:
                os.unlink(last, dir_fd=folder)
                return make(folder, last)
        except NotADirectoryError:
            raise Refused(f"{self._path}: {shown(name)} is behind a link or a file") from None
        except IsADirectoryError:
            raise Refused(f"{self._path}: {shown(name)} is a folder") from None

    def _parent(self, name: str, *, make: bool = False) -> tuple[int, str]:
        """The open folder of a name, and the name's last component."""
        if wrong := fault(name):
            raise Refused(f"{self._path}: {shown(name)} {wrong}")
        folder, _, last = name.rpartition("/")
        if folder != self._folder:
            self._leave()
            opened = self._root
            for part in folder.split("/") if folder else ():
                try:
                    inner = _descend(opened, part, make=make)
                finally:
                    if opened != self._root:
                        os.close(opened)
                opened = inner
            self._folder, self._open = folder, opened
        return self._open, last

    def _leave(self) -> None:
        if self._open != self._root:
            os.close(self._open)
        self._folder, self._open = "", self._root


def _descend(folder: int, part: str, *, make: bool) -> int:
    """Open a folder in an open folder. NotADirectoryError when it is a file or a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(part, 0o755, dir_fd=folder)
    return os.open(part, flags, dir_fd=folder)
