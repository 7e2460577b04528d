# SPDX-License-Identifier: GPL-2.0-only
"""docs/explanation/ranges.md names mutants and scenarios that there are, and leaves out none that is about a range."""

from __future__ import annotations

import re
from pathlib import Path

from harness.variants import catalogue, mutants

PAGE = (Path(__file__).resolve().parents[2] / "docs/explanation/ranges.md").read_text(encoding="utf-8")
# In a column of a table, a name with a hyphen and without a call's parentheses is a mutant.
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
NAMED = {name for row in ROWS for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", row)}


def test_each_mutant_of_the_tables_is_there() -> None:
    assert len(NAMED) > 50
    assert mutants.catalogue().keys() >= NAMED


def test_no_mutant_that_tells_nobody_too_little_or_too_early_is_left_out() -> None:
    about = re.compile(r"-tells-|-in-silence$|^(un|mi|sp)\w+-loses-")

    assert {name for name in mutants.catalogue() if about.search(name)} <= NAMED


def test_each_scenario_of_the_notes_is_there() -> None:
    notes = " ".join(line for line in PAGE.splitlines() if line.startswith("- "))
    families = {scenario.path.stem for scenario in catalogue.scenarios().values()}

    assert set(re.findall(r"`((?:mirror|selftests)[a-z-]*)`", notes)) <= families
