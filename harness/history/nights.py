# SPDX-License-Identifier: GPL-2.0-only
"""What is different since a time: pure functions on the runs of the store, told from chance.

A *cause* is the same in however many jobs and scenarios it shows. A *series* is what one scenario came to
in one job, in the order of time.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.history import change, overall
from harness.history.record import SKIP, Entry, Result
from harness.history.store import Store
from harness.model.rates import Rate
from harness.model.verdict import Outcome

SCHEMA = 1
# A clock that is ahead by no more than this is no wrong one.
_SLACK_S = 3600.0
# A failure counts as fixed when so many passes in a row would come by chance less often than this.
_LUCK = 0.05
# What is new is compared with what came within so long before.
DAY_S = 86400.0
LOOKBACK_S = 180 * DAY_S
_NUMBER = re.compile(r"\d+")
# What is this much slower, too, belongs to everything that is.
_ALSO = 1.1
# A cause is seen often; so many runs of it are named.
_RUNS = 20

Key = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """A cause in one scenario of one job. failed, rounds: while it was there, so that a rate follows."""

    job: str
    scenario: str
    failed: int
    rounds: int
    passed_since: int


@dataclass(frozen=True)
class Cause:
    """A cause. state: new, still, fixed. runs: the folders of the runs that showed it, the newest first."""

    oracle: str
    key: str
    summary: str
    state: str
    first_s: float
    last_s: float
    seen: Sequence[Seen]
    runs: Sequence[str]
    count: int

    @property
    def id(self) -> str:
        """A short name, the same in every store."""
        return cause_id(self.oracle, self.key)

    @property
    def jobs(self) -> Sequence[str]:
        """Where it shows."""
        return list(dict.fromkeys(one.job for one in self.seen))

    @property
    def scenarios(self) -> Sequence[str]:
        """What shows it."""
        return list(dict.fromkeys(one.scenario for one in self.seen))

    @property
    def rate(self) -> Rate:
        """How often it came, over all its series, while it was there."""
        return Rate(self.id, sum(one.failed for one in self.seen), sum(one.rounds for one in self.seen))

    @property
    def flaky(self) -> bool:
        """The same scenario of the same job passed, too, while it was there."""
        return any(one.failed < one.rounds for one in self.seen)

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        low, high = self.rate.interval
        return {
            "id": self.id,
            "oracle": self.oracle,
            "summary": self.summary,
            "state": self.state,
            "flaky": self.flaky,
            "failed": self.rate.failed,
            "rounds": self.rate.rounds,
            "low": round(low, 4),
            "high": round(high, 4),
            "first_s": self.first_s,
            "last_s": self.last_s,
            "seen": [
                {
                    "job": one.job,
                    "scenario": one.scenario,
                    "failed": one.failed,
                    "rounds": one.rounds,
                    "passed_since": one.passed_since,
                }
                for one in self.seen
            ],
            "count": self.count,
            "runs": list(self.runs),
        }


@dataclass(frozen=True)
class Changed:
    """A figure that is another since a run. what: seconds, or the name of a counter; before, after: medians."""

    job: str
    scenario: str
    what: str
    before: float
    after: float
    since_s: float
    run: str
    # All figures with their times.
    points: Sequence[tuple[float, float]] = field(default=(), repr=False)

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        return {
            "job": self.job,
            "scenario": self.scenario,
            "what": self.what,
            "before": round(self.before, 3),
            "after": round(self.after, 3),
            "since_s": self.since_s,
            "run": self.run,
        }


@dataclass(frozen=True)
class Overall(overall.Shift):
    """All scenarios of many jobs take longer by a factor. kernel: of these jobs; empty for all that there are."""

    kernel: str

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        return {
            "kernel": self.kernel,
            "factor": round(self.factor, 3),
            "low": round(self.low, 3),
            "high": round(self.high, 3),
            "jobs": self.jobs,
            "since_s": self.since_s,
            "run": self.run,
        }


@dataclass(frozen=True)
class Gone:
    """A scenario that was judged before, and now is skipped or comes to too little."""

    job: str
    scenario: str
    verdict: str
    reason: str
    run: str

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        return {
            "job": self.job,
            "scenario": self.scenario,
            "verdict": self.verdict,
            "reason": self.reason,
            "run": self.run,
        }


@dataclass(frozen=True)
class Unjudged:
    """Why runs, or scenarios of them, could not be judged."""

    reason: str
    runs: int
    jobs: int
    run: str

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        return {"reason": self.reason, "runs": self.runs, "jobs": self.jobs, "run": self.run}


@dataclass(frozen=True)
class Night:
    """What is different since a time. before: the newest run before it; misplaced: runs whose clock was wrong."""

    since_s: float
    now_s: float
    verdicts: Mapping[str, int]
    jobs: int
    before_s: float | None = None
    causes: Sequence[Cause] = ()
    overall: Sequence[Overall] = ()
    slower: Sequence[Changed] = ()
    less: Sequence[Changed] = ()
    gone: Sequence[Gone] = ()
    unjudged: Sequence[Unjudged] = ()
    misplaced: Sequence[str] = ()
    points: Sequence[tuple[float, Entry]] = field(default=(), repr=False)

    @property
    def runs(self) -> int:
        """How many there were."""
        return sum(self.verdicts.values())

    def state(self, name: str) -> Sequence[Cause]:
        """The causes of a state, or those that are flaky."""
        return [one for one in self.causes if (one.flaky if name == "flaky" else one.state == name)]

    def document(self) -> dict[str, Any]:
        """As harness history --json prints it."""
        return {
            "schema": SCHEMA,
            "since_s": self.since_s,
            "now_s": self.now_s,
            "before_s": self.before_s,
            "runs": self.runs,
            "verdicts": dict(self.verdicts),
            "jobs": self.jobs,
            "causes": [one.document() for one in self.causes],
            "everything_slower": [one.document() for one in self.overall],
            "slower": [one.document() for one in self.slower],
            "exercised_less": [one.document() for one in self.less],
            "gone": [one.document() for one in self.gone],
            "unjudged": [one.document() for one in self.unjudged],
            "misplaced": list(self.misplaced),
        }


@dataclass(frozen=True)
class _Point:
    """A result with its time and its run."""

    at_s: float
    entry: Entry
    result: Result

    @property
    def key(self) -> Key:
        return self.result.oracle, self.result.cause


_Series = Mapping[tuple[str, str], Sequence[_Point]]


def cause_id(oracle: str, key: str) -> str:
    """The short name of a cause."""
    return hashlib.sha256(f"{oracle}\0{key}".encode(errors="replace")).hexdigest()[:8]


def placed(entries: Iterable[Entry], now_s: float) -> tuple[list[tuple[float, Entry]], list[Entry]]:
    """The runs in the order of time, each with its time; and those whose clock was wrong, so that it is a guess.

    A run that was entered as it ended began after those that were entered so before it: where it tells an
    earlier time, or one that is still to come, it gets that of the one before.
    """
    found, wrong, newest = list[tuple[float, Entry]](), list[Entry](), 0.0
    for entry in sorted(entries, key=lambda one: one.seq):
        at_s = entry.began_s
        if at_s > now_s + _SLACK_S:
            wrong.append(entry)
            at_s = newest or now_s
        elif entry.live and at_s < newest - _SLACK_S:
            wrong.append(entry)
            at_s = newest
        elif entry.live:
            newest = max(newest, at_s)
        found.append((at_s, entry))
    return sorted(found, key=lambda one: (one[0], one[1].seq)), wrong


def recent(held: Store, since_s: float, now_s: float) -> Night:
    """What is different since a time, in a store: with what came before it, but not all that ever came."""
    return night(held.entries(max(0.0, since_s - LOOKBACK_S)), since_s, now_s, held.first_seen())


def night(
    entries: Iterable[Entry], since_s: float, now_s: float, first_seen: Mapping[Key, float] | None = None
) -> Night:
    """What is different since a time. first_seen: when causes were first seen, where that is longer ago."""
    points, wrong = placed(entries, now_s)
    inside = [entry for at_s, entry in points if at_s >= since_s]
    before = [at_s for at_s, _ in points if at_s < since_s]
    series: dict[tuple[str, str], list[_Point]] = defaultdict(list)
    for at_s, entry in points:
        for result in entry.results:
            series[entry.job, result.scenario].append(_Point(at_s, entry, result))
    return Night(
        since_s=since_s,
        now_s=now_s,
        verdicts=Counter(entry.verdict for entry in inside),
        jobs=len({entry.job for entry in inside}),
        before_s=max(before, default=None),
        causes=list(_causes(series, since_s, first_seen or {})),
        overall=list(_overall(series, since_s)),
        slower=list(_slower(series, since_s)),
        less=list(_less(series, since_s)),
        gone=list(_gone(series, since_s)),
        unjudged=_unjudged(inside),
        misplaced=[entry.folder for entry in wrong],
        points=points,
    )


def _causes(series: _Series, since_s: float, first_seen: Mapping[Key, float]) -> Iterator[Cause]:
    shown: dict[Key, dict[tuple[str, str], Sequence[_Point]]] = defaultdict(dict)
    for name, points in series.items():
        judged = [point for point in points if point.result.verdict in (Outcome.PASS, Outcome.FAIL)]
        for key in {point.key for point in judged if point.result.oracle}:
            # A scenario that failed for another reason says nothing of this one.
            shown[key][name] = [point for point in judged if not point.result.oracle or point.key == key]
    found = [cause for key, places in shown.items() if (cause := _cause(key, places, since_s, first_seen))]
    order = ("new", "still", "fixed")
    yield from sorted(found, key=lambda one: (order.index(one.state), -len(one.seen), -one.last_s))


def _cause(
    key: Key, places: Mapping[tuple[str, str], Sequence[_Point]], since_s: float, first_seen: Mapping[Key, float]
) -> Cause | None:
    """A cause, when there is something to tell of it: it was seen since the time, or is fixed since."""
    fails = sorted((point for points in places.values() for point in points if point.key == key), key=lambda p: p.at_s)
    first_s, last_s = min(fails[0].at_s, first_seen.get(key, fails[0].at_s)), fails[-1].at_s
    if last_s >= since_s:
        state = "still" if first_s < since_s else "new"
    else:
        current = [points for points in places.values() if points[-1].at_s >= since_s]
        if not current or not all(_fixed(points, key) for points in current):
            return None
        if all(_fixed([point for point in points if point.at_s < since_s], key) for points in current):
            return None  # That was told before.
        state = "fixed"
    runs = list(dict.fromkeys(point.entry.folder for point in reversed(fails)))
    return Cause(
        *key,
        summary=fails[-1].result.summary,
        state=state,
        first_s=first_s,
        last_s=last_s,
        seen=[Seen(*name, *_counts(points, key)) for name, points in places.items()],
        runs=runs[:_RUNS],
        count=len(runs),
    )


def _counts(points: Sequence[_Point], key: Key) -> tuple[int, int, int]:
    """How often a cause came, in how many rounds, and the passes since.

    The rounds are those from the first to the last on a kernel that showed it: on the same kernel, passes before
    the first failure tell as much as those after.
    """
    kernels = {point.entry.build_id for point in points if point.key == key and point.entry.build_id}
    there = [at for at, point in enumerate(points) if point.key == key or point.entry.build_id in kernels]
    span = points[there[0] : there[-1] + 1]
    return sum(point.key == key for point in span), len(span), len(points) - there[-1] - 1


def _fixed(points: Sequence[_Point], key: Key) -> bool:
    """Whether the passes since are too many for a failure that is only rare."""
    if not any(point.key == key for point in points):
        return True
    failed, rounds, passed = _counts(points, key)
    rate = (failed + 0.5) / (rounds + 1)
    return passed > 0 and (1 - rate) ** passed <= _LUCK


def _slower(series: _Series, since_s: float) -> Iterator[Changed]:
    """Scenarios that take longer, beside what the others of their run took: on a busy host, all take longer."""
    figures = {
        name: _figures([point for point in found if point.result.verdict == Outcome.PASS], "seconds")
        for name, found in series.items()
    }
    paired = change.paired({name: {run: value for run, (_, _, value) in one.items()} for name, one in figures.items()})
    yield from _changed(figures, paired, since_s, dict.fromkeys(figures, "seconds"), change.Slower())


def _overall(series: _Series, since_s: float) -> Iterator[Overall]:
    """What is slower as a whole: each kernel by itself, and everything, which is told once where it is all of them."""
    runs = overall.paced(_paces(points, since_s) for points in series.values())
    kernels: dict[str, list[overall.Paced]] = defaultdict(list)
    for one in runs:
        kernels[one.run.kernel].append(one)
    if len(kernels) == 1:
        kernels.clear()
    groups = len(kernels) + 1
    every = overall.slower(runs, groups)
    each = {kernel: overall.slower(of, groups) for kernel, of in kernels.items()}
    slow = {kernel: shift for kernel, shift in each.items() if shift}
    if every:
        others = [overall.factor(of, every.since_s) for of in kernels.values()]
        if all(one is None or one >= _ALSO for one in others):
            slow = {"": every}
    for kernel, shift in slow.items():
        yield Overall(**vars(shift), kernel=kernel)


def _paces(points: Iterable[_Point], since_s: float) -> Iterator[tuple[overall.Run, float, float]]:
    """The runs in which a scenario passed: the medians of its seconds, and of the milliseconds of the loop."""
    found: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        if point.result.verdict == Outcome.PASS and math.isfinite(point.at_s):
            found[point.entry.id].append(point)
    for of in found.values():
        at_s, entry = of[0].at_s, of[0].entry
        run = overall.Run(entry.job, entry.source, entry.folder, at_s, math.floor((at_s - since_s) / DAY_S))
        loops = [point.result.loop_ms for point in of]
        yield run, change.median([point.result.seconds for point in of]), change.median(loops)


def _less(series: _Series, since_s: float) -> Iterator[Changed]:
    figures, what = {}, {}
    for name, points in series.items():
        counted = [point for point in points if point.result.verdict in (Outcome.PASS, Outcome.INCONCLUSIVE)]
        for counter in {counter for point in counted for counter in point.result.exercised}:
            figures[*name, counter] = _figures(counted, counter)
            what[*name, counter] = counter
    plain = {name: {run: value for run, (_, _, value) in one.items()} for name, one in figures.items()}
    yield from _changed(figures, plain, since_s, what, change.Less())


def _figures(points: Sequence[_Point], what: str) -> dict[str, tuple[float, Entry, float]]:
    """One figure for each run, the median of its rounds, with the time."""
    found: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        found[point.entry.id].append(point)
    return {
        run: (
            of[0].at_s,
            of[0].entry,
            change.median(
                [point.result.seconds if what == "seconds" else point.result.exercised.get(what, 0) for point in of]
            ),
        )
        for run, of in found.items()
    }


def _changed(
    figures: Mapping[Any, Mapping[str, tuple[float, Entry, float]]],
    compared: Mapping[Any, Mapping[str, float]],
    since_s: float,
    what: Mapping[Any, str],
    rule: change.Rule,
) -> Iterator[Changed]:
    lines = {name: list(one) for name, one in compared.items() if len(one) >= change.LEAST}
    for name, runs in lines.items():
        if figures[name][runs[-1]][0] < since_s:
            continue
        at = rule.find([compared[name][run] for run in runs], len(lines))
        if at is None:
            continue
        raw = [figures[name][run][2] for run in runs]
        before, after = change.median(raw[max(0, at - change.MOST_BEFORE) : at]), change.median(raw[at:])
        at_s, entry, _ = figures[name][runs[at]]
        points = [(figures[name][run][0], figures[name][run][2]) for run in runs]
        yield Changed(name[0], name[1], what[name], before, after, at_s, entry.folder, points)


def _gone(series: _Series, since_s: float) -> Iterator[Gone]:
    """What was judged before and now never is: the latest results, all since the time, are no judgement."""
    for (job, scenario), points in series.items():
        latest = [point for point in points if point.at_s >= since_s]
        dead = [point for point in latest if point.result.verdict in (SKIP, Outcome.INCONCLUSIVE)]
        judged = (Outcome.PASS, Outcome.FAIL)
        if (
            dead
            and not any(point.result.verdict in judged for point in latest)
            and any(point.result.verdict in judged for point in points)
        ):
            last = dead[-1]
            yield Gone(job, scenario, last.result.verdict, last.result.reason, last.entry.folder)


def _unjudged(entries: Sequence[Entry]) -> list[Unjudged]:
    """The reasons for which something could not be judged, each once."""
    found: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for entry in entries:
        reasons = [entry.error] * (entry.verdict in (Outcome.ERROR, Outcome.INCONCLUSIVE))
        reasons += [one.reason for one in entry.results if one.verdict in (Outcome.ERROR, Outcome.INCONCLUSIVE)]
        for reason in dict.fromkeys(filter(None, reasons)):
            found[_NUMBER.sub("N", reason)].append((reason, entry))
    made = [
        Unjudged(of[-1][0], len({entry.id for _, entry in of}), len({entry.job for _, entry in of}), of[-1][1].folder)
        for of in found.values()
    ]
    return sorted(made, key=lambda one: -one.runs)
