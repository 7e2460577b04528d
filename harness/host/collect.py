# SPDX-License-Identifier: GPL-2.0-only
"""Bounds the cache: what was used longest ago goes first; what is in use stays, and so do the runs that are kept."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import workspace
from harness.model.errors import MachineError, UsageError

# Folders of the cache, the cheapest to recreate first: of what was used on the same day, it goes first.
# Old runs cannot be recreated at all, but were written to be read soon. ccache bounds itself.
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
# How much may stay, in GiB: this much, or the share of the disk if that is more.
VARIABLE = "HARNESS_KEEP_GIB"
_LIMIT_GIB, _SHARE = 20, 4
_DAY_S = 86400.0
# A run that failed is kept so many times as long as another one.
_FAILED_LONGER = 4
# What verdict.json of a run that failed begins with.
_FAILED = re.compile(rb'\A\{\s*"schema": 1,\s*"verdict": "fail"')
# Where what is removed goes first, in an instant; in there, nobody finds it.
_TRASH = "trash"
# The sizes that were measured, so that a run need not measure all at its end, and for how long one is believed.
_SIZES = "sizes"
_BELIEVED_S = _DAY_S
# From this share of the limit on, it is near; then so much stays.
_NEAR, _AFTER = 0.95, 0.9


@dataclass(frozen=True)
class Keep:
    """Which runs stay, whatever the limit: the newest, those of the last days, and those that must not go yet."""

    runs: int = 20
    days: float = 3.0
    spare: Callable[[Path], bool] = lambda _: False


@dataclass(frozen=True)
class Entry:
    """Something in the cache that can go."""

    path: Path
    size: int
    used_s: float


@dataclass(frozen=True)
class Collected:
    """What went, or would; and how much is left."""

    gone: Sequence[Entry]
    left: int

    @property
    def freed(self) -> int:
        """How much that was."""
        return sum(entry.size for entry in self.gone)


def limit_bytes(cache: Path) -> int:
    """How much may stay, by $HARNESS_KEEP_GIB or the disk's size; 0: no limit. Raises UsageError for no number."""
    given = os.environ.get(VARIABLE, "")
    if given:
        if not given.isascii() or not given.isdecimal() or len(given) > 6:
            raise UsageError(f"{VARIABLE}={given}: is not a whole number up to 999999", f"{VARIABLE}={_LIMIT_GIB}")
        return int(given) << 30
    place = cache
    while not place.exists():
        place = place.parent
    return max(_LIMIT_GIB << 30, shutil.disk_usage(place).total // _SHARE)


def bound(
    cache: Path,
    limit_bytes: int,
    fresh_s: float = FRESH_S,
    kinds: Sequence[str] = KINDS,
    keep: Keep | None = None,
    *,
    dry: bool = False,
) -> Collected:
    """Remove entries of these kinds until the rest fits the limit. dry: remove nothing, and tell what would go."""
    if not dry:
        _empty(cache)
    sizes = {entry: _size(entry) for kind in kinds for entry in _entries(cache / kind)}
    if kinds == KINDS and cache.is_dir() and not dry:
        found = {}
        for entry, size in sizes.items():
            with contextlib.suppress(FileNotFoundError):
                found[f"{entry.parent.name}/{entry.name}"] = size, entry.lstat().st_mtime_ns, time.time()
        _note(cache, found)
    return _bound(cache, limit_bytes, sizes, keep or Keep(), fresh_s, dry=dry)


def bound_soon(cache: Path, limit_bytes: int, keep: Callable[[], Keep], patience_s: float = 0.5) -> Collected | None:
    """The same within about that time when the limit is near; None when it is not. What is left is for the next time.

    keep: asked only then. Nothing that another process holds is waited for.
    """
    if not limit_bytes:
        return None
    end = time.monotonic() + patience_s
    _empty(cache, end)
    sizes = _measured(cache, end)
    if sum(sizes.values()) < limit_bytes * _NEAR:
        return None
    collected = _bound(cache, int(limit_bytes * _AFTER), sizes, keep(), FRESH_S, end=end)
    return collected if collected.gone else None


def _bound(
    cache: Path,
    limit_bytes: int,
    sizes: Mapping[Path, int],
    keep: Keep,
    fresh_s: float,
    *,
    dry: bool = False,
    end: float | None = None,
) -> Collected:
    left, now_s, gone = sum(sizes.values()), time.time(), list[Entry]()
    used = {entry: _used_s(entry, cache) for entry in sizes}
    newest = _newest(sizes, keep.runs)

    def order(entry: Path) -> tuple[int, int, float]:
        # What was used in the future was used now.
        return -int(max(0.0, now_s - used[entry]) // _DAY_S), KINDS.index(entry.parent.name), used[entry]

    for entry in sorted(sizes, key=order):
        if left <= limit_bytes or (end is not None and time.monotonic() > end):
            break
        age_s = now_s - used[entry]
        if age_s < fresh_s or entry in newest or (entry.parent.name == "runs" and _kept(entry, age_s, keep)):
            continue
        if _remove(entry, cache, dry=dry):
            left -= sizes[entry]
            gone.append(Entry(entry, sizes[entry], used[entry]))
    if not dry:
        _empty(cache, end)
    return Collected(gone, left)


def _newest(entries: Mapping[Path, int], count: int) -> set[Path]:
    """The newest runs: their names are the times at which they began."""
    return set(sorted(entry for entry in entries if entry.parent.name == "runs")[-count:]) if count else set()


def _kept(run: Path, age_s: float, keep: Keep) -> bool:
    days = keep.days * (_FAILED_LONGER if _failed(run) else 1)
    return age_s < days * _DAY_S or keep.spare(run)


def _failed(run: Path) -> bool:
    try:
        with (run / "verdict.json").open("rb") as stream:
            return bool(_FAILED.match(stream.read(200)))
    except OSError:
        return False


def _entries(folder: Path) -> Iterator[Path]:
    """The entries of a folder, without the locks and without the index of the entries."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if entry.suffix != ".lock" and entry.name != "inputs")


def _locks(entry: Path, cache: Path) -> Sequence[Path]:
    return cache / "locks" / f"{entry.name}.lock", entry.with_suffix(".lock")


def _used_s(entry: Path, cache: Path) -> float:
    """When an entry, or its lock, was last used; one that vanished meanwhile: another process may be publishing it."""
    try:
        used = entry.lstat().st_mtime
    except FileNotFoundError:
        return time.time()
    for lock in _locks(entry, cache):
        with contextlib.suppress(OSError):
            used = max(used, lock.lstat().st_mtime)
    return used


def _size(path: Path, end: float = math.inf) -> int:
    """How much of the disk something takes; when time runs out, how much of it was counted by then."""
    if not path.is_dir() or path.is_symlink():
        try:
            return path.lstat().st_blocks * 512
        except FileNotFoundError:
            return 0
    total = 0
    for parent, _, names in os.walk(path):
        if time.monotonic() > end:
            break
        for name in names:
            try:
                status = os.lstat(f"{parent}/{name}")
            except FileNotFoundError:
                continue
            # A file with several links is shared with other entries; each counts its part.
            total += status.st_blocks * 512 // status.st_nlink
    return total


def _measured(cache: Path, end: float) -> dict[Path, int]:
    """The size of each entry, measured now if there is time, else when there was; 0 for what never was."""
    try:
        known = json.loads(workspace.recall(cache / _SIZES) or b"{}")
    except OSError:
        known = {}
    now_s, found, sizes = time.time(), {}, {}
    for entry in (entry for kind in KINDS for entry in _entries(cache / kind)):
        name = f"{entry.parent.name}/{entry.name}"
        with contextlib.suppress(FileNotFoundError):
            changed = entry.lstat().st_mtime_ns
            size, at_ns, measured_s = known.get(name, (0, 0, 0.0))
            stale = at_ns != changed or not 0 <= now_s - measured_s < _BELIEVED_S
            if stale and time.monotonic() < end:
                counted = _size(entry, end)
                # A large one that there was no time for is at least as large; harness gc measures it.
                size = counted if time.monotonic() < end else max(size, counted)
                at_ns, measured_s = changed, now_s
            found[name], sizes[entry] = (size, at_ns, measured_s), size
    if found != {name: tuple(values) for name, values in known.items()}:
        _note(cache, found)
    return sizes


def _note(cache: Path, found: Mapping[str, tuple[int, int, float]]) -> None:
    """Keep the sizes that were measured: they save the next run time, and are worth no error."""
    with contextlib.suppress(OSError, MachineError):
        workspace.remember(cache / _SIZES, json.dumps(found))


def _remove(entry: Path, cache: Path, *, dry: bool) -> bool:
    """Remove an entry unless somebody holds its lock, or itself (workspace.use(), workspace.hold())."""
    with contextlib.ExitStack() as held:
        try:
            for lock in _locks(entry, cache):
                if lock.exists():
                    fcntl.flock(held.enter_context(lock.open("a")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not entry.is_symlink():
                handle = os.open(entry, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                held.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not dry:
                (cache / _TRASH).mkdir(exist_ok=True)
                entry.rename(cache / _TRASH / f"{entry.name}.{os.getpid()}.{time.monotonic_ns()}")
        except OSError:
            # It is in use, or gone, or not ours to remove.
            return False
        return True


def _empty(cache: Path, end: float | None = None) -> None:
    """Remove what lies in the trash, as far as there is time."""
    for parent, folders, names in os.walk(cache / _TRASH, topdown=False):
        for name in (*names, *folders):
            if end is not None and time.monotonic() > end:
                return
            path = f"{parent}/{name}"
            with contextlib.suppress(OSError):
                os.rmdir(path) if name in folders and not os.path.islink(path) else os.unlink(path)  # noqa: PTH106, PTH114
