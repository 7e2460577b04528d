# SPDX-License-Identifier: GPL-2.0-only
"""A run that ended before its end: what was judged of it, and the request for the rest."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import pressures
from harness.host import sandbox, workspace
from harness.model import begun, documents, files, scenario
from harness.model import recording as recordings
from harness.model.begun import Begun
from harness.model.errors import HarnessError, MachineError, UsageError, unreadable
from harness.model.instrument import Instrument
from harness.model.recording import Ended
from harness.model.run import RunVerdict
from harness.model.scenario import Scenario
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import document, manifest
from harness.report.text import flat, one_line
from harness.run import earlier, judging
from harness.run.pipeline import KernelRequest, Resumed, RunRequest

_HINT = "name a folder that harness run wrote"


@dataclass(frozen=True)
class Unfinished:
    """A run, and what is left of it. told: what to say of it, a line each. closed: its verdict is the last word."""

    folder: Path
    verdict: RunVerdict
    told: Sequence[str] = ()
    closed: bool = True

    @property
    def left(self) -> Sequence[str]:
        """What had no turn, and what could not be looked at for a reason of the host."""
        failed = [result.name for result in self.verdict.scenarios if result.outcome is Outcome.ERROR]
        return (*failed, *self.verdict.not_run)

    @property
    def complete(self) -> bool:
        """Nothing is left, and the verdict is written."""
        return self.closed and not self.left and not self.verdict.error


def read(folder: Path) -> Unfinished:
    """The verdict of a run, with what was judged after it was written, if the run was killed.

    Raises what document.read() does, and UsageError for a run that is under way.
    """
    if manifest.read(folder) is not None:
        return Unfinished(folder, document.read(folder))
    plan = _plan(folder)
    if plan is None:
        return Unfinished(folder, document.read(folder))
    workspace.hold(folder, str(folder))
    verdict = document.read(folder) if _is_there(folder, document.NAME) else plan.unjudged()
    return _with_recordings(folder, plan, verdict)


def request(run: Unfinished, instrument: Instrument, jobs: int = 0) -> RunRequest:
    """What is left to do, on the same kernel. jobs: 0 for as many machines as before.

    Raises UsageError for a run that has links in it, or cannot be resumed.
    """
    plan = _plan(run.folder)
    if plan is None:
        raise UsageError(f"{run.folder}: has no {begun.NAME} (an earlier version made it)", "harness run SCENARIO")
    workspace.hold(run.folder, str(run.folder))
    _refuse_links(run.folder)
    if plan.sandbox:
        sandbox.demand()
    known = {found.name: found for path, text in plan.files.items() for found in _scenarios(run.folder, path, text)}
    for name in plan.scenarios:
        if name not in known:
            raise UsageError(f"{run.folder / begun.NAME}: has no text of the scenario {name!r}", _HINT)
    # A run that stopped at its limit by itself is resumed to see the rest.
    stopped = run.closed and not run.verdict.interrupted and 0 < plan.maxfail <= len(run.verdict.causes)
    return RunRequest(
        kernel=KernelRequest(
            plan.source,
            tuple(plan.patches),
            tuple(plan.configs),
            plan.compiler,
            plan.contract.used or plan.contract.requested,
            base_config=plan.base_config,
            inputs=plan.inputs,
        ),
        instrument=instrument,
        scenarios=[known[name] for name in plan.scenarios],
        accel=plan.accel,
        jobs=jobs or plan.jobs,
        repeat=plan.repeat,
        timeout_s=plan.timeout_s,
        record=plan.record,
        maxfail=0 if stopped else plan.maxfail,
        coverage=plan.coverage,
        changed_since=plan.changed_since,
        resumed=Resumed(run.folder, plan, run.verdict, boots=_boots(run)),
    )


def hint(folder: Path, verdict: RunVerdict) -> Iterator[str]:
    """What to type for the rest of a run."""
    if verdict.not_run and (folder / begun.NAME).exists():
        yield f"{'the rest':12} harness run --resume {flat(shlex.quote(str(folder)))}"


def _plan(folder: Path) -> Begun | None:
    """run.json; None when there is none."""
    if not _is_there(folder, begun.NAME):
        return None
    try:
        return Begun.restore(documents.read(folder / begun.NAME, "run"))
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder / begun.NAME}: {fault}", _HINT) from None


def _is_there(folder: Path, place: str) -> bool:
    try:
        return files.is_below(folder, place)
    except files.NotRegular as fault:
        raise UsageError(f"{fault.filename}: {fault.strerror}", _HINT) from None


def _with_recordings(folder: Path, plan: Begun, verdict: RunVerdict) -> Unfinished:
    """Judge what was recorded after a verdict was written. What is not whole was under way, and has not been judged."""
    there = {entry.name for entry in folder.iterdir()}
    names = [name for name in Unfinished(folder, verdict).left if name in there]
    # They must be files of the run.
    list(manifest.evidence(folder, names))
    results = {result.name: result for result in verdict.scenarios}
    told = []
    for name in names:
        if (folder / name / "record.json").exists():
            try:
                results[name] = judged(folder / name, name)
            except HarnessError as fault:
                told.append(f"{'not judged':12} {one_line(f'{name}: {fault.message}', 1000)}")
    not_run = tuple(name for name in verdict.not_run if name not in results)
    ordered = tuple(results.pop(name) for _, name in plan.rounds if name in results)
    verdict = dataclasses.replace(verdict, scenarios=(*ordered, *results.values()), not_run=not_run)
    if not_run:
        error = f"killed; {len(not_run)} scenarios were not judged"
        verdict = dataclasses.replace(verdict, error=error, interrupted=True, forced=Outcome.ERROR)
    elif verdict.interrupted:
        verdict = dataclasses.replace(verdict, error="", interrupted=False, forced=None)
    return Unfinished(folder, verdict, told, closed=False)


def judged(place: Path, name: str) -> ScenarioResult:
    """The result of a recording."""
    return judging.judge(recordings.read(place, earlier.scenario_of(place, name)))


def _boots(run: Unfinished) -> bool:
    """Whether no scenario showed that the kernel does not boot."""
    failed = [result.name for result in run.verdict.scenarios if result.outcome is Outcome.FAIL]
    try:
        return all(
            documents.read(run.folder / name / "record.json", "record")["ended"] != Ended.NO_BOOT for name in failed
        )
    except (OSError, ValueError) as fault:
        raise MachineError(f"{run.folder}: is damaged: {fault}", "copy the run again") from None


def _scenarios(folder: Path, path: str, text: str) -> list[Scenario]:
    keys = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
    if "\0" in path:
        raise UsageError(f"{folder / begun.NAME}: the name of a file has a NUL", _HINT)
    return scenario.load(Path(path), keys, text)


def _refuse_links(folder: Path) -> None:
    """Raise UsageError for a link below a folder that is about to be written to; we make none."""
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if os.path.islink(f"{parent}/{name}"):  # noqa: PTH114 - a Path for each file takes five times as long
                raise UsageError(f"{parent}/{name}: not a regular file below its folder; links are not followed", _HINT)
