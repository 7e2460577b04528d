# SPDX-License-Identifier: GPL-2.0-only
"""Stock kernels by their own contract: a good one passes with counted evidence, and ours is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernel import versions
from tests.guest.command import harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build, pytest.mark.nightly]


@pytest.mark.parametrize("source", versions.sources())
def test_a_good_stock_kernel_passes_by_its_own_contract(source: str, tmp_path: Path) -> None:
    """What needs the patch is skipped, and says so; judging again stays with the contract."""
    names = ("memcg-accept", "refused-in-reclaim", "mirror-swap", "refuser-with-end", "memcg-eagain")

    ended = harness("run", "--source", source, "--contract", "stock", "--json", "--out", tmp_path / "run", *names)

    assert ended.status == 0, ended.stderr
    document = ended.document
    assert (document["contract"]["used"], document["patches"]) == ("stock", ["none"])
    counted = {result["name"]: result["exercised"] for result in document["scenarios"]}
    assert counted["memcg-accept"]["direct_reclaim"] >= 4000
    assert counted["refused-in-reclaim-direct"]["eagain"] >= 2
    assert {name: one["mayfail"] for name, one in counted.items()} == dict.fromkeys(counted, 0)
    assert [entry["name"] for entry in document["skipped"]] == ["memcg-eagain"]
    again = harness("judge", "--json", tmp_path / "run")
    assert (again.status, again.document["contract"]) == (0, document["contract"])


def test_the_patch_fails_by_the_contract_of_stock_kernels() -> None:
    """Its marks are there."""
    ended = harness("run", "--patch", "mayfail", "--contract", "stock", "--json", "memcg-accept")

    assert ended.status == 1, ended.stderr
    assert {finding["oracle"] for finding in ended.findings()} == {"mayfail-gate"}


def test_a_bug_that_linux_had_is_killed_on_a_stock_kernel(tmp_path: Path) -> None:
    ended = harness("mutants", "--contract", "stock", "--json", "--out", tmp_path / "run", "range-starts-at-the-vma")

    assert ended.status == 0, ended.stderr
    (told,) = ended.document["mutants"]
    assert (told["contract"], told["verdict"]) == ("stock", "killed")
    assert (tmp_path / "run" / "unbroken-stock" / "verdict.json").exists()
