# SPDX-License-Identifier: GPL-2.0-only
"""history.html: the same as on a terminal, with charts, on one page that needs nothing outside it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness import __version__
from harness.history.nights import Cause, Changed, Night, Overall
from harness.history.text import head, mail, number, overall, when
from harness.model.verdict import Outcome
from harness.report import templating
from harness.report.text import one_line

NAME = "history.html"
# Of each list, so many rows, and of each text so many characters, so that a page stays below 5 MB.
_CAUSES, _SEEN, _ROWS, _CHARTS, _POINTS, _TEXT = 100, 10, 100, 25, 400, 200
_TONES = {Outcome.PASS: "--pass", Outcome.FAIL: "--fail", Outcome.INCONCLUSIVE: "--doubt", Outcome.ERROR: "--young"}


def render(night: Night, left_out: Mapping[str, str]) -> str:
    """The page. left_out: folders that cannot be read, and why."""
    words = [outcome.value for outcome in _TONES]
    days = _days(night, words)
    states: dict[str, Sequence[Cause]] = {state: night.state(state) for state in ("new", "still", "fixed")}
    changed: dict[str, Sequence[Changed]] = {"slower": night.slower, "less": night.less}
    return templating.page(
        "history.html.j2",
        head=_text(head(night)),
        mail=mail(night),
        tone="fail" if states["new"] or states["still"] else "pass",
        counts=[
            (word, count, tone)
            for word, count, tone in (
                ("new", len(states["new"]), "fail"),
                ("still failing", len(states["still"]), "fail"),
                ("flaky", len(night.state("flaky")), "inconclusive"),
                ("fixed", len(states["fixed"]), "pass"),
                ("slower", len(night.overall) + len(night.slower), "inconclusive"),
                ("exercised less", len(night.less) + len(night.gone), "inconclusive"),
            )
            if count
        ],
        notes=_notes(night, left_out),
        causes={state: [_cause(one) for one in found[:_CAUSES]] for state, found in states.items()},
        overall=[_overall(one) for one in night.overall[:_ROWS]],
        changed={kind: [_changed(one) for one in found[:_CHARTS]] for kind, found in changed.items()},
        gone=[_cut(one.document()) for one in night.gone[:_ROWS]],
        unjudged=[_cut(one.document()) for one in night.unjudged[:_ROWS]],
        more={
            **{state: max(0, len(found) - _CAUSES) for state, found in states.items()},
            **{kind: max(0, len(found) - _CHARTS) for kind, found in changed.items()},
            "gone": max(0, len(night.gone) - _ROWS),
            "unjudged": max(0, len(night.unjudged) - _ROWS),
        },
        words=words,
        days=[(day, counts) for day, _, counts in reversed(days)],
        days_data=_data(
            [at_s for _, at_s, _ in days],
            [(word, _TONES[Outcome(word)], [counts[at] for _, _, counts in days]) for at, word in enumerate(words)],
        ),
        version=__version__,
    )


def _text(text: str) -> str:
    return one_line(text, _TEXT)


def _cut(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, str) else value for name, value in document.items()}


def _notes(night: Night, left_out: Mapping[str, str]) -> Sequence[str]:
    notes = [f"Cannot be read: {_text(folder)}: {_text(reason)}" for folder, reason in list(left_out.items())[:_ROWS]]
    if night.misplaced:
        count = number(len(night.misplaced), "run")
        notes.append(f"{count} with a time that cannot be, put where the run before was.")
    return notes


def _cause(one: Cause) -> dict[str, Any]:
    low, high = one.rate.interval
    rate = f"{one.rate.failed} of {number(one.rate.rounds, 'round')}"
    sure = f", {low:.1%} to {high:.1%} at 95%: it passes, too" if one.flaky else ""
    where = f"{number(len(one.scenarios), 'scenario')} of {number(len(one.jobs), 'job')}"
    return {
        "id": one.id,
        "oracle": _text(one.oracle),
        "summary": _text(one.summary),
        "said": f"In {where}; failed in {rate}{sure}.",
        "first": when(one.first_s),
        "last": when(one.last_s),
        "runs": one.count,
        "seen": [_cut(vars(seen)) for seen in one.seen[:_SEEN]],
        "more": max(0, len(one.seen) - _SEEN),
    }


def _overall(one: Overall) -> dict[str, Any]:
    return {
        "said": _text(overall(one)),
        "sure": f"Between ×{one.low:.2f} and ×{one.high:.2f}, at 95%; since {when(one.since_s)}.",
        "run": _text(one.run),
    }


def _changed(one: Changed) -> dict[str, Any]:
    points = one.points[-_POINTS:]
    return {
        "scenario": _text(one.scenario),
        "what": _text(one.what),
        "before": f"{one.before:.4g}",
        "after": f"{one.after:.4g}",
        "since": when(one.since_s),
        "run": _text(one.run),
        "job": _text(one.job),
        "data": _data([at_s for at_s, _ in points], [(one.what, "--start", [value for _, value in points])]),
    }


def _days(night: Night, words: Sequence[str]) -> list[tuple[str, float, list[int]]]:
    """Each day with runs: its name, when it began, and how many runs had each verdict."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    began: dict[str, float] = {}
    for at_s, entry in night.points:
        day = when(at_s)[:10]
        began.setdefault(day, at_s)
        found[day][entry.verdict] += 1
    return [(day, began[day], [found[day][word] for word in words]) for day in list(found)[-_POINTS:]]


def _data(times: Sequence[float], series: Sequence[tuple[str, str, Sequence[float]]]) -> Any:
    named = [{"name": _text(name), "tone": tone, "values": list(values)} for name, tone, values in series]
    return templating.data({"times": list(times), "series": named})
