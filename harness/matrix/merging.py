# SPDX-License-Identifier: GPL-2.0-only
"""Shards, and plain runs, as one matrix. They may be anybody's: nothing outside their folders is read."""

from __future__ import annotations

import dataclasses
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.host import workspace
from harness.matrix import result as results
from harness.matrix import summary
from harness.matrix.job import Job
from harness.matrix.result import Result
from harness.matrix.summary import Summary
from harness.model.contract import AUTO, CHOICES
from harness.model.errors import UsageError
from harness.model.run import BUILT
from harness.model.verdict import worst
from harness.report import document

# Below the base that a run's configurations are on top of.
_BASES = ("base", "guest")


def merge(folders: Sequence[Path]) -> tuple[Summary, dict[str, Path]]:
    """What they come to together, and where the run directory of each job is. Raises UsageError for other folders.

    A job that several of them ran counts as the worst of its results. One that the plan has and none of them ran
    is not run, and that is an error.
    """
    shards = {folder: summary.read(folder) for folder in folders if summary.is_matrix(folder)}
    first = next(iter(shards), None)
    for folder, other in shards.items():
        if first is not None and other.digest != shards[first].digest:
            raise UsageError(
                f"{first} and {folder}: are shards of different plans ({shards[first].plan}, {other.plan})",
                f"harness merge {shlex.quote(str(first))}, and the others by themselves",
            )
    found: dict[str, tuple[Result, Path]] = {}
    for folder in folders:
        parts = [(one, folder / one.job.name) for one in shards[folder].results] if folder in shards else []
        for one, place in parts or ([] if folder in shards else [(_run(folder, found), folder)]):
            before = found.get(one.job.name)
            if before is None or worst([before[0].counted, one.counted]) is not before[0].counted:
                found[one.job.name] = (one, place)
    planned = dict.fromkeys(name for one in shards.values() for name in (*one.not_run, *one.elsewhere))
    parts_of = list(shards.values())
    told = Summary(
        plan=parts_of[0].plan if parts_of else "runs",
        about=parts_of[0].about if parts_of else "",
        digest=parts_of[0].digest if parts_of else "",
        shard="",
        began=min((one.began for one in parts_of), default=""),
        seconds=max((one.seconds for one in parts_of), default=0.0),
        results=tuple(one for one, _ in found.values()),
        not_run={name: "" for name in planned if name not in found},
        builds={name: seconds for one in parts_of for name, seconds in one.builds.items()},
        code=next((one.code for one in parts_of if one.code), ""),
    )
    return told, {name: place for name, (_, place) in found.items()}


def gather(places: dict[str, Path], out: Path) -> None:
    """Bring the run directories below one folder. Raises UsageError for a link, a pipe or the like in one."""
    for name, place in places.items():
        for path in _regular(place):
            target = out / name / path.relative_to(place)
            workspace.link(path, target)


def _run(folder: Path, taken: dict[str, tuple[Result, Path]]) -> Result:
    """A plain run as a job of which nothing but a pass is expected."""
    verdict = document.read(folder)
    contract = verdict.contract.requested if verdict.contract.requested in CHOICES else AUTO
    scenarios = tuple(dict.fromkeys(one.name for one in verdict.scenarios))
    job = Job(
        kernel=verdict.source,
        patch=() if verdict.source.startswith(BUILT) else tuple(verdict.patches) or ("none",),
        contract=contract,
        config=tuple(name for name in verdict.configs if name not in _BASES),
        accelerator=verdict.accel.requested if verdict.accel.requested in ("auto", "kvm", "tcg") else "auto",
        scenarios=scenarios if len(scenarios) == 1 else (folder.absolute().name,),
    )
    while job.name in taken:
        job = dataclasses.replace(job, scenarios=(f"{job.scenarios[0]}-again",))
    return results.judged(job, verdict)


def _regular(root: Path) -> Iterator[Path]:
    if not root.exists():
        # A job without a run: its kernel could not be built.
        return
    _refuse(root)
    for parent, folders, names in os.walk(root):
        for name in folders:
            _refuse(Path(parent, name))
        for name in names:
            yield _refuse(Path(parent, name))


def _refuse(path: Path) -> Path:
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(
            f"{path}: not a regular file below its folder; links are not followed",
            "name a folder that harness matrix or harness run wrote",
        )
    return path
