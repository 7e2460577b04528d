# SPDX-License-Identifier: GPL-2.0-only
"""Each entry of the tables has a line that it matches and a near miss, and bounded matching time."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.console import lines, opener, patterns, scanner, sight, stack, title
from harness.console.pattern import LIMIT, Pattern
from tests.unit.regex_cost import bound

ENTRIES = (*patterns.PATTERNS, sight.REBOOT)
# Steps of one attempt on the longest text that an expression can get. A step takes some 10 ns.
STEPS = 1_000_000


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_matches_its_sample_and_not_its_near_miss(entry: Pattern) -> None:
    assert entry.compiled.match(entry.sample[:LIMIT])
    assert any(needle in entry.sample for needle in entry.needles)
    if entry is sight.REBOOT:
        assert entry.compiled.match(entry.near_miss) is None
        return
    assert patterns.match(entry.sample) == (entry, 0)
    found = patterns.match(entry.near_miss)
    assert found is None or found[0] is not entry


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_title_asks_only_for_what_the_entry_can_find(entry: Pattern) -> None:
    """A {field} is a group of the expressions, has a stand-in, or is the frame."""
    groups = {*entry.compiled.groupindex, *entry.detail_compiled.groupindex, *entry.missing, "frame"}
    groups |= {name.upper() for name in groups}

    assert set(re.findall(r"\{(\w+)\}", entry.title + entry.type)) <= groups


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(entry.name for entry in ENTRIES).items() if count > 1] == []


def test_a_sample_is_recognised_live_behind_time_and_caller() -> None:
    for entry in patterns.PATTERNS:
        # A program's words are no program's behind what the kernel writes.
        live = opener(entry.sample if entry.program else f"[    1.234567][  T123] {entry.sample}")
        assert live is (None if entry.role.name == "WEAK" else entry)


def expressions() -> list[tuple[str, str]]:
    """Every regular expression that the package applies to a console."""
    found = [(entry.name, entry.regex) for entry in ENTRIES]
    found += [(f"{entry.name}.detail", entry.detail) for entry in ENTRIES if entry.detail]
    for module in (lines, stack, title, sight, scanner, patterns):
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                text = value.pattern if isinstance(value.pattern, str) else value.pattern.decode("latin-1")
                found.append((f"{module.__name__}.{name}", text))
    return found


@pytest.mark.parametrize(("name", "regex"), expressions(), ids=lambda value: value[:40])
def test_no_expression_backtracks_far(name: str, regex: str) -> None:
    assert bound(regex, LIMIT) <= STEPS, name


@pytest.mark.parametrize("regex", [r"(a+)+b", r"(?:\w+\s*)*x", r"(?:a|a)*b", r".*.*.*.*x", r"(?:[a-z]+,?)*;"])
def test_the_bound_speaks_up(regex: str) -> None:
    """An expression of known exponential or high polynomial cost is over the limit."""
    assert bound(regex, LIMIT) > STEPS


PIECES = [*(entry.sample for entry in patterns.PATTERNS), *"([{<: /.+0aA\t\\", "0x", "][", "at ", "+0x1/", "\x1b["]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30), st.integers(1, 200))
def test_hostile_lines_cost_no_more_than_their_length(pieces: list[str], times: int) -> None:
    """Whatever samples are cut up and repeated: a line is examined up to a limit, and answered."""
    line = "".join(pieces) * times

    patterns.match(line)
    assert patterns.match(line[:LIMIT]) == patterns.match(line)
    for call in stack.calls(line):
        assert len(call.function) <= LIMIT
