# SPDX-License-Identifier: GPL-2.0-only
"""The output of the kernel's selftest programs, as their own header prints it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model import ktap
from harness.model.ktap import SHOWN, Results, read, restore

HEAD = "TAP version 13\n"


@pytest.mark.parametrize(
    ("text", "status", "wanted"),
    [
        (HEAD + "1..2\nok 1 a\nok 2 b\n# Totals: pass:2 fail:0\n", 0, Results(2, 0, 0)),
        # ksft_test_result_skip() and _xfail(), ksft_test_result_code() with a reason.
        (
            HEAD + "1..4\nok 1 # SKIP no swap\nok 2 a.b # SKIP why\nok 3 # XFAIL known\nok 4 # SKIP why\n",
            0,
            Results(1, 0, 3, (), (("why", 2), ("no swap", 1))),
        ),
        (HEAD + "1..2\nnot ok 1 a #  why\nok 2 b\n", 1, Results(1, 1, 0, ("not ok 1 a #  why",))),
        (HEAD + "1..1\nnot ok 1 # error broken\n", 1, Results(0, 1, 0, ("not ok 1 # error broken",))),
        (HEAD + "1..1\nok 1 # SKIP no gup_test\n", 4, Results(0, 0, 1, (), (("no gup_test", 1),))),
        # A fork doubles the output that stdio had not written yet.
        (HEAD + "1..2\nok 1 a\nTAP version 13\n1..2\nok 1 a\nok 2 b\n", 0, Results(2, 0, 0)),
        # uffd-unit-tests.
        (
            "Testing a on x... done\nTesting b on x... skipped [reason: old]\nTesting c... failed [reason: bad]\n",
            1,
            Results(1, 1, 1, ("Testing c... failed [reason: bad]",), (("old", 1),)),
        ),
        # Programs without TAP output: the status is the result.
        ("Success reaping a child with 1MB\n", 0, Results(1, 0, 0)),
        ("not supported\n", 4, Results(0, 0, 1, (), (("not supported", 1),))),
        (HEAD + "1..0 # SKIP no gup_test\n", 4, Results(0, 0, 1, (), (("1..0 # SKIP no gup_test", 1),))),
    ],
)
def test_results_are_counted(text: str, status: int, wanted: Results) -> None:
    """Passed, skipped and failed results, in each form of kselftest.h."""
    assert read(text, status) == wanted


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (HEAD + "1..3\nok 1 a\n", 0, "2 of 3 planned tests were never reported"),
        (HEAD + "1..1\nok 1 a\n", 1, "ended with status 1: ok 1 a"),
        (HEAD + "1..1\nBail out! mmap failed\n", 1, "1 of 1 planned tests were never reported: Bail out! mmap failed"),
        (HEAD + "not ok 1 a\n", 1, "not ok 1 a"),
        (HEAD, 256 + 11, "ended with signal 11: TAP version 13"),
        ("", 127, "ended with status 127: nothing was printed"),
    ],
)
def test_an_end_before_the_end_is_a_failure(text: str, status: int, said: str) -> None:
    """A crash, a status that contradicts the lines, planned tests that never came."""
    results = read(text, status)

    assert results.failures == (said,)
    assert results.failed == 1


def test_a_flood_of_failures_is_counted_and_cut() -> None:
    """A reply goes into record.json and verdict.json."""
    results = read("".join(f"not ok {number} {'x' * 10_000}\n" for number in range(1, 1001)), 1)

    assert results.failed == 1000
    assert len(results.failures) == SHOWN
    assert max(map(len, results.failures)) < 200


def test_results_come_back_from_their_document_and_nothing_else_does() -> None:
    """The document has been through a guest."""
    results = Results(1, 1, 1, ("not ok 1 a",), (("why", 1),), cut=True)

    assert restore(results.document()) == results
    assert restore({"pass": "many", "failures": 7, "reasons": []}) == Results(0, 0, 0)


def test_tests_that_stand_behind_the_end_of_what_was_read_did_not_fail() -> None:
    assert read(HEAD + "1..3\nok 1 a\n", 0, cut=True) == Results(1, 0, 0, cut=True)
    assert read(HEAD + "1..3\nok 1 a\n", 0).failed == 1


KUNIT = """\
KTAP version 1
1..1
    KTAP version 1
    # Subtest: list
    1..3
    ok 1 list_init
    # list_add: EXPECTATION FAILED at lib/list-test.c:3
    not ok 2 list_add
    ok 3 list_del # SKIP no reason given
not ok 1 list
"""


def test_the_cases_of_a_suite_are_told_one_by_one() -> None:
    assert [(case.name, case.verdict) for case in ktap.cases(KUNIT, 0)] == [
        ("list: list_init", "pass"),
        ("list: list_add", "fail"),
        ("list: list_del", "skip"),
    ]
    assert "EXPECTATION FAILED" in ktap.cases(KUNIT, 0)[1].text


@pytest.mark.parametrize(
    ("text", "status", "verdicts"),
    [
        ("hello\n", 0, ["pass"]),
        ("hello\n", 4, ["skip"]),
        ("hello\n", 1, ["fail"]),
        ("", 256 + 11, ["fail"]),
        ("1..3\nok 1 a\n", 0, ["pass", "fail"]),
        ("ok 1 a\n", 1, ["pass", "fail"]),
        ("    ok 1 a\nnot ok 1 suite\n", 0, ["pass", "fail"]),
        ("not ok 1 a # TODO later\n", 0, ["pass"]),
    ],
)
def test_nothing_that_failed_is_lost_among_the_cases(text: str, status: int, verdicts: list[str]) -> None:
    assert [case.verdict for case in ktap.cases(text, status)] == verdicts


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["ok 1 a", "not ok 2 b", "    ok 1 c", "        not ok 3 - d", "# x", "1..2", "ok", "\r", "Bail out!"]
        )
        | st.text(max_size=8),
        max_size=12,
    ),
    st.sampled_from([0, 1, 4, 256 + 9]),
)
def test_the_cases_agree_with_the_whole(lines: list[str], status: int) -> None:
    """A program that failed has a case that failed; and a guest may print anything."""
    text = "\n".join(lines)

    cases = ktap.cases(text, status)

    assert cases or not lines
    if ktap.read(text, status).failed:
        assert any(case.verdict == "fail" for case in cases)


def test_there_is_an_end_to_the_cases() -> None:
    cases = ktap.cases("\n".join(f"ok {number} x" for number in range(ktap.CASES_LIMIT + 9)), 0)

    assert len(cases) == ktap.CASES_LIMIT + 1
    assert cases[-1].verdict == "fail"
