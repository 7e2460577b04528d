# SPDX-License-Identifier: GPL-2.0-only
"""A matrix from its plan to its verdict: what is taken over, what runs, and what is written down as it comes."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.host import git, workspace
from harness.host.progress import Progress
from harness.matrix import shard, store
from harness.matrix.executor import Executor
from harness.matrix.job import Job
from harness.matrix.keys import Keys
from harness.matrix.perform import Work
from harness.matrix.plan import Plan
from harness.matrix.result import Result
from harness.matrix.shard import Durations
from harness.matrix.summary import Summary
from harness.model.verdict import Outcome
from harness.report import document as verdicts
from harness.report.text import one_line

# A job may take so many times the longest that it ever took, and this on top: the host may be busy, a source new.
_MARGIN, _ON_TOP_S = 3.0, 300.0
# How often what has come so far is written while others still run.
_WRITE_S = 5.0


@dataclass(frozen=True)
class Selected:
    """The jobs of a shard in the order in which they run, and all that is known of them before one runs."""

    plan: Plan
    shard: str
    jobs: tuple[Job, ...]
    keys: Mapping[str, str]
    done: Mapping[str, Result]
    durations: Durations
    # Jobs whose folders hold what an earlier state of the harness, or of a source, left there.
    stale: frozenset[str] = frozenset()

    @property
    def left(self) -> Sequence[Job]:
        """The jobs that have to run."""
        return [job for job in self.jobs if job.name not in self.done]

    @property
    def seconds(self) -> float:
        """How long they take one after another."""
        return shard.seconds(self.left, self.durations)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The names of the plan's other jobs."""
        mine = {job.name for job in self.jobs}
        return tuple(job.name for job in self.plan.jobs if job.name not in mine)


def select(
    plan: Plan,
    part: str,
    cache: Path,
    progress: Progress,
    *,
    again: bool = False,
    earlier: Summary | None = None,
    before: Summary | None = None,
    fetches: bool = True,
) -> Selected:
    """Find out which jobs have to run.

    part: I/N, or empty for all. again: nothing is taken over from earlier nights. earlier: what the same matrix
    came to before it was ended. before: another night, whose durations balance the shards. This machine's own do
    not: each machine must find the same shards.
    """
    balance = before.durations if before else Durations()
    known = _both(store.durations(cache), balance)
    if part:
        number, count = shard.parse(part)
        jobs: Sequence[Job] = shard.parts(plan.jobs, balance, count)[number - 1]
    else:
        jobs = plan.jobs
    ordered = tuple(job for group in shard.groups(jobs, known) for job in group.jobs)
    finder = Keys(cache, progress, fetches=fetches)
    keys = {job.name: finder.of(job) for job in ordered}
    done: dict[str, Result] = {}
    results = {result.job.name: result for result in earlier.results} if earlier else {}
    for job in ordered:
        found = results.get(job.name)
        if found is not None and found.key == keys[job.name] and found.outcome is not Outcome.ERROR:
            done[job.name] = found
        elif not again and (recalled := store.recall(job, keys[job.name], cache, progress)):
            done[job.name] = recalled
    held = {**earlier.not_run, **{name: one.key for name, one in results.items()}} if earlier else {}
    stale = frozenset(name for name, key in held.items() if name in keys and (not key or key != keys[name]))
    return Selected(plan, part, ordered, keys, done, known, stale)


def _both(known: Durations, balance: Durations) -> Durations:
    return Durations({**balance.jobs, **known.jobs}, {**balance.builds, **known.builds})


def limit_s(job: Job, durations: Durations) -> float:
    """The longest that a job may take: from its own history; else what the plan says."""
    longest = durations.longest(job)
    return longest * _MARGIN + _ON_TOP_S if longest else job.minutes * 60


