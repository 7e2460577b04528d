# SPDX-License-Identifier: GPL-2.0-only
"""What a search is told as: lines, a page, a mail that a person may send, and a log that `git bisect replay` takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.bisect.engine import Answer, Step
from harness.bisect.history import History
from harness.host import workspace
from harness.model.verdict import Outcome
from harness.report import bisection
from harness.report.lines import Colour
from harness.report.text import flat, one_line, plain

_OUTCOME = {"good": Outcome.PASS, "bad": Outcome.FAIL, "skip": Outcome.INCONCLUSIVE}
_WIDTH, _ROW = 900, 16


@dataclass(frozen=True)
class Facts:
    """What the report tells beside the answer. reproduce: command lines. stack: the decoded report of the bad end."""

    reproduce: Sequence[str]
    history: History | None = None
    stack: str = ""
    seconds: float = 0.0


def step(step: Step, colour: Colour) -> Iterator[str]:
    """One line for a step."""
    word = colour(_OUTCOME[step.verdict], step.verdict)
    name = step.name[:12] if step.title and len(step.name) >= 40 else step.name
    cached = ", cached" if step.cached else ""
    told = f"{one_line(name, 60)} {one_line(step.title, 70)}".strip()
    yield f"{word} {told}: {one_line(step.reason, 200)} ({step.seconds:.0f} s{cached})"


def lines(answer: Answer, facts: Facts, folder: Path, colour: Colour) -> Iterator[str]:
    """The last lines of a search."""
    if answer.sought:
        yield f"{'finding':12} [{one_line(answer.sought['oracle'])}] {one_line(answer.sought['summary'])}"
    if answer.candidates:
        for name, reason in answer.narrow.items():
            yield f"{'untested':12} {one_line(name, 60)}: {one_line(reason)}"
        if answer.proof:
            word = {True: "verified", False: "not verified", None: "not verified"}[answer.verified]
            yield f"{word:12} {one_line(answer.proof, 400)}"
        for command in facts.reproduce:
            yield f"{'see it':12} {flat(command)}"
    yield f"{'report':12} {flat(str(folder))}/bisect.html"
    found = (Outcome.PASS, "found") if answer.candidates else (Outcome.INCONCLUSIVE, "none")
    yield f"{colour(*found)} {_said(answer, facts)}"


def _said(answer: Answer, facts: Facts) -> str:
    if not answer.candidates:
        return one_line(answer.reason, 1000)
    sure = f"{_percent(answer)} sure"
    if answer.first_bad is None:
        names = ", ".join(name[:12] if facts.history else name for name in answer.candidates)
        return one_line(f"one of {len(answer.candidates)} {answer.kind}s: {names}; {answer.reason} ({sure})", 2000)
    title = f" {facts.history.commit(answer.first_bad).subject}" if facts.history else ""
    return one_line(f"{answer.first_bad}{title} is the first bad {answer.kind} ({sure})", 1000)


def _percent(answer: Answer) -> str:
    """The confidence, never rounded up: nothing is certain."""
    return f"{math.floor(answer.confidence * 1e4) / 1e2:.2f} %"


def write(answer: Answer, facts: Facts, folder: Path) -> None:
    """All files of a report."""
    document = {**answer.document(), **_more(answer, facts)}
    workspace.write_atomic(folder / "bisect.json", json.dumps(document, indent=1) + "\n")
    workspace.write_atomic(folder / "bisect.html", bisection.render(document))
    if facts.history is not None:
        workspace.write_atomic(folder / "bisect.log", log(answer, facts.history))
    if answer.candidates:
        workspace.write_atomic(folder / "mail.txt", mail(answer, facts))


def log(answer: Answer, history: History) -> str:
    """As `git bisect log` prints it; `git bisect replay` takes it."""
    paths = "".join(f" {_quoted(path)}" for path in history.paths)
    told = [f"git bisect start '--'{paths}" if paths else "git bisect start"]
    word = {"good": "good", "bad": "bad", "skip": "skip"}
    known = {history.good, *history.space.states}
    named = [entry for entry in answer.steps if entry.name in known]
    place = {name: number for number, name in enumerate(history.space.states)}

    def turn(entry: Step) -> tuple[bool, int]:
        """Both ends first, as git asks for them. Of bad commits git remembers the last one: the oldest comes last."""
        ends = entry.name in (history.good, history.bad)
        return not ends, -place.get(entry.name, 0) if entry.verdict == "bad" and not ends else -len(place) - 1

    order = sorted(named, key=turn)
    for entry in order:
        told.append(f"# {word[entry.verdict]}: [{entry.name}] {one_line(history.commit(entry.name).subject, 200)}")
        told.append(f"git bisect {word[entry.verdict]} {entry.name}")
    if answer.first_bad:
        told.append(
            f"# first bad commit: [{answer.first_bad}] {one_line(history.commit(answer.first_bad).subject, 200)}"
        )
    else:
        told += [f"# possible first bad commit: [{name}]" for name in answer.candidates]
    return "\n".join(told) + "\n"


def mail(answer: Answer, facts: Facts) -> str:
    """What a person would write to the list, to be edited."""
    sought = answer.sought or {"summary": "", "oracle": "", "evidence": ""}
    summary = one_line(sought["summary"], 120)
    parts = []
    if facts.history is not None and answer.first_bad is not None:
        commit = facts.history.commit(answer.first_bad)
        parts.append(f"To: {one_line(commit.author, 200)}\nSubject: [REGRESSION] {summary}\n")
        parts.append(f"Hi,\n\nsince commit {one_line(commit.short, 200)}, this happens:\n\n    {summary}\n")
        parts.append(f"Fixes: {one_line(commit.short, 200)}\n")
        parts.append(f"bad:  {facts.history.bad}\ngood: {facts.history.good}\n")
    else:
        names = "\n".join(f"    {one_line(name)}" for name in answer.candidates)
        parts.append(f"Subject: [REGRESSION] {summary}\n\nHi,\n\nthis happens:\n\n    {summary}\n")
        parts.append(f"The first bad {answer.kind} is one of\n\n{names}\n")
    counted = (entry for entry in answer.steps if entry.verdict == "bad")
    parts.extend(f"How often: {entry.fails} of {entry.runs} runs at the bad end.\n" for entry in islice(counted, 1))
    if facts.reproduce:
        parts.append("To reproduce:\n\n" + "\n".join(f"    {command}" for command in facts.reproduce) + "\n")
    parts.append(f"The search is {_percent(answer)} sure of this; {one_line(answer.proof, 400)}".rstrip() + "\n")
    evidence = facts.stack or sought.get("evidence", "")
    if evidence:
        parts.append("\n".join(f"    {line}" for line in plain(evidence).splitlines()[:80]) + "\n")
    return plain("\n".join(parts))


def _more(answer: Answer, facts: Facts) -> Mapping[str, Any]:
    """What the page tells beyond the document's own fields."""
    culprit: dict[str, str] = {}
    if facts.history is not None and answer.first_bad is not None:
        commit = facts.history.commit(answer.first_bad)
        culprit = {
            "subject": commit.subject,
            "author": commit.author,
            "body": commit.body,
            "stat": facts.history.stat(answer.first_bad),
        }
    elif answer.first_bad is not None:
        culprit = {"subject": answer.first_bad, "author": "", "body": "", "stat": ""}
    return {
        "culprit": culprit or None,
        "sides": _sides(answer, facts),
        "reproduce": list(facts.reproduce),
        "stack": facts.stack,
        "seconds": round(facts.seconds, 1),
        "picture": _picture(answer, facts),
    }


