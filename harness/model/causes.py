# SPDX-License-Identifier: GPL-2.0-only
"""Which findings are one: a fault of a kernel shows in many scenarios, under the names that each of them gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.verdict import Finding, Outcome, ScenarioResult

# What tells most comes first: a range that is not marked explains a hang, and wrong content may follow from all.
_TELLING = ("mayfail-gate", "clean-log", "no-hang", "pairing", "lifetimes", "coherence", "ranges", "owed", "young")
# The first line of an oops on x86 (__die_header() in arch/x86/kernel/dumpstack.c): the task that caused it ends there.
# It leaves its locks, its ranges and its flags behind, and all else may follow from that.
DIE = re.compile(r": [0-9a-f]{4} \[#\d+\]")
# Names that scenarios give, and numbers. What a step did is told before a colon, its target after the verb.
_GIVEN = re.compile(r"\b(subscriber|interval|mirror|process) [\w#-]+")
_TARGET = re.compile(r"^([a-z-]+) [\w./-]+( in [\w-]+)?: ")
_NUMBER = re.compile(r"\b\d+\b")


@dataclass(frozen=True)
class Cause:
    """A finding, in the words of the scenario that showed it first, and all scenarios that show it."""

    finding: Finding
    scenarios: Sequence[str]

    def document(self) -> dict[str, Any]:
        """As verdict.json holds it."""
        return {
            "oracle": self.finding.oracle,
            "summary": self.finding.summary,
            "scenarios": list(self.scenarios),
        }


def key(finding: Finding) -> tuple[str, str]:
    """The same for findings of one cause."""
    text = _TARGET.sub(r"\1: ", finding.summary)
    return finding.oracle, _NUMBER.sub("N", _GIVEN.sub(r"\1 …", text))


def rank(finding: Finding) -> int:
    """The place of a finding among those of one failure: the first one tells most of the cause."""
    if finding.oracle == "clean-log" and DIE.search(finding.evidence):
        return -1
    return _TELLING.index(finding.oracle) if finding.oracle in _TELLING else len(_TELLING)


def telling(result: ScenarioResult) -> Finding | None:
    """The finding of a failed scenario that tells most of its cause; None if the scenario did not fail."""
    if result.outcome is not Outcome.FAIL or not result.findings:
        return None
    return min(result.findings, key=rank)


def causes(results: Iterable[ScenarioResult]) -> list[Cause]:
    """What the failures of a run come down to, in the order in which the causes came up."""
    found: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    for result in results:
        finding = telling(result)
        if finding is not None:
            found.setdefault(key(finding), (finding, []))[1].append(result.name)
    return [Cause(finding, names) for finding, names in found.values()]