@dataclass
class Run:
    """A matrix under way: a harness.matrix.executor.Listener, and the summary of what came so far."""

    selected: Selected
    folder: Path
    cache: Path
    progress: Progress
    began: str = field(default_factory=lambda: now())  # noqa: PLW0108 - it is defined below
    _results: dict[str, Result] = field(default_factory=dict)
    _builds: dict[str, float] = field(default_factory=dict)
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _started: float = field(default_factory=time.monotonic)
    _written: float = 0.0

    def __post_init__(self) -> None:
        """What is done already is part of it."""
        self._results.update(self.selected.done)

    def run(self, executor: Executor, before: Summary | None) -> Summary:
        """Run what is left; the summary is written whatever happens."""
        for name in self.selected.stale:
            # It is another job now, which must not go on with that.
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for result in self.selected.done.values():
            if result.taken and not (place := self.folder / result.job.name / verdicts.NAME).exists():
                place.parent.mkdir(exist_ok=True)
                workspace.link(store.verdict_of(result.key, self.cache), place)
        self._write()
        works = [
            Work(job, self.selected.keys[job.name], limit_s(job, self.selected.durations)) for job in self.selected.left
        ]
        try:
            executor.run(works, self.folder, self)
        finally:
            fresh = [result for name, result in self._results.items() if name not in self.selected.done]
            store.add_durations(fresh, self._builds, self.cache)
            summary = self.summary().compared(before)
            summary.write(self.folder)
        return summary

    def summary(self) -> Summary:
        """What has come so far."""
        with self._guard:
            # In the plan's order, whatever took longest this time.
            results = tuple(self._results[job.name] for job in self.selected.plan.jobs if job.name in self._results)
            missing = {
                job.name: self.selected.keys[job.name] for job in self.selected.jobs if job.name not in self._results
            }
            plan = self.selected.plan
            return Summary(
                plan=plan.name,
                about=plan.summary,
                digest=plan.digest,
                shard=self.selected.shard,
                began=self.began,
                seconds=time.monotonic() - self._started,
                results=results,
                not_run=missing,
                elsewhere=self.selected.elsewhere,
                builds=dict(self._builds),
                code=code(),
            )

    def begins(self, what: str, command: str) -> None:
        """Say it."""
        self.progress.say(f"{what}: {command}")

    def line(self, name: str, text: str) -> None:
        """Keep what a job says in its log."""
        place = self.folder / "logs" / f"{name or 'kernels'}.log"
        with self._guard:
            place.parent.mkdir(exist_ok=True)
            with workspace.space(place), place.open("a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    def built(self, job: Job, seconds: float) -> None:
        """Remember what a kernel took; one that was in the store says nothing about the next."""
        if seconds > 30:
            self._builds[job.build] = round(seconds, 1)

    def ended(self, result: Result | None) -> None:
        """Keep a result, for this matrix and for the next night."""
        if result is None or result.job.name in self._results:
            return
        result = dataclasses.replace(result, key=result.key or self.selected.keys[result.job.name])
        with self._guard:
            self._results[result.job.name] = result
        place = self.folder / result.job.name / verdicts.NAME
        if place.exists():
            store.keep(result, place, self.began, self.cache)
        self._say(result)
        if time.monotonic() - self._written > _WRITE_S:
            self._write()

    def _say(self, result: Result) -> None:
        counts = ", ".join(f"{number} {word}" for word, number in result.scenarios.items())
        said = f"{result.reason}; {counts}" if result.reason and counts else result.reason or counts
        self.progress.say(f"{result.counted.value:12} {result.job.name}  {result.seconds:.1f} s  {one_line(said, 300)}")

    def _write(self) -> None:
        self._written = time.monotonic()
        self.summary().write_document(self.folder)


@functools.cache
def code() -> str:
    """The commit of the harness, where it is a checkout; else empty."""
    if not (workspace.ROOT / ".git").exists():
        return ""
    found = git.run(["rev-parse", "--verify", "--quiet", "HEAD"], cwd=workspace.ROOT)
    return "" if found.status else found.output.decode("ascii", errors="replace").strip()


def now() -> str:
    """The time, as documents have it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
