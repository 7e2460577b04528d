# SPDX-License-Identifier: GPL-2.0-only
"""harness explore on a correct kernel, and on a kernel that loses one end in a thousand."""

from __future__ import annotations

import pytest

from tests.guest.command import PATCHES, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


@pytest.mark.nightly
def test_a_rare_fault_is_found_without_a_scenario_for_it(tmp_path):
    """The report says how often the failure repeats: one end in a thousand need not be lost each time."""
    patches = ("--patch", "mayfail", "--patch", PATCHES / "loses-ends.patch")
    ended = harness("explore", *patches, "--seed", "1", "--seconds", "120", "--json", "--out", tmp_path / "out")

    assert ended.status == 1, ended.stderr
    assert "pairing" in {finding["oracle"] for finding in ended.document["findings"]}
    assert ended.document["failed_again"].endswith(" of 3")


def test_what_is_found_fails_as_a_scenario_of_its_own(tmp_path):
    patches = ("--patch", "mayfail", "--patch", PATCHES / "warns-twice.patch")
    ended = harness("explore", *patches, "--seed", "1", "--seconds", "60", "--json", "--out", tmp_path / "out")

    assert ended.status == 1, ended.stderr
    assert ended.document["failed_again"] == "3 of 3"
    assert harness("run", *patches, ended.document["found"]).status == 1


def test_nothing_is_found_on_the_good_patch(tmp_path):
    ended = harness("explore", "--seed", "2", "--seconds", "10", "--json", "--out", tmp_path / "out")

    assert ended.status == 0, ended.stderr
    assert ended.document["examples"] > 0
    assert ended.document["examples_per_minute"] > 0
