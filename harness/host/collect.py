# SPDX-License-Identifier: GPL-2.0-only
"""Bounds the cache: the cheapest to have again goes first, of one kind the oldest; what is in use stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Folders of the cache, the cheapest to have again first. Old runs cannot be had
# again at all, but were written to be read soon. ccache bounds itself.
KINDS = (
    "snapshots",
    "tmp",
    "runs",
    "logs",
    "tests",
    "benchmarks",
    "images",
    "selftests",
    "trees",
    "sources",
    "modules",
    "kernels",
)
# What was used within this time may belong to a run that is under way.
FRESH_S = 3600.0


def bound(cache: Path, limit_bytes: int, fresh_s: float = FRESH_S, kinds: Sequence[str] = KINDS) -> tuple[int, int]:
    """Remove entries until these kinds of them fit; returns the bytes freed and the bytes left."""
    sizes = {entry: _size(entry) for kind in kinds for entry in _entries(cache / kind)}
    before = left = sum(sizes.values())
    for kind in kinds:
        for entry in sorted((e for e in sizes if e.parent.name == kind), key=_used_s):
            if left <= limit_bytes:
                return before - left, left
            if time.time() - _used_s(entry) >= fresh_s and _remove(entry, cache):
                left -= sizes[entry]
    return before - left, left


def _entries(folder: Path) -> Iterator[Path]:
    """What stands for itself in a folder: no locks, and no index of the others."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if entry.suffix != ".lock" and entry.name != "inputs")


def _used_s(entry: Path) -> float:
    """When it was used last; what has gone meanwhile, as a folder that another process publishes goes, is in use."""
    try:
        return entry.lstat().st_mtime
    except FileNotFoundError:
        return time.time()


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        try:
            return path.lstat().st_blocks * 512
        except FileNotFoundError:
            return 0
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


def _remove(entry: Path, cache: Path) -> bool:
    """Remove an entry unless somebody holds its lock."""
    for lock in (cache / "locks" / f"{entry.name}.lock", entry.with_suffix(".lock")):
        if not lock.exists():
            continue
        with lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return _gone(entry)
    return _gone(entry)


def _gone(entry: Path) -> bool:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
    return not entry.exists()
