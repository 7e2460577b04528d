# SPDX-License-Identifier: GPL-2.0-only
"""A verdict and its reason, in a sentence."""

from __future__ import annotations

from collections import Counter

from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult


def why(verdict: RunVerdict) -> str:
    """Why a run has its verdict."""
    if verdict.outcome is Outcome.FAIL:
        return _failed(verdict)
    if verdict.error:
        return f"{_sentence(verdict.error)} {_judged(verdict)}"
    count = len(verdict.scenarios)
    if verdict.outcome is Outcome.PASS:
        done = exercised(verdict)
        counted = f"{done['callbacks'] + done['invalidates']:,} callbacks were counted"
        if done["direct_reclaim"]:
            counted += f", {done['direct_reclaim']:,} of them in direct reclaim"
        return f"{_scenarios(count)} ran, no oracle found anything, and what had to happen did: {counted}."
    if not count:
        return "No scenario was judged."
    bad = [result for result in verdict.scenarios if result.outcome is verdict.outcome]
    if not bad:
        short = verdict.coverage.short if verdict.coverage else ""
        return f"No oracle found anything, but {_sentence(short)}"
    what = "proved too little" if verdict.outcome is Outcome.INCONCLUSIVE else "could not be looked at"
    return f"{_of(bad, count)} {what}. {_sentence(f'{bad[0].name}: {bad[0].reason}')}"


def exercised(verdict: RunVerdict) -> Counter[str]:
    """What happened in all scenarios together."""
    total: Counter[str] = Counter()
    for result in verdict.scenarios:
        total.update(result.exercised)
    return total


def _failed(verdict: RunVerdict) -> str:
    bad = [result for result in verdict.scenarios if result.outcome is Outcome.FAIL]
    causes = verdict.causes
    if not bad:
        return _sentence(verdict.error)
    if not causes:
        return f"{_of(bad, len(verdict.scenarios))} failed."
    first = causes[0].finding
    number = "for one cause" if len(causes) == 1 else f"for {len(causes)} causes, of which the first is"
    return f"{_of(bad, len(verdict.scenarios))} failed {number}: {_sentence(first.summary)}"


def _judged(verdict: RunVerdict) -> str:
    counts = Counter(result.outcome.value for result in verdict.scenarios)
    said = ", ".join(f"{number} {word}" for word, number in counts.items())
    return f"Judged until then: {said}." if said else "No scenario was judged."


def _of(some: list[ScenarioResult], count: int) -> str:
    return f"{len(some)} of {_scenarios(count)}" if count > 1 else "The scenario"


def _scenarios(count: int) -> str:
    return "One scenario" if count == 1 else f"{count:,} scenarios"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
