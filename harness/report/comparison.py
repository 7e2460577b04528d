# SPDX-License-Identifier: GPL-2.0-only
"""comparison.html: what is different between two runs, the differences first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness import __version__
from harness.model.causes import key
from harness.model.run import RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import templating
from harness.report.html import cut
from harness.report.why import exercised, why

NAME = "comparison.html"
# Of each list, so many rows; the verdicts have all.
_ROWS = 500
# A scenario that took less than this share more or less, or exercised so much more or less, is as it was.
_LITTLE = 0.2


def render(before: RunVerdict, after: RunVerdict, names: tuple[str, str]) -> str:
    """The page. names: of the two runs."""
    pairs = list(_pairs(before.scenarios, after.scenarios))
    changed = [pair for pair in pairs if pair[0] and pair[1] and pair[0].outcome is not pair[1].outcome]
    same = [pair for pair in pairs if pair[0] and pair[1] and pair[0].outcome is pair[1].outcome]
    return templating.page(
        "comparison.html.j2",
        verdict=after.outcome.value,
        said=_said(before, after, changed, len(same)),
        runs=[_run(verdict, name) for verdict, name in zip((before, after), names, strict=True)],
        causes=_causes(before, after),
        changed=[_row(*pair) for pair in changed[:_ROWS]],
        changed_more=max(0, len(changed) - _ROWS),
        single=[_row(*pair) for pair in pairs if not (pair[0] and pair[1])][:_ROWS],
        same=[_row(*pair) for pair in same[:_ROWS]],
        same_more=max(0, len(same) - _ROWS),
        numbers=list(_numbers(exercised(before), exercised(after))),
        version=__version__,
    )


Pair = tuple[ScenarioResult | None, ScenarioResult | None]


def _pairs(before: Sequence[ScenarioResult], after: Sequence[ScenarioResult]) -> Iterator[Pair]:
    old = {result.name: result for result in before}
    for result in after:
        yield old.pop(result.name, None), result
    for gone in old.values():
        yield gone, None


def _said(before: RunVerdict, after: RunVerdict, changed: Sequence[Pair], same: int) -> str:
    """The difference in a sentence."""
    if not changed:
        count = f"{same:,} scenario{'s' if same != 1 else ''}" if same else "No scenario is in both runs"
        return f"{count} ended as before." if same else f"{count}."
    worse = sum(one is not None and one.outcome is Outcome.PASS for one, _ in changed)
    better = sum(one is not None and one.outcome is Outcome.PASS for _, one in changed)
    said = [f"{worse:,} passed and no longer do" if worse else "", f"{better:,} pass now" if better else ""]
    other = len(changed) - worse - better
    said += [f"{other:,} ended otherwise" if other else "", f"{same:,} ended as before" if same else ""]
    return f"From {before.outcome} to {after.outcome}: {', '.join(filter(None, said))}."


def _run(verdict: RunVerdict, name: str) -> dict[str, Any]:
    return {
        "name": cut(name, 300),
        "verdict": verdict.outcome.value,
        "title": cut(verdict.title, 300),
        "why": cut(why(verdict), 1000),
        "facts": [
            ("Release", verdict.kernel.release),
            ("Build ID", verdict.kernel.build_id[:12]),
            ("Contract", verdict.contract.used),
            ("Accelerator", verdict.accel.used),
            ("Seconds", f"{verdict.seconds.get('total', 0.0):.1f}"),
        ],
    }


def _causes(before: RunVerdict, after: RunVerdict) -> list[dict[str, Any]]:
    """Each cause of one run or both, the new ones first."""
    sides: list[Mapping[tuple[str, str], tuple[Finding, Sequence[str]]]] = [
        {key(cause.finding): (cause.finding, cause.scenarios) for cause in verdict.causes}
        for verdict in (before, after)
    ]
    found = []
    for one in dict.fromkeys([*sides[1], *sides[0]]):
        counts = [len(side[one][1]) if one in side else 0 for side in sides]
        state = "both" if all(counts) else "new" if counts[1] else "gone"
        finding, scenarios = sides[1].get(one) or sides[0][one]
        found.append(
            {
                "state": state,
                "oracle": finding.oracle,
                "summary": cut(finding.summary, 1000),
                "counts": counts,
                "scenarios": list(scenarios[:_ROWS]),
            }
        )
    return sorted(found, key=lambda cause: ("new", "gone", "both").index(cause["state"]))[:_ROWS]


def _row(before: ScenarioResult | None, after: ScenarioResult | None) -> dict[str, Any]:
    """A scenario: how it ended each time, and what else is different."""
    there = before or after
    assert there is not None
    return {
        "name": there.name,
        "verdicts": [one.outcome.value if one else "not run" for one in (before, after)],
        "seconds": [f"{one.seconds:.1f}" if one else "" for one in (before, after)],
        "differences": list(_differences(before, after)) if before and after else [],
        "finding": cut(_first(after or there), 300),
    }


def _first(result: ScenarioResult) -> str:
    return result.findings[0].summary if result.findings else result.reason


def _differences(before: ScenarioResult, after: ScenarioResult) -> Iterator[str]:
    for name, old, new in (
        *_numbers(before.exercised, after.exercised),
        *((f"latency {name}, µs", old, new) for name, old, new in _numbers(before.latency_us, after.latency_us)),
    ):
        if abs(new - old) > _LITTLE * max(old, new):
            yield f"{name} {old:,} → {new:,}"


def _numbers(before: Mapping[str, int], after: Mapping[str, int]) -> Iterable[tuple[str, int, int]]:
    for name in list(dict.fromkeys([*before, *after]))[:_ROWS]:
        old, new = before.get(name, 0), after.get(name, 0)
        if old or new:
            yield name.replace("_", " "), old, new
