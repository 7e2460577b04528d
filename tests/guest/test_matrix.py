# SPDX-License-Identifier: GPL-2.0-only
"""A matrix in real guests: the demonstration passes by failing, and what was done is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.command import harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build, pytest.mark.nightly]

PLAN = """\
kernels: [debian:6.12]
patches: [mayfail, none]
scenarios: [memcg-accept]
expect:
  - {patch: none, oracle: mayfail-gate}
"""


def test_two_kernels_end_as_they_must_and_are_taken_over_the_next_night(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)

    first = harness("matrix", plan, "--again", "--out", tmp_path / "first", "--json")
    second = harness("matrix", plan, "--out", tmp_path / "second", "--json")
    merged = harness("merge", tmp_path / "first", tmp_path / "second", "--out", tmp_path / "merged", "--json")

    for told in (first, second, merged):
        assert told.status == 0, told.stderr
        assert {job["job"]["patch"][0]: job["verdict"] for job in told.document["jobs"]} == {
            "mayfail": "pass",
            "none": "fail",
        }
    assert [bool(job["taken"]) for job in second.document["jobs"]] == [True, True]
    for job in first.document["jobs"]:
        assert harness("judge", tmp_path / "merged" / job["name"]).status == (1 if job["verdict"] == "fail" else 0)
