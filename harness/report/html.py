# SPDX-License-Identifier: GPL-2.0-only
"""report.html: a run on one page, the verdict first, and never larger than a limit, whatever the run held."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness import __version__
from harness.model import begun, documents, files
from harness.model.causes import Cause, key, telling
from harness.model.event import BLOCKABLE, MAYFAIL, Event, Kind, RangeEvent
from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import templating
from harness.report.detail import Detail
from harness.report.timeline import Timeline
from harness.report.why import exercised, why

NAME = "report.html"
LIMIT_BYTES = 5_000_000
# The lists of a page, and the texts in it, end there; the files of the run have the rest.
_ROWS, _TEXT, _DIFF_LINES, _FILE_BYTES = 300, 8_000, 3_000, 16 << 20
_LISTS = ("skipped", "not_run", "noise", "cache", "rates")
# A scenario of which less than this can be told is told in a line.
_LEAST_BYTES = 20_000
PATCHES, CONFIG = "kernel/patches", "kernel/config"
_SET = re.compile(r"^CONFIG_\w+=.*", re.MULTILINE)
_SHORT_NAMES = 12


def render(verdict: RunVerdict, folder: Path | None = None, details: Mapping[str, Detail] | None = None) -> str:
    """The page. folder: of the run, for what it was made of; details: of its scenarios."""
    return _Page(verdict, folder, details or {}).render()


class _Page:
    """A page in the making."""

    def __init__(self, verdict: RunVerdict, folder: Path | None, details: Mapping[str, Detail]) -> None:
        self._verdict = verdict
        self._folder = folder
        self._details = details

    def render(self) -> str:
        """The page with as many scenarios in full as it can hold."""
        results = self._verdict.scenarios
        rest = _Rest(results, _ROWS * 10)
        lines = {result.name: self._section(result, full=False) for result in rest.shown}
        left = LIMIT_BYTES - len(self._whole(rest, lines).encode())
        for result in _by_weight(rest.shown):
            if left < _LEAST_BYTES:
                break
            section = self._section(result, full=True)
            more = len(section.encode()) - len(lines[result.name].encode())
            if more <= left:
                lines[result.name] = section
                left -= more
        return self._whole(rest, lines)

    def _whole(self, rest: _Rest, sections: Mapping[str, Markup]) -> str:
        verdict, run = self._verdict, self._run
        return templating.page(
            "report.html.j2",
            run=run,
            why=cut(why(verdict), 1000),
            title=cut(verdict.title, 300),
            counts=_counts(verdict),
            causes=self._causes(),
            exercised=[(name.replace("_", " "), count) for name, count in exercised(verdict).items() if count],
            sections=[sections[result.name] for result in rest.shown],
            left_out=rest.left,
            patches=list(self._patches),
            options=self._options,
            commands=[(said, cut(command)) for said, command in self._commands],
            lists={name: _listed(self._document[name]) for name in _LISTS},
            lines=_listed((self._document["patch_coverage"] or {"lines": []})["lines"]),
            version=__version__,
        )

    @cached_property
    def _document(self) -> dict[str, Any]:
        return self._verdict.document()

    @cached_property
    def _first(self) -> Mapping[tuple[str, str], str]:
        """The scenario that is shown for a cause, by the cause's key."""
        return {key(cause.finding): cause.scenarios[0] for cause in self._causes_found}

    @cached_property
    def _causes_found(self) -> Sequence[Cause]:
        return self._verdict.causes

    @cached_property
    def _run(self) -> dict[str, Any]:
        """What is small of the verdict's document."""
        run = {name: value for name, value in self._document.items() if name not in (*_LISTS, "scenarios", "causes")}
        run["error"] = cut(run["error"], 2000)
        if run["patch_coverage"]:
            run["patch_coverage"] = {
                name: cut(value, 2000) if isinstance(value, str) else value
                for name, value in run["patch_coverage"].items()
                if name in ("summary", "percent", "required", "ran")
            }
        run["patches"] = [cut(name, 300) for name in run["patches"][:_ROWS]]
        run["configs"] = [cut(name, 300) for name in run["configs"][:_ROWS]]
        return run

    def _causes(self) -> list[dict[str, Any]]:
        """Each cause once, with the scenario that is shown for it."""
        shown = []
        for cause in self._causes_found[:_ROWS]:
            first = cause.scenarios[0]
            found = next(result.findings for result in self._verdict.scenarios if result.name == first)
            shown.append(
                {
                    "oracle": cause.finding.oracle,
                    "summary": cut(cause.finding.summary, 1000),
                    "evidence": cut(cause.finding.evidence, _TEXT // 4),
                    "first": first,
                    "number": next((n for n, one in enumerate(found, 1) if one is cause.finding), 0),
                    "charted": bool(self._timeline(first).marks),
                    "scenarios": list(cause.scenarios[: _ROWS * 2]),
                    "count": len(cause.scenarios),
                }
            )
        return shown

    def _section(self, result: ScenarioResult, *, full: bool) -> Markup:
        """A scenario, in a line or in full."""
        scenario = {
            "name": cut(result.name, 200),
            "verdict": result.outcome.value,
            "seconds": round(result.seconds, 1),
            "counted": cut(result.counted, 160),
            "reason": cut(result.reason, 2000 if full else 160),
        }
        if not full:
            return templating.part("scenario.html.j2", scenario=scenario, full=False)
        detail = self._details.get(result.name, Detail())
        line = detail.timeline
        return templating.part(
            "scenario.html.j2",
            scenario=scenario,
            full=True,
            alone=len(self._verdict.scenarios) == 1,
            recorded=result.name in self._details,
            findings=list(self._findings(result, line)),
            exercised=[(name.replace("_", " "), count) for name, count in result.exercised.items() if count],
            selftests=[(name, str(results)) for name, results in list(result.selftests.items())[:_ROWS]],
            latency=dict(result.latency_us),
            durations=[(_time(1 << power), count) for power, count in line.durations.items()],
            timeline={"events": line.events, "lost": line.lost, "marks": _marks(line)},
            chart=templating.data(line.chart()),
            steps=[_step(row) for row in line.steps],
            exact=[_window(seq, events, line) for seq, events in line.exact.items()],
            console=[(part.line, part.title, cut(part.text, _TEXT * 2)) for part in detail.console],
            texts=[(said, cut(text, _TEXT * 4)) for said, text in self._texts(result)],
            commands=[command for _, command in self._again(result)],
        )

    def _findings(self, result: ScenarioResult, line: Timeline) -> Iterator[dict[str, Any]]:
        marked = {mark.number: mark for mark in line.marks}
        main = telling(result)
        for number, finding in enumerate(result.findings[:_ROWS], 1):
            mark = marked.get(number)
            as_in = self._first.get(key(finding), "") if finding is main else ""
            yield {
                "number": number,
                "oracle": finding.oracle,
                "summary": cut(finding.summary, 1000),
                "evidence": cut(finding.evidence),
                "event": mark.event if mark else 0,
                "at": mark.at_s if mark else None,
                "as_in": as_in if as_in != result.name else "",
            }

    def _timeline(self, name: str) -> Timeline:
        return self._details.get(name, Detail()).timeline

    def _texts(self, result: ScenarioResult) -> Iterator[tuple[str, str]]:
        """What was written beside a recording: stacks with their source lines, what was read from outside."""
        decoded = self._read(f"{result.name}/decoded.txt")
        if decoded:
            yield "Stacks with source lines", decoded
        elif text := self._read(f"{result.name}/postmortem.txt"):
            yield "Read from outside the guest", text

    @cached_property
    def _patches(self) -> Sequence[tuple[str, list[tuple[str, str]], int]]:
        """Each patch: its name, its lines with what they are, and how many are left out."""
        place = self._folder / PATCHES if self._folder else None
        names = sorted(path.name for path in place.glob("*.patch"))[:_ROWS] if place and place.is_dir() else []
        shown, left = [], _DIFF_LINES
        for name in names:
            lines = self._read(f"{PATCHES}/{name}").splitlines()
            kept = [(_kind(line), cut(line, 500)) for line in lines[:left]]
            left -= len(kept)
            shown.append((name, kept, len(lines) - len(kept)))
        return shown

    @cached_property
    def _options(self) -> str:
        """The options of the kernel that are set."""
        return cut("\n".join(_SET.findall(self._read(CONFIG))), 300_000)

    @cached_property
    def _commands(self) -> Sequence[tuple[str, str]]:
        """What to type to repeat all of it."""
        if self._folder is None:
            return ()
        words = self._words
        place = shlex.quote(str(self._folder))
        found = []
        if words:
            asked = [*(result.name for result in self._verdict.scenarios), *self._verdict.not_run]
            names = list(dict.fromkeys(name.partition(".")[0] for name in asked))
            found.append(("The same once more", shlex.join([*words, *names])))
        if self._verdict.not_run and words:
            found.append(("The rest of it", f"harness run --resume {place}"))
        found += [
            ("Judge it again, from its files alone", f"harness judge {place}"),
            ("Source lines in its stacks, and on this page", f"harness decode {place} && harness report {place}"),
            ("Compare it with another run", f"harness report OTHER-RUN {place}"),
        ]
        return found

    def _again(self, result: ScenarioResult) -> Iterator[tuple[str, str]]:
        """What to type to look into a scenario."""
        if self._folder is None:
            return
        if self._words:
            yield "", shlex.join([*self._words, result.name.partition(".")[0]])
        yield "", shlex.join(["harness", "shell", f"{self._folder}/{result.name}"])
        if result.tape:
            yield "", shlex.join(["harness", "replay", str(self._folder), result.name])

    @cached_property
    def _words(self) -> Sequence[str]:
        """`harness run` as it was asked for the kernel; empty when that is not known."""
        if self._folder is None:
            return ()
        try:
            if not files.is_below(self._folder, begun.NAME):
                return ()
            plan = begun.Begun.restore(documents.read(self._folder / begun.NAME, "run"))
        except (OSError, ValueError):
            return ()
        words = ["harness", "run", "--source", plan.source]
        words += [word for name in plan.patches for word in ("--patch", name)]
        words += [word for name in plan.configs for word in ("--config", name)]
        for option, value, default in (
            ("--contract", plan.contract.requested, "auto"), ("--compiler", plan.compiler, "gcc"),
            ("--accel", plan.accel, "auto"), ("--repeat", plan.repeat, 1),
            ("--changed-since", plan.changed_since, ""),
        ):  # fmt: skip
            words += [option, str(value)] if value != default else []
        return words + ["--record"] * plan.record + ["--sandbox"] * bool(plan.sandbox)

    def _read(self, name: str) -> str:
        """A text below the run; empty when it is not there or is no file of the run."""
        try:
            if self._folder is None or not files.is_below(self._folder, name):
                return ""
            return files.read(self._folder / name, _FILE_BYTES).decode("utf-8", "backslashreplace")
        except (OSError, ValueError):
            return ""


class _Rest:
    """The results that have a line of their own, and how many have none."""

    def __init__(self, results: Sequence[ScenarioResult], limit: int) -> None:
        kept = {result.name for result in list(_by_weight(results))[:limit]}
        chosen = [result for result in results if result.name in kept]
        # What failed comes first; else the order is that of the run.
        self.shown = sorted(chosen, key=lambda result: _WEIGHT.index(result.outcome))
        self.left = len(results) - len(chosen)


_WEIGHT = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS)


