# SPDX-License-Identifier: GPL-2.0-only
"""What a job came to, and what that counts as, given what was expected."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.matrix.job import Expected, Job
from harness.model.causes import key
from harness.model.run import RunVerdict
from harness.model.verdict import Finding, Outcome, rounded

# What a document keeps of a job; its own run directory has all.
_CAUSES, _NAMES, _TEXT = 50, 20, 400


@dataclass(frozen=True)
class Cause:
    """A finding, and the scenarios of a job that show it; or, over all jobs, the jobs."""

    oracle: str
    summary: str
    where: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As matrix.json holds it."""
        return {"oracle": self.oracle, "summary": self.summary, "where": list(self.where)}


@dataclass(frozen=True)
class Result:
    """A job that ended. outcome: what it came to by itself; counted: what that is, given what was expected.

    taken: when it ran, for one that was taken over from an earlier night; else empty.
    """

    job: Job
    outcome: Outcome
    counted: Outcome
    reason: str = ""
    key: str = ""
    causes: tuple[Cause, ...] = ()
    scenarios: Mapping[str, int] = field(default_factory=dict)
    release: str = ""
    commit: str = ""
    seconds: float = 0.0
    taken: str = ""
    host: str = ""
    attempts: int = 1

    def document(self) -> dict[str, Any]:
        """As matrix.json holds it."""
        return {
            "name": self.job.name,
            "title": self.job.title,
            "subject": self.job.subject,
            "command": self.job.command,
            "job": self.job.document(),
            "verdict": self.outcome.value,
            "counted": self.counted.value,
            "reason": self.reason,
            "key": self.key,
            "causes": [cause.document() for cause in self.causes],
            "scenarios": dict(self.scenarios),
            "release": self.release,
            "commit": self.commit,
            "seconds": rounded(self.seconds),
            "taken": self.taken,
            "host": self.host,
            "attempts": self.attempts,
        }

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Result:
        """What document() wrote, once it fits the schema. What follows from the job is not read."""
        return cls(
            job=Job.restore(told["job"]),
            outcome=Outcome(told["verdict"]),
            counted=Outcome(told["counted"]),
            causes=tuple(Cause(one["oracle"], one["summary"], tuple(one["where"])) for one in told["causes"]),
            **{
                name: told[name]
                for name in ("reason", "key", "scenarios", "release", "commit", "seconds", "taken", "host", "attempts")
            },
        )


def judged(job: Job, verdict: RunVerdict) -> Result:
    """The result of a job whose run has a verdict."""
    causes = tuple(
        Cause(cause.finding.oracle, cause.finding.summary[:_TEXT], tuple(cause.scenarios[:_NAMES]))
        for cause in verdict.causes[:_CAUSES]
    )
    counted, reason = count(verdict.outcome, causes, job.expected, _why(verdict))
    return Result(
        job,
        verdict.outcome,
        counted,
        reason=reason,
        causes=causes,
        scenarios=Counter(result.outcome.value for result in verdict.scenarios),
        release=verdict.kernel.release,
        commit=verdict.kernel.commit,
        seconds=verdict.seconds.get("total", 0.0),
    )


def failed(job: Job, outcome: Outcome, reason: str, seconds: float = 0.0) -> Result:
    """The result of a job that has no verdict: it could not be judged, or its host failed. Never a fail."""
    counted, told = count(outcome, (), job.expected, reason)
    return Result(job, outcome, counted, reason=told[:_TEXT], seconds=seconds)


def count(outcome: Outcome, causes: Sequence[Cause], expected: Expected, why: str) -> tuple[Outcome, str]:
    """What an outcome counts as, and why, in a line."""
    if outcome is Outcome.ERROR:
        return outcome, why
    wanted = expected.verdict.value + (f" by {' or '.join(expected.oracles)}" if expected.oracles else "")
    if outcome is not expected.verdict:
        if outcome is Outcome.INCONCLUSIVE or expected.verdict is Outcome.PASS:
            return outcome, why
        return Outcome.FAIL, f"ended with {outcome.value}, where {wanted} is expected{f': {why}' if why else ''}"
    for cause in causes if expected.oracles else ():
        if cause.oracle not in expected.oracles:
            told = f"[{cause.oracle}] {cause.summary}"
            return Outcome.FAIL, f"failed otherwise than expected ({wanted}): {told}"[:_TEXT]
    if expected.verdict is Outcome.PASS:
        return Outcome.PASS, ""
    return Outcome.PASS, f"{wanted}, as expected"


def over_all(results: Iterable[Result]) -> list[Cause]:
    """The causes of what failed and should not have, each once, with its jobs."""
    found: dict[tuple[str, str], tuple[Cause, list[str]]] = {}
    for result in results:
        for cause in result.causes if result.counted is Outcome.FAIL else ():
            if cause.oracle not in result.job.expected.oracles:
                same = key(Finding(cause.oracle, cause.summary))
                found.setdefault(same, (cause, []))[1].append(result.job.name)
    return [dataclasses.replace(cause, where=tuple(names)) for cause, names in found.values()]


def _why(verdict: RunVerdict) -> str:
    """Why a run did not pass, in a line."""
    if verdict.outcome is Outcome.PASS:
        return ""
    if verdict.causes and verdict.outcome is Outcome.FAIL:
        finding = verdict.causes[0].finding
        more = f" (and {len(verdict.causes) - 1} more causes)" if len(verdict.causes) > 1 else ""
        return f"[{finding.oracle}] {finding.summary[:_TEXT]}{more}"
    if verdict.error:
        return verdict.error[:_TEXT]
    named = (result for result in verdict.scenarios if result.outcome is verdict.outcome)
    return next((f"{result.name}: {result.reason}"[:_TEXT] for result in named), "no scenario was judged")
