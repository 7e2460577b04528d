# SPDX-License-Identifier: GPL-2.0-only
"""What earlier nights left in the cache: results by key, and how long each job took.

Only what came out as expected is taken over; whatever is red is run again, and
an error of a host says nothing about a kernel.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from harness.host import workspace
from harness.host.progress import Progress
from harness.matrix.job import Job
from harness.matrix.result import Result, count
from harness.matrix.shard import Durations
from harness.model import documents, files
from harness.model.verdict import Outcome
from harness.report import document

RESULTS = "results"
_RESULT = "result.json"
_LIMIT_BYTES = 16 << 20
# The runs of a job that its limit and its place are found from.
_LATEST = 10


def recall(job: Job, key: str, cache: Path, progress: Progress) -> Result | None:
    """The result of an earlier night with the same key, if it is whole and is what is expected now."""
    entry = cache / RESULTS / key
    if not key or not workspace.whole(entry, progress, f"the result of {job.name}"):
        return None
    try:
        told = Result.restore(documents.parse(files.read(entry / _RESULT, _LIMIT_BYTES), "job"))
    except (OSError, ValueError) as fault:
        progress.say(f"{job.name}: its earlier result cannot be read, so it is run again: {fault}")
        return None
    counted, _ = count(told.outcome, told.causes, job.expected, told.reason)
    if counted is not Outcome.PASS or told.outcome is not job.expected.verdict:
        return None
    return Result(**{**vars(told), "job": job, "counted": counted})


def verdict_of(key: str, cache: Path) -> Path:
    """The verdict.json of a result that was recalled."""
    return cache / RESULTS / key / document.NAME


def keep(result: Result, verdict: Path, when: str, cache: Path) -> None:
    """Keep a result for the next night, if it may be taken over. verdict: the verdict.json of its run."""
    if not result.key or result.counted is not Outcome.PASS or result.taken:
        return
    entry = cache / RESULTS / result.key
    with workspace.lock(cache / "locks" / f"{entry.name}.lock"):
        if workspace.whole(entry):
            return
        with workspace.publishing(entry) as fresh:
            kept = Result(**{**vars(result), "taken": when})
            (fresh / _RESULT).write_text(json.dumps(kept.document()), encoding="utf-8")
            (fresh / document.NAME).write_bytes(files.read(verdict, documents.LIMIT_BYTES))


def durations(cache: Path) -> Durations:
    """What this machine's matrices took."""
    content = workspace.recall(_place(cache))
    if content is None:
        return Durations()
    try:
        told = documents.parse(content, "durations")
    except ValueError:
        return Durations()
    return Durations(told["jobs"], told["builds"])


def add_durations(ran: Iterable[Result], builds: dict[str, float], cache: Path) -> None:
    """Remember what jobs and builds took."""
    with workspace.lock(cache / "locks" / "durations.lock"):
        known = durations(cache)
        jobs = {name: list(times) for name, times in known.jobs.items()}
        for result in ran:
            if not result.taken and result.outcome is not Outcome.ERROR:
                jobs[result.job.name] = [*jobs.get(result.job.name, ()), round(result.seconds, 1)][-_LATEST:]
        told = {"schema": 1, "jobs": jobs, "builds": {**known.builds, **builds}}
        # The next night is planned less well without it; that is no reason to lose this one.
        with contextlib.suppress(OSError):
            workspace.remember(_place(cache), json.dumps(told))


def _place(cache: Path) -> Path:
    return cache / "durations.json"
