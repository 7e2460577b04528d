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


def _verdict(match: re.Match[str]) -> tuple[int, str]:
    directive = _DIRECTIVE.search(match[3])
    if directive and directive[1] == "SKIP":
        return _SKIPPED, directive[2].strip() or "no reason"
    # An expected failure is as good as a pass, whichever word begins its line.
    return (_FAILED if match[1] and not directive else _PASSED), match[0]


def _ending(status: int) -> str:
    return f"signal {status - 256}" if status > 256 else f"status {status}"