def _by_weight(results: Iterable[ScenarioResult]) -> Iterator[ScenarioResult]:
    """What is told in full first: one scenario for each cause, then the other failures, then the rest."""
    seen: set[tuple[str, str]] = set()
    first: list[ScenarioResult] = []
    later: list[ScenarioResult] = []
    for result in results:
        main = telling(result)
        (later if main is None or key(main) in seen else first).append(result)
        if main is not None:
            seen.add(key(main))
    yield from first
    yield from sorted(later, key=lambda result: _WEIGHT.index(result.outcome))


def cut(text: str, limit: int = _TEXT) -> str:
    """A text of at most `limit` characters, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"


def _listed(entries: Sequence[Any]) -> dict[str, Any]:
    """The first entries of a list, and how many more there are; long texts in them are cut."""
    shown = [_short(entry) for entry in entries[:_ROWS]]
    return {"shown": shown, "count": len(entries), "more": max(0, len(entries) - _ROWS)}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, 1000)
    if isinstance(value, dict):
        return {cut(name, 300): _short(entry) for name, entry in list(value.items())[:_SHORT_NAMES]}
    return value


def _counts(verdict: RunVerdict) -> list[tuple[str, int]]:
    """How many scenarios ended how; what is not there is left out."""
    seen = [result.outcome for result in verdict.scenarios]
    counts = [(outcome.value, seen.count(outcome)) for outcome in _WEIGHT]
    counts += [("skipped", len(verdict.skipped)), ("not run", len(verdict.not_run))]
    return [(word, count) for word, count in counts if count]


def _marks(line: Timeline) -> list[tuple[float, str, int]]:
    return [(mark.at_s, cut(mark.text, 300), mark.number) for mark in line.marks]


def _step(row: Any) -> dict[str, Any]:
    said = ", ".join(f"{name} {count:,}" for name, count in row.counts.items())
    return {
        "number": row.number, "text": cut(row.text, 200), "at": row.at_s, "seconds": round(row.seconds, 3),
        "counts": said,
    }  # fmt: skip


def _window(seq: int, events: Sequence[Event], line: Timeline) -> dict[str, Any]:
    """The events around one that a finding names."""
    return {"seq": seq, "rows": [_event(event, line) for event in events]}


def _event(event: Event, line: Timeline) -> list[Any]:
    known = event.event in RangeEvent._value2member_map_
    flags = [word for word, bit in (("BLOCKABLE", BLOCKABLE), ("MAYFAIL", MAYFAIL)) if event.flags & bit]
    called = event.kind in (Kind.START, Kind.END, Kind.INVALIDATE)
    reclaim = " in direct reclaim" if event.strict_direct else ""
    what = Kind(event.kind).name.lower() if event.kind in Kind._value2member_map_ else f"kind {event.kind}"
    return [
        event.seq,
        f"{(event.time_ns - line.begin_ns) / 1e6:,.3f}",
        line.names.get(event.subscriber, f"#{event.subscriber}") if event.subscriber else "",
        f"{what}{reclaim}",
        _result(event.result) if called else event.result,
        f"{event.pid} on CPU {event.cpu}",
        f"{event.start:#x}–{event.end:#x}" if called else "",
        " ".join([RangeEvent(event.event).name if known else f"event {event.event}", *flags]) if called else "",
        _time(event.duration_ns) if event.seq_exit else "never returned",
    ]


def _result(value: int) -> str:
    return "−EAGAIN" if value == -11 else str(value)


def _time(ns: int) -> str:
    """A time with a unit that leaves at most four digits."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns} ns"


def _kind(line: str) -> str:
    """What a line of a diff is, for its colour."""
    if line.startswith(("+++", "---", "diff ", "index ")):
        return "head"
    return {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "")
