# SPDX-License-Identifier: GPL-2.0-only
"""Bounds the cache: what was used longest ago goes first, what is in use stays."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Folders of the cache whose entries stand for themselves and can be made again.
# ccache bounds itself.
KINDS = ("runs", "kernels", "modules", "images", "objects", "sources")


def bound(cache: Path, limit_bytes: int) -> tuple[int, int]:
    """Remove entries until the cache fits; returns the bytes freed and the bytes left."""
    entries = sorted((entry.stat().st_mtime, _size(entry), entry) for entry in _entries(cache))
    left = sum(size for _, size, _ in entries)
    freed = 0
    for _, size, entry in entries:
        if left <= limit_bytes:
            break
        if _remove(entry):
            freed += size
            left -= size
    return freed, left


def _entries(cache: Path) -> Iterator[Path]:
    for kind in KINDS:
        folder = cache / kind
        if folder.is_dir():
            yield from (entry for entry in folder.iterdir() if entry.suffix != ".lock")


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * 512
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(f"{parent}/{name}")
            except FileNotFoundError:
                continue
            # A file with several links is shared with another entry; each owns its part.
            total += status.st_blocks * 512 // status.st_nlink
    return total


def _remove(entry: Path) -> bool:
    """Remove an entry unless somebody holds its lock."""
    lock = entry.with_name(entry.name + ".lock")
    if not lock.exists():
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        return True
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(entry, ignore_errors=True)
        return True
