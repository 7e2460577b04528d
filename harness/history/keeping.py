# SPDX-License-Identifier: GPL-2.0-only
"""Enters runs in the store: each as it ends, and later those that were missed or have changed since."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.history import record, store
from harness.history.store import Store
from harness.host import collect
from harness.host.progress import QUIET, Progress
from harness.model.errors import HarnessError
from harness.model.run import RunVerdict
from harness.report import document
from harness.report.text import one_line
from harness.run import runs

# How long the end of a run waits for another writer, which is done within milliseconds unless something is wrong.
_PATIENCE_S = 1.0
# From so many on, a reader sees that they are taken in.
_MANY = 20


def enter(folder: Path, verdict: RunVerdict, cache: Path) -> Iterator[str]:
    """Enter a run that has just ended; yields what to tell when that failed. It never raises: the verdict stands."""
    try:
        entry = record.of(folder, verdict)
        with Store(cache, _PATIENCE_S) as held:
            held.put(entry, _stamp(folder), live=True)
    except Exception as fault:  # noqa: BLE001 - no fault of ours here may cost a verdict
        said = fault.message if isinstance(fault, HarnessError) else str(fault) or repr(fault)
        # Where it looks by itself.
        mine = folder.absolute().parent == (cache / "runs").absolute()
        command = "harness history" if mine else f"harness history {shlex.quote(str(folder))}"
        yield f"{'history':12} {one_line(said, 1000)}; the verdict stands, {one_line(command, 1000)} enters the run"


def opened(cache: Path, progress: Progress = QUIET, folders: Sequence[Path] = (), *, again: bool = False) -> Store:
    """The store, with all that the runs in the cache have to tell; a damaged one is moved aside and made again.

    folders: of runs elsewhere. again: read also what has not changed. Raises UsageError for the store of a newer
    harness, and for a folder that is no run.
    """
    try:
        held = Store(cache, thorough=True)
    except store.Damaged as damaged:
        aside = store.set_aside(cache)
        if aside is not None:
            progress.say(f"{damaged.message}; it is kept as {aside.name}, and made again from the runs that are left")
        held = Store(cache, thorough=True)
    try:
        for folder in folders:
            held.put(record.read(folder), _stamp(folder))
        take_in(held, cache, progress, again=again)
    except BaseException:
        held.__exit__(None, None, None)
        raise
    return held


def take_in(held: Store, cache: Path, progress: Progress = QUIET, *, again: bool = False) -> int:
    """Enter the runs of the cache that the store does not have, or has otherwise; returns how many.

    The runs elsewhere that it knows are looked at, too, for as long as they are there.
    """
    seen = held.seen()
    held.forget([folder for folder in held.left_out() if not _stamp(Path(folder))])
    mine = [str(folder.absolute()) for folder in reversed(runs.folders(cache))]
    stamps = {folder: _stamp(Path(folder)) for folder in dict.fromkeys([*mine, *seen])}
    wanted = [folder for folder, now in stamps.items() if now and (again or seen.get(folder) != now)]
    for done, folder in enumerate(wanted, 1):
        try:
            entry = record.read(Path(folder))
        except (HarnessError, OSError, ValueError) as fault:
            held.leave_out(folder, stamps[folder], one_line(str(fault), 1000))
        else:
            first = held.folder_of(entry.id)
            if first not in ("", folder) and _stamp(Path(first)):
                held.leave_out(folder, stamps[folder], "")
            else:
                held.put(entry, stamps[folder])
        if len(wanted) >= _MANY:
            progress.advance("history: runs", done, len(wanted))
    return len(wanted)


def missing(held: Store) -> Callable[[Path], bool]:
    """Whether a folder holds a verdict that the store does not have."""
    seen = held.seen()
    return lambda folder: seen.get(str(folder.absolute()), "") != _stamp(folder)


def tidy(cache: Path) -> Iterator[str]:
    """Keep the cache below its limit when that is near; yields what to tell. It never raises, and takes no second."""
    try:
        done = collect.bound_soon(cache, collect.limit_bytes(cache), lambda: _keep(cache))
    except Exception as fault:  # noqa: BLE001 - as in enter()
        yield f"{'cache':12} {one_line(str(fault) or repr(fault), 1000)}; the verdict stands"
        return
    if done:
        yield (
            f"{'cache':12} near its limit: freed {done.freed >> 20} MiB, {done.left >> 20} MiB left; "
            f"harness gc --help says what stays, {collect.VARIABLE}=0 lets it grow"
        )


def _keep(cache: Path) -> collect.Keep:
    try:
        with Store(cache, _PATIENCE_S) as held:
            return collect.Keep(spare=missing(held))
    except HarnessError:
        return collect.Keep(spare=lambda _: True)


def _stamp(folder: Path) -> str:
    """What changes when the verdict of a run does; empty when there is none."""
    try:
        status = os.lstat(folder / document.NAME)
    except (OSError, ValueError):
        return ""
    return f"{status.st_mtime_ns} {status.st_size}"
