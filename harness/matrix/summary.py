# SPDX-License-Identifier: GPL-2.0-only
"""A matrix directory: matrix.json and what is made of it. Written as jobs end, read again to go on or to merge."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.host import workspace
from harness.matrix import result as results
from harness.matrix.result import Result
from harness.matrix.shard import Durations
from harness.model import documents, files
from harness.model.errors import UsageError, unreadable
from harness.model.verdict import Outcome, rounded, worst
from harness.report import matrix as pages

NAME = "matrix.json"
BISECT = "bisect.sh"
SCHEMA = 1
_LIMIT_BYTES = 256 << 20
_HINT = "name a folder that harness matrix or harness merge wrote"
# Searches that are worth a night; more failures at once have other reasons.
_SEARCHES = 8


@dataclass(frozen=True)
class Summary:
    """What a matrix, a shard of one or several together came to.

    results: in the order of the plan; of several shards, shard after shard. not_run: name → key. elsewhere: jobs of
    the plan that other shards run. code: the commit of the harness, where it is a checkout.
    """

    plan: str
    about: str
    digest: str
    shard: str
    began: str
    seconds: float
    results: tuple[Result, ...]
    not_run: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    builds: Mapping[str, float] = field(default_factory=dict)
    code: str = ""
    # Jobs that are worse than in another night, and the searches for why.
    new: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Over all jobs: any fail decides, then error, then inconclusive. What did not run is an error.

        A shard without a job has nothing against it.
        """
        seen = [one.counted for one in self.results]
        if self.not_run:
            seen.append(Outcome.ERROR)
        return worst(seen) if seen else Outcome.PASS

    @property
    def durations(self) -> Durations:
        """What its jobs took, for the shards of the next night."""
        jobs = {one.job.name: [one.seconds] for one in self.results if one.outcome is not Outcome.ERROR}
        return Durations(jobs, self.builds)

    def compared(self, before: Summary | None) -> Summary:
        """The same, with what is worse than in another night."""
        if before is None:
            return self
        good = {one.job.name: one for one in before.results if one.counted is Outcome.PASS}
        bad = [one for one in self.results if one.counted is not Outcome.PASS and one.job.name in good]
        searched = (_search(one, good[one.job.name], before.code, self.code) for one in bad)
        commands = tuple(dict.fromkeys(command for command in searched if command))
        return dataclasses.replace(self, new=tuple(one.job.name for one in bad), searches=commands[:_SEARCHES])

    def document(self) -> dict[str, Any]:
        """As matrix.json holds it."""
        return {
            "schema": SCHEMA,
            "verdict": self.outcome.value,
            "plan": {"name": self.plan, "summary": self.about, "digest": self.digest},
            "shard": self.shard,
            "complete": not self.not_run,
            "began": self.began,
            "seconds": rounded(self.seconds),
            "jobs": [one.document() for one in self.results],
            "not_run": dict(self.not_run),
            "elsewhere": list(self.elsewhere),
            "causes": [cause.document() for cause in results.over_all(self.results)],
            "new": list(self.new),
            "searches": list(self.searches),
            "builds": dict(self.builds),
            "code": self.code,
        }

    def write_document(self, folder: Path) -> None:
        """Write matrix.json alone."""
        workspace.write_atomic(folder / NAME, json.dumps(self.document(), indent=1) + "\n")

    def write(self, folder: Path) -> None:
        """Write all files of a matrix directory but its run directories."""
        told = self.document()
        workspace.write_atomic(folder / "junit.xml", pages.junit(told))
        workspace.write_atomic(folder / "report.html", pages.html(told))
        workspace.write_atomic(folder / "summary.md", pages.markdown(told))
        script = "".join(f"{command}\n" for command in self.searches)
        workspace.write_atomic(folder / BISECT, f"#!/bin/sh\n# What failed and did not the night before.\n{script}")
        self.write_document(folder)


def read(folder: Path) -> Summary:
    """The summary in a matrix directory, which may be anybody's. Raises UsageError for any other folder."""
    try:
        if not files.is_below(folder, NAME):
            raise FileNotFoundError(f"no {NAME}")
        told = documents.parse(files.read(folder / NAME, _LIMIT_BYTES), "matrix")
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder}: not a matrix directory: {fault}", _HINT) from None
    found = tuple(map(Result.restore, told["jobs"]))
    for one, entry in zip(found, told["jobs"], strict=True):
        # It is the name of a folder below this one, and must be that of the job.
        if one.job.name != entry["name"]:
            raise UsageError(f"{folder / NAME}: the job {entry['name']} has another job's name", _HINT)
    return Summary(
        plan=told["plan"]["name"],
        about=told["plan"]["summary"],
        digest=told["plan"]["digest"],
        results=found,
        elsewhere=tuple(told["elsewhere"]),
        new=tuple(told.get("new", ())),
        searches=tuple(told.get("searches", ())),
        code=told.get("code", ""),
        **{name: told[name] for name in ("shard", "began", "seconds", "not_run", "builds")},
    )


def is_matrix(folder: Path) -> bool:
    """Whether a folder is a matrix directory rather than a run directory."""
    return (folder / NAME).exists()


def _search(bad: Result, good: Result, code_before: str, code: str) -> str:
    """The command that searches why a job fails now; empty where nothing can be searched."""
    # One that failed before, as it had to, and fails otherwise now, would be bad at both ends.
    if bad.outcome is not Outcome.FAIL or good.outcome is Outcome.FAIL:
        return ""
    job = bad.job
    kind, _, place = job.kernel.partition(":")
    seen = list(dict.fromkeys(name.rpartition(".")[0] or name for cause in bad.causes for name in cause.where[:1]))
    scenarios = seen[:3] or list(job.scenarios)
    if kind == "git" and good.commit and bad.commit and good.commit != bad.commit:
        ends = ["--good", good.commit.split()[0], "--bad", bad.commit.split()[0]]
        tree = place.rpartition("@")[0]
        words = ["bisect", "--tree", tree, *ends, *_options(job.words()), *scenarios]
        return f"{_harness()} {shlex.join(words)}"
    if good.release == bad.release and code_before and code and code_before != code:
        # The kernel's source is the same: something of ours has changed, a patch, a scenario or an oracle.
        run = ["run", "--source", job.kernel, *_options(job.words()), *scenarios]
        test = f"PYTHONPATH=. {shlex.quote(sys.executable)} -m harness.cli {shlex.join(run)}"
        words = ["bisect", "--tree", str(workspace.ROOT), "--good", code_before, "--bad", code, "--test", test]
        return f"{_harness()} {shlex.join(words)}"
    return ""


def _options(words: list[str]) -> Iterator[str]:
    """Of the words of a run, the options that a search takes, too."""
    at = iter(words)
    for word in at:
        if word in ("--patch", "--config", "--contract", "--accel"):
            yield word
            yield next(at)


def _harness() -> str:
    program = Path(sys.executable).with_name("harness")
    return shlex.quote(str(program)) if program.exists() else "harness"
