# SPDX-License-Identifier: GPL-2.0-only
"""Bounds the cache: what is cheapest to recreate goes first, the oldest of a kind first; what is in use stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Folders of the cache, the cheapest to recreate first. Old runs cannot be recreated
# at all, but were written to be read soon. ccache bounds itself.
KINDS = (
    "snapshots",
    "tmp",
    "faults",
    "recipes",
    "runs",
    "matrices",
    "logs",
    "tests",
    "benchmarks",
    "docs",
    "images",
    "selftests",
    "trees",
    "sources",
    "modules",
    "results",
    "kernels",
)
# An entry that was used within this time may belong to a run that is under way.
FRESH_S = 3600.0


def bound(cache: Path, limit_bytes: int, fresh_s: float = FRESH_S, kinds: Sequence[str] = KINDS) -> tuple[int, int]:
    """Remove entries of these kinds until the rest fits the limit; returns the bytes freed and the bytes left."""
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
    """The entries of a folder, without the locks and without the index of the entries."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if entry.suffix != ".lock" and entry.name != "inputs")


def _used_s(entry: Path) -> float:
    """When an entry was last used; one that vanished meanwhile is in use: another process may be publishing it."""
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
            # A file with several links is shared with other entries; each counts its part.
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
