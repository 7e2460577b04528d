# SPDX-License-Identifier: GPL-2.0-only
"""What a program of the kernel's selftests reports: the TAP that kselftest.h prints, and its exit status.

The kernel tree's own KTAP parser, tools/testing/kunit/kunit_parser.py, is for
KUnit: it makes no result at all of "ok 3 # SKIP why", which ksft_test_result_skip()
prints (6.1, 6.12), and takes a program that prints no TAP for an error.
uffd-unit-tests has words of its own (uffd_test_start() and its like).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Exit statuses of tools/testing/selftests/kselftest.h that are not failures.
_EXIT_PASS, _EXIT_SKIP = 0, 4
_PASSED, _SKIPPED, _FAILED = range(3)
# As _RESULT, at any depth of a suite's (Documentation/dev-tools/ktap.rst).
_CASE = re.compile(r"( *)(not )?ok (\d{1,9})\b *(?:- *)?(.*)")
# How many results are told one by one.
CASES_LIMIT = 5000
# How many lines and reasons are kept, and how many characters of each.
SHOWN = 20
_WIDTH = 160

_RESULT = re.compile(r"(not )?ok (\d{1,9})\b(.*)")
_DIRECTIVE = re.compile(r"# *(SKIP|XFAIL|XPASS|TODO)\b *(.*)")
_PLAN = re.compile(r"1\.\.(\d{1,9})\b")
_UFFD = re.compile(r"Testing (.{1,200}?)\.\.\. (done|skipped|failed)(?: \[reason: (.*)\])?$")
_UFFD_WORDS = {"done": _PASSED, "skipped": _SKIPPED, "failed": _FAILED}


@dataclass(frozen=True)
class Results:
    """Numbers of tests; the lines of the first that failed or were never reported; why others were skipped.

    cut: there was more output than was read, so there may be other results.
    """

    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()
    cut: bool = False

    @property
    def ran(self) -> bool:
        """Some of its tests ran."""
        return bool(self.passed or self.failed)

    def __str__(self) -> str:
        counts = {"pass": self.passed, "fail": self.failed, "skip": self.skipped}
        return ", ".join(f"{word} {count}" for word, count in counts.items() if count) or "nothing"

    @property
    def why_skipped(self) -> str:
        """The reasons, the most frequent first."""
        return "; ".join(f"{reason} ({count})" for reason, count in self.reasons)

    def document(self) -> dict[str, Any]:
        """As the reply and verdict.json hold it."""
        return {
            "pass": self.passed,
            "fail": self.failed,
            "skip": self.skipped,
            "failures": list(self.failures),
            "reasons": dict(self.reasons),
            **({"cut": True} if self.cut else {}),
        }


def restore(document: Mapping[str, Any]) -> Results:
    """The results in a document that came from a guest: a value of the wrong type counts as missing."""
    passed, failed, skipped = (_count(document.get(key)) for key in ("pass", "fail", "skip"))
    failures, reasons = document.get("failures"), document.get("reasons")
    return Results(
        passed,
        failed,
        skipped,
        tuple(map(str, failures)) if isinstance(failures, list) else (),
        tuple((str(reason), _count(count)) for reason, count in reasons.items()) if isinstance(reasons, dict) else (),
        document.get("cut") is True,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def read(text: str, status: int, *, cut: bool = False) -> Results:
    """The results in a program's output. status: exit code, or 256 + signal; 0 and 4 (skipped) are no failures.

    A program that prints no results is one test, and its status is the result. cut: the output went on.
    """
    # By number: what a buffer held at a fork is printed twice, and a test that failed once has failed.
    verdicts: dict[str, tuple[int, str, str]] = {}
    planned, bail = 0, ""
    lines = text.replace("\r", "\n").splitlines()
    for line in lines:
        if match := _RESULT.match(line):
            verdict = (*_verdict(match), match[2])
        elif match := _UFFD.match(line):
            verdict = (_UFFD_WORDS[match[2]], line if match[2] == "failed" else match[3] or "no reason", match[1])
        else:
            if match := _PLAN.match(line):
                planned = int(match[1])
            elif line.startswith("Bail out!"):
                bail = f": {line}"
            continue
        verdicts[verdict[2]] = max(verdicts.get(verdict[2], (_PASSED, "", "")), verdict)
    failed = [said for verdict, said, _ in verdicts.values() if verdict == _FAILED]
    reasons = Counter(said[:_WIDTH] for verdict, said, _ in verdicts.values() if verdict == _SKIPPED)
    passed = sum(verdict == _PASSED for verdict, _, _ in verdicts.values())
    if len(verdicts) < planned and not cut:
        failed.append(f"{planned - len(verdicts)} of {planned} planned tests were never reported{bail}")
    last = next((line for line in reversed(lines) if line.strip()), "")
    if status > 256 or (status not in (_EXIT_PASS, _EXIT_SKIP) and not failed):
        failed.append(f"ended with {_ending(status)}: {last or 'nothing was printed'}")
    if not verdicts and not failed:
        passed = int(status == _EXIT_PASS)
        reasons.update([last[:_WIDTH] or "no reason"] * (not passed))
    shown = tuple(line[:_WIDTH] for line in failed[:SHOWN])
    return Results(passed, len(failed), reasons.total(), shown, tuple(reasons.most_common(SHOWN)), cut)


@dataclass(frozen=True)
class Case:
    """One test of a program: its name, behind those of its suites; verdict: pass, fail or skip; what was said of it."""

    name: str
    verdict: str
    text: str = ""


_WORDS = {_PASSED: "pass", _SKIPPED: "skip", _FAILED: "fail"}


def cases(text: str, status: int) -> list[Case]:
    """The results in a program's output one by one, those of suites within suites, too.

    text and status: as read() takes them. What read() finds beside the results, such as a plan that was
    not kept, is a case of its own.
    """
    # Results by depth that no result of a suite stands behind yet.
    open_ones: list[tuple[int, Case]] = []
    said: list[str] = []
    lines = text.replace("\r", "\n").splitlines()
    for line in lines:
        match = _CASE.match(line)
        if match is None:
            if line.lstrip().startswith("#"):
                said.append(line.strip())
            continue
        depth, name = len(match[1]), (_DIRECTIVE.sub("", match[4]).strip(" #") or f"test {match[3]}")[:_WIDTH]
        verdict, reason = _verdict(re.match(_RESULT, line.strip()) or match)
        within = []
        while open_ones and open_ones[-1][0] > depth:
            within.append(open_ones.pop()[1])
        tests = [Case(f"{name}: {one.name}"[:_WIDTH], one.verdict, one.text) for one in reversed(within)]
        # A suite that fails although none of its tests does is told by itself.
        if not tests or (verdict == _FAILED and not any(one.verdict == "fail" for one in tests)):
            told = reason if verdict == _SKIPPED else "\n".join([*said[-SHOWN:], line.strip()])
            tests.append(Case(name, _WORDS[verdict], told if verdict != _PASSED else ""))
        open_ones += [(depth, one) for one in tests]
        said = []
        if len(open_ones) > CASES_LIMIT:
            return [*(one for _, one in open_ones[:CASES_LIMIT]), Case("the rest", "fail", f"more than {CASES_LIMIT}")]
    found = [one for _, one in open_ones]
    whole = read(text, status)
    extra = [line for line in whole.failures if not line.startswith("not ok ")]
    if not found:
        name = lines[-1][:_WIDTH] if lines else "the program"
        found = [Case(name, "skip", whole.why_skipped)] if not whole.passed and not whole.failed else []
        found += [Case("the program", "pass")] * min(whole.passed, 1)
    return found + [Case("the program", "fail", line) for line in extra]


def _verdict(match: re.Match[str]) -> tuple[int, str]:
    directive = _DIRECTIVE.search(match[3])
    if directive and directive[1] == "SKIP":
        return _SKIPPED, directive[2].strip() or "no reason"
    # An expected failure is as good as a pass, whichever word begins its line.
    return (_FAILED if match[1] and not directive else _PASSED), match[0]


def _ending(status: int) -> str:
    return f"signal {status - 256}" if status > 256 else f"status {status}"
