# SPDX-License-Identifier: GPL-2.0-only
"""A run as the history holds it: what was tested, when, and what came of each scenario."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.model import begun, causes, documents, files
from harness.model.run import BUILT, RunVerdict
from harness.model.verdict import ScenarioResult
from harness.report import document, manifest
from harness.report.text import one_line

# Of a scenario that does not apply; the others are those of harness.model.verdict.
SKIP = "skip"
# A text of a run may have any length; of each, a history needs no more.
_TEXT, _LIMIT_BYTES = 1000, 64 << 20
_ID = re.compile(r"[0-9a-f]{32}")
# The folder of a run in the cache: the local time at which it began.
_STAMPED = re.compile(r"(\d{8}-\d{6})(-\d+)?")
# The last second of the year 9999.
_END_S = 253402300799.0


@dataclass(frozen=True)
class Result:
    """What one scenario came to. oracle, cause, summary: of the finding that tells most; empty when it did not fail.

    cause: the summary without the names and numbers of one scenario, so that it is the same for one fault.
    """

    name: str
    verdict: str
    seconds: float = 0.0
    exercised: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    oracle: str = ""
    cause: str = ""
    summary: str = ""
    # What a loop of arithmetic took in the guest: how fast the host was. 0: not measured.
    loop_ms: float = 0.0

    @property
    def scenario(self) -> str:
        """Its name without the number of the round."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Entry:
    """A run. id: the same for as long as its evidence is the same, wherever its folder lies.

    job: what was tested, as the options that test it again. seq: the place in which it was entered. live:
    whether that was at the end of the run itself, so that what was entered before it ended before it.
    """

    id: str
    folder: str
    began_s: float
    job: str
    source: str
    patches: Sequence[str]
    configs: Sequence[str]
    contract: str
    accel: str
    release: str
    build_id: str
    commit: str
    verdict: str
    error: str
    seconds: float
    results: Sequence[Result]
    seq: int = 0
    live: bool = False


def of(folder: Path, verdict: RunVerdict) -> Entry:
    """The entry of a run whose verdict is known. Raises OSError and ValueError for a folder that cannot be read."""
    told = _told(folder)
    return Entry(
        id=_identity(folder, told),
        folder=str(folder.absolute()),
        began_s=_began_s(folder, told, verdict),
        job=one_line(job(verdict, _text(told.get("folder"))), 4 * _TEXT),
        source=one_line(verdict.source, _TEXT),
        patches=tuple(one_line(name, _TEXT) for name in verdict.patches),
        configs=tuple(one_line(name, _TEXT) for name in verdict.configs),
        contract=verdict.contract.used,
        accel=one_line(verdict.accel.used),
        release=one_line(verdict.kernel.release),
        build_id=verdict.kernel.build_id,
        commit=one_line(verdict.kernel.commit),
        verdict=verdict.outcome.value,
        error=one_line(verdict.error, _TEXT),
        seconds=verdict.seconds.get("total", 0.0),
        results=tuple(_results(verdict)),
    )


def read(folder: Path) -> Entry:
    """The entry of a run directory, whose verdict is what the run's manifest says.

    Raises HarnessError for one that is no run directory, or whose verdict is damaged.
    """
    verdict = document.glance(folder)
    listed = manifest.read(folder)
    if listed is not None:
        content = files.read(folder / document.NAME, documents.LIMIT_BYTES)
        found = {document.NAME: manifest.digest(content)}
        manifest.compare(folder, {document.NAME: listed.get(document.NAME, "")}, found)
    return of(folder, verdict)


def job(verdict: RunVerdict, folder: str = "") -> str:
    """What was tested, as the options of harness run. folder: where it was called, from which names are relative."""
    configs = list(verdict.configs)
    base = [] if configs[1:2] != ["guest"] or configs[0] == "base" else ["--base-config", _absolute(configs[0], folder)]
    configs = configs[2:] if base else configs[configs[:1] == ["base"] :]
    source = verdict.source
    if source.startswith(BUILT):
        words = ["--built", _absolute(source.removeprefix(BUILT), folder)]
    else:
        kind, colon, rest = source.partition(":")
        if kind == "git" and colon:
            path, at, revision = rest.rpartition("@")
            source = f"git:{_absolute(path, folder)}@{revision}" if at else f"git:{_absolute(rest, folder)}"
        elif kind != "debian":
            source = _absolute(source, folder)
        words = ["--source", source]
    for patch in verdict.patches:
        words += ["--patch", _absolute(patch, folder) if "/" in patch or "." in patch else patch]
    words += base
    for name in configs:
        words += ["--config", _absolute(name, folder) if "/" in name or "." in name else name]
    contract = verdict.contract.used or verdict.contract.requested
    accel = verdict.accel.used or verdict.accel.requested
    words += ["--contract", contract] * bool(contract) + ["--accel", accel] * bool(accel)
    return shlex.join(words)


def _absolute(name: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(name)))  # noqa: PTH111, PTH118 - a text, no file


def _results(verdict: RunVerdict) -> Iterator[Result]:
    for result in verdict.scenarios:
        yield _result(result)
    for name, reason in verdict.skipped.items():
        yield Result(name, SKIP, reason=one_line(reason, _TEXT))


def _result(result: ScenarioResult) -> Result:
    finding = causes.telling(result)
    oracle, cause = causes.key(finding) if finding else ("", "")
    return Result(
        result.name,
        result.outcome.value,
        result.seconds,
        {name: count for name, count in result.exercised.items() if count},
        one_line(result.reason, _TEXT),
        oracle,
        one_line(cause, _TEXT),
        one_line(finding.summary, _TEXT) if finding else "",
        result.loop_ms,
    )


def _told(folder: Path) -> Mapping[str, Any]:
    """What run.json says, whoever wrote it; nothing when it cannot be read. Each value is looked at before its use.

    It is not compared with its schema: that takes 0.15 s, and a run waits for this.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if files.is_below(folder, begun.NAME):
            told = json.loads(files.read(folder / begun.NAME, _LIMIT_BYTES))
            return told if isinstance(told, dict) else {}
    return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _identity(folder: Path, told: Mapping[str, Any]) -> str:
    if _ID.fullmatch(_text(told.get("id"))):
        return str(told["id"])
    # An earlier version gave none. What it recorded stays what it was when it is judged again, its verdict may not.
    listed = manifest.read(folder) or {}
    recorded = sorted((name, digest) for name, digest in listed.items() if name.endswith("/record.json"))
    if recorded:
        return manifest.digest(json.dumps(recorded).encode())[:32]
    named = folder.name.encode() if _STAMPED.fullmatch(folder.name) else b""
    return manifest.digest(named + files.read(folder / document.NAME, documents.LIMIT_BYTES))[:32]


def _began_s(folder: Path, told: Mapping[str, Any], verdict: RunVerdict) -> float:
    began = told.get("began_s")
    if isinstance(began, int | float) and not isinstance(began, bool) and 0 < began <= _END_S:
        return float(began)
    if stamped := _STAMPED.fullmatch(folder.name):
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, time.mktime(time.strptime(stamped[1], "%Y%m%d-%H%M%S")))
    return max(0.0, (folder / document.NAME).stat().st_mtime - verdict.seconds.get("total", 0.0))
