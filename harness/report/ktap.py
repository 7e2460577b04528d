# SPDX-License-Identifier: GPL-2.0-only
"""results.ktap: the run in the kernel's own test format (Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re

from harness.model.run import RunVerdict
from harness.model.verdict import Outcome
from harness.report.text import flat, one_line

# Where they stand in a line, even in a diagnostic one, tools/testing/kunit/kunit_parser.py takes the console for ended.
_ENDS = re.compile(r"List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


def render(verdict: RunVerdict) -> str:
    """The document: findings are diagnostic lines before the result that they belong to."""
    short = verdict.coverage.short if verdict.coverage else ""
    count = len(verdict.scenarios) + len(verdict.skipped)
    lines = ["KTAP version 1", f"1..{count + bool(short)}"]
    if verdict.contract.used:
        lines.append(f"# contract: {one_line(f'{verdict.contract.used}: {verdict.contract.reason}', 400)}")
    for number, result in enumerate(verdict.scenarios, 1):
        for finding in result.findings:
            lines.append(f"# {finding.oracle}: {one_line(finding.summary)}")
            lines += [f"#   {line}" for line in finding.evidence.splitlines()]
        for program, results in result.selftests.items():
            why = f"; skipped: {results.why_skipped}" if results.skipped else ""
            lines.append(f"# selftest {one_line(f'{program}: {results}{why}', 400)}")
        word = "ok" if result.outcome is Outcome.PASS else "not ok"
        note = (
            ""
            if result.outcome in (Outcome.PASS, Outcome.FAIL)
            else f" # {result.outcome.value} {_name(result.reason)}"
        )
        lines.append(f"{word} {number} {_name(result.name)}{note.rstrip()}")
    for number, (name, reason) in enumerate(verdict.skipped.items(), len(verdict.scenarios) + 1):
        lines.append(f"ok {number} {_name(name)} # SKIP {_name(reason)}")
    if verdict.coverage:
        lines.append(f"# patch coverage: {one_line(verdict.coverage.sentence, 1000)}")
    if short:
        lines.append(f"not ok {count + 1} patch-coverage # inconclusive {_name(short)}")
    if verdict.error:
        lines.append(f"Bail out! {one_line(verdict.error)}")
    # Whatever is in them, they are as many lines as were made.
    return "".join(f"{_ENDS.sub(_told, flat(line))}\n" for line in lines)


def _told(end: re.Match[str]) -> str:
    return end[0].replace(":", "\\x3a")


def _name(name: str) -> str:
    """A text in which no directive begins: a name, or what is said behind a directive."""
    return one_line(name).replace("#", "\\#")
