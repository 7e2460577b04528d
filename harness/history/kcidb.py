# SPDX-License-Identifier: GPL-2.0-only
"""Runs as KernelCI takes them: KCIDB's JSON, compared with its published schema before it goes anywhere."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.history.nights import cause_id
from harness.history.record import SKIP, Entry, Result
from harness.model import documents
from harness.model.errors import HarnessFault
from harness.model.verdict import Outcome
from harness.report.text import one_line

# harness/model/schemas/kcidb.json says where its schema comes from.
_VERSION = {"major": 5, "minor": 3}
# How KCIDB calls it. What proved too little is a fault of the test; what could not be judged, one of the harness.
_STATUS = {
    Outcome.PASS.value: "PASS",
    Outcome.FAIL.value: "FAIL",
    Outcome.INCONCLUSIVE.value: "ERROR",
    Outcome.ERROR.value: "MISS",
    SKIP: "SKIP",
}
_SUITE = "kernel_harness"
_COMMIT = re.compile(r"[0-9a-f]{40}(?![0-9a-f])")
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")


def render(entries: Iterable[Entry], origin: str) -> str:
    """Runs as the text of a KCIDB report. origin: the name under which KernelCI knows the sender."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {
        name: {} for name in ("checkouts", "builds", "tests", "issues", "incidents")
    }
    for entry in entries:
        checkout = _checkout(entry, origin)
        build = _build(entry, origin, checkout["id"])
        found["checkouts"].setdefault(checkout["id"], checkout)
        found["builds"].setdefault(build["id"], build)
        for result in entry.results:
            test = _test(entry, result, origin, build["id"])
            found["tests"][test["id"]] = test
            for kind, thing in _cause(result, origin, test["id"]):
                found[kind].setdefault(thing["id"], thing)
    report = {"version": _VERSION, **{name: list(things.values()) for name, things in found.items() if things}}
    text = json.dumps(report, indent=1) + "\n"
    try:
        documents.parse(text, "kcidb")
    except ValueError as fault:
        raise HarnessFault(f"the report does not fit KCIDB's schema: {fault}") from None
    return text


def _checkout(entry: Entry, origin: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": _id(origin, entry.source, entry.commit, *entry.patches),
        "origin": origin,
        "comment": one_line(" + ".join((entry.source, *entry.patches)), 1000),
        "valid": True,
        "misc": {"source": one_line(entry.source, 1000), "patches": [one_line(name, 1000) for name in entry.patches]},
    }
    if commit := _COMMIT.match(entry.commit):
        made["git_commit_hash"] = commit[0]
    return made


def _build(entry: Entry, origin: str, checkout: str) -> dict[str, Any]:
    # A run that built nothing has no build id; each such run is a build of its own.
    made: dict[str, Any] = {
        "id": _id(origin, checkout, *entry.configs, entry.build_id or entry.id),
        "checkout_id": checkout,
        "origin": origin,
        "architecture": "x86_64",
        "config_name": one_line(", ".join(entry.configs), 1000),
        "status": "PASS" if entry.build_id else "MISS" if entry.verdict == Outcome.ERROR else "ERROR",
        "misc": {"build_id": one_line(entry.build_id), "release": one_line(entry.release)},
        **_began(entry),
    }
    if not entry.build_id and entry.error:
        made["comment"] = one_line(entry.error, 1000)
    return made


def _test(entry: Entry, result: Result, origin: str, build: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"{origin}:{one_line(entry.id)}/{one_line(result.name)}",
        "build_id": build,
        "origin": origin,
        "path": f"{_SUITE}.{_UNFIT.sub('_', result.scenario) or '_'}",
        "status": _STATUS.get(result.verdict, "MISS"),
        "environment": {"comment": f"QEMU, {one_line(entry.accel) or 'no accelerator'}"},
        "misc": {
            "contract": one_line(entry.contract),
            "exercised": {one_line(name): count for name, count in result.exercised.items()},
        },
        **_began(entry),
    }
    if math.isfinite(result.seconds) and result.verdict != SKIP:
        made["duration"] = result.seconds
    if said := (result.summary and f"[{result.oracle}] {result.summary}") or result.reason:
        made["comment"] = one_line(said, 1000)
    return made


def _cause(result: Result, origin: str, test: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The issue that a failure shows, and the incident that it does."""
    if not result.oracle:
        return
    issue = f"{origin}:{cause_id(result.oracle, result.cause)}"
    comment = one_line(f"[{result.oracle}] {result.summary}", 1000)
    yield "issues", {"id": issue, "version": 1, "origin": origin, "comment": comment}
    yield (
        "incidents",
        {
            "id": test,
            "origin": origin,
            "issue_id": issue,
            "issue_version": 1,
            "test_id": test,
            "present": True,
        },
    )


def _began(entry: Entry) -> Mapping[str, str]:
    try:
        began = datetime.datetime.fromtimestamp(entry.began_s, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return {}
    return {"start_time": began.isoformat(timespec="milliseconds")}


def _id(origin: str, *parts: str) -> str:
    told = json.dumps(parts)
    return f"{origin}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"