def _sides(answer: Answer, facts: Facts) -> Mapping[str, str]:
    """What was seen just before the culprit, where that was tested, and with it."""
    if answer.first_bad is None:
        return {}
    sides = {"with it": answer.first_bad}
    if facts.history is not None:
        sides = {"before it": facts.history.parent(answer.first_bad)} | sides
    verdicts = {step.name: f"{step.verdict}: {step.reason}" for step in answer.steps}
    return {side: verdicts[name] for side, name in sides.items() if name in verdicts}


def _picture(answer: Answer, facts: Facts) -> Mapping[str, Any]:
    """The search as points: from left to right the history, from top to bottom the steps."""
    order = list(facts.history.space.states) if facts.history else [entry.name for entry in answer.steps]
    place = {name: number for number, name in enumerate(order)}
    points = [
        {
            "x": 10 + round((_WIDTH - 20) * (place[entry.name] + 1) / max(1, len(order)))
            if entry.name in place
            else 10,
            "y": _ROW * (row + 1),
            "verdict": entry.verdict,
            "name": entry.name,
        }
        for row, entry in enumerate(answer.steps)
    ]
    return {"width": _WIDTH, "height": _ROW * (len(points) + 1), "points": points}


def _quoted(path: str) -> str:
    """A path as git's own log has it."""
    return "'" + path.replace("'", "'\\''") + "'"
