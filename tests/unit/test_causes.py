# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from harness.model import causes
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import document, lines
from tests.unit.verdicts import run_of

# How an oops begins, whatever its title is: a list that is corrupted has none of the words of a BUG.
OOPS = "1 times\nconsole line 11:\nkernel BUG at lib/list_debug.c:59!\nOops: invalid opcode: 0000 [#1] SMP\n"


def failed(name: str, *findings: tuple[str, str] | tuple[str, str, str]) -> ScenarioResult:
    found = [Finding(oracle, summary, *(evidence or ["why"])) for oracle, summary, *evidence in findings]
    return ScenarioResult(name, Outcome.FAIL, tuple(found))


def plain(outcome: Outcome, word: str) -> str:
    return word or outcome.value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("no-hang", "subscriber device waited in kswapd"), ("no-hang", "subscriber #3 waited in kswapd")),
        (("integrity", "user-check held: pages with the wrong content"),
         ("integrity", "user-check small in kid: pages with the wrong content")),
        (("coherence", "move held: mirror twin holds pages"), ("coherence", "move huge: mirror other holds pages")),
        (("selftests", "cow: 3 planned tests"), ("selftests", "cow: 7 planned tests")),
    ],
)  # fmt: skip
def test_names_and_numbers_that_a_scenario_gave_make_no_other_cause(one: tuple[str, str], other: tuple[str, str]):
    (cause,) = causes.causes([failed("first", one), failed("second", other)])

    assert (cause.finding.summary, list(cause.scenarios)) == (one[1], ["first", "second"])


def test_what_the_kernel_says_or_another_oracle_finds_is_another_cause():
    found = causes.causes(
        [
            failed("a", ("integrity", "user-check held: wrong"), ("clean-log", "WARNING in one")),
            failed("b", ("clean-log", "WARNING in other")),
            failed("c", ("integrity", "user-check held: wrong")),
            failed("d", ("clean-log", "WARNING in one"), ("pairing", "lost")),
            ScenarioResult("e", Outcome.PASS),
            ScenarioResult("f", Outcome.INCONCLUSIVE, (Finding("exercised", "too little"),)),
        ]
    )

    assert [(cause.finding.oracle, list(cause.scenarios)) for cause in found] == [
        ("clean-log", ["a", "d"]),
        ("clean-log", ["b"]),
        ("integrity", ["c"]),
    ]


def test_a_death_in_the_kernel_is_the_cause_of_all_else():
    """The task that died goes on to exit with the flags of reclaim, and leaves its locks."""
    died = ("clean-log", "BUG: corrupted list in mn_hlist_invalidate_range_start", OOPS)
    found = causes.causes(
        [
            failed(
                "a", ("mayfail-gate", "direct reclaim came without MAYFAIL"), ("no-hang", "a step never ended"), died
            ),
            failed(
                "b",
                ("clean-log", "WARNING in do_exit"),
                died,
                ("clean-log", "BUG: unable to handle kernel x in y", OOPS.replace("#1", "#2")),
            ),
            failed("c", ("mayfail-gate", "direct reclaim came without MAYFAIL"), ("clean-log", "WARNING in one")),
        ]
    )

    assert [(cause.finding.oracle, list(cause.scenarios)) for cause in found] == [
        ("clean-log", ["a", "b"]),
        ("mayfail-gate", ["c"]),
    ]


def test_what_a_scenario_finds_beside_a_known_cause_is_told():
    """A second fault of the kernel must not hide behind the first."""
    told = lines.Told(plain)
    known, new = ("mayfail-gate", "no MAYFAIL"), ("no-hang", "it hangs")

    _, said = list(told.result(failed("first", known))), list(told.result(failed("second", known, new)))

    assert [line.strip() for line in said[1:]] == [
        "[mayfail-gate] no MAYFAIL: as in first",
        "[no-hang] it hangs",
        "why",
    ]


def test_a_cause_is_told_once_and_named_afterwards():
    results = [failed(name, ("clean-log", "WARNING in one")) for name in ("first", "second", "third")]
    told = lines.Told(plain)

    said = [list(told.result(result)) for result in results]
    verdict = run_of(results=results)
    summary = list(lines.summary(verdict, "/run", plain))

    assert [len(part) for part in said] == [3, 2, 2]
    assert said[1][1].strip() == "[clean-log] WARNING in one: as in first"
    assert "causes       one finding in 3 of 3 scenarios" in summary
    assert summary[summary.index("causes       one finding in 3 of 3 scenarios") + 1].endswith("first, second, third")
    (cause,) = verdict.document()["causes"]
    assert cause == {"oracle": "clean-log", "summary": "WARNING in one", "scenarios": ["first", "second", "third"]}
    assert document.parse(document.render(verdict)).causes == verdict.causes
