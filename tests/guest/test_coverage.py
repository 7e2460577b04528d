# SPDX-License-Identifier: GPL-2.0-only
"""The lines of a user's patch, counted in a real guest."""

from __future__ import annotations

import pytest

from tests.guest.command import PATCHES, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


def test_of_a_patch_whose_lines_run_in_part_it_is_said_which() -> None:
    """The comparison runs with each page that is unmapped, what it guards never does; the pass is none, as required."""
    patches = ("--patch", "mayfail", "--patch", PATCHES / "half-runs.patch")

    ended = harness("run", *patches, "--require-patch-coverage", "90", "--json", "memcg-eagain")

    assert ended.status == 125, ended.stderr
    coverage = ended.document["patch_coverage"]
    (compared, guarded) = coverage["lines"]
    assert compared["file"] == guarded["file"] == "mm/rmap.c"
    assert guarded["line"] == compared["line"] + 1
    # As often as a probe counts before it is taken away, at least.
    assert compared["ran"]["memcg-eagain"] >= 1000
    assert not guarded["ran"]
    assert not guarded["unwatched"]
    assert coverage["summary"] == f"1 of 2 changed lines ran; never: mm/rmap.c:{guarded['line']}"
    assert f"your lines   {coverage['summary']}" in ended.stderr
    assert "50 % of the changed lines ran (--require-patch-coverage 90)" in ended.stderr
    assert {result["verdict"] for result in ended.document["scenarios"]} == {"pass"}
