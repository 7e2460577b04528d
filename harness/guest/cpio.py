# SPDX-License-Identifier: GPL-2.0-only
"""An initramfs archive, written without root.

The format is "newc", as Documentation/driver-api/early-userspace/buffer-format.rst describes it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One inode of the archive: a folder, a file, a link or a character device.

    path has no leading slash. mode holds type and permissions as in stat(2).
    """

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str, permissions: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, content: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | permissions, content)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    """A character device node."""
    return Entry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive's bytes: the same entries give the same bytes, whoever writes them and when.

    Folders come first because the kernel creates no parents; the owner is root, times are 0.
    """
    parts = []
    ordered = sorted(entries, key=lambda entry: (not stat.S_ISDIR(entry.mode), entry.path))
    for inode, entry in enumerate([*ordered, Entry(_TRAILER, 0)], start=1):
        parts.append(_record(inode, entry))
    return b"".join(parts)


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        2 if stat.S_ISDIR(entry.mode) else 1,  # links
        0,  # mtime
        len(entry.content),
        0,  # the device that holds the file
        0,
        *entry.device,
        len(name),
        0,  # checksum, of the "crc" variant only
    )
    head = _MAGIC + b"".join(b"%08X" % number for number in fields) + name
    return _padded(head) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
