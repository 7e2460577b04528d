# SPDX-License-Identifier: GPL-2.0-only
"""A sample of the mutants on a real kernel; the whole campaign is `harness mutants`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guest.command import ROOT, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


def test_each_is_killed_by_the_oracle_that_its_file_names_and_a_right_rewrite_passes(tmp_path: Path) -> None:
    """Common and rare mutants; three kernels that differ by lines in mm/, each of which the store keeps."""
    names = (
        "rare-end-skipped",
        "rare-pte-lost",
        "tolerates-without-mayfail",
        "writes-to-another-page",
        "mirror-is-deaf",
    )

    ended = harness("mutants", "--json", "--out", tmp_path / "run", *names)

    assert ended.status == 0, ended.stderr
    told = {entry["name"]: entry for entry in ended.document["mutants"]}
    assert {name: entry["verdict"] for name, entry in told.items()} == dict.fromkeys(names, "killed")
    assert {name: entry["expected"] for name, entry in told.items()} == {
        "rare-end-skipped": "pairing",
        "rare-pte-lost": "integrity",
        "tolerates-without-mayfail": "mayfail-gate",
        "writes-to-another-page": "integrity",
        "mirror-is-deaf": "coherence",
    }
    assert json.loads((tmp_path / "run" / "mutants.json").read_text()) == ended.document
    assert (tmp_path / "run" / "rare-end-skipped" / "verdict.json").exists()
    assert (tmp_path / "run" / "unbroken" / "verdict.json").exists()
    for name in names:
        assert any(line.split()[:1] == [name] and line.endswith("killed") for line in ended.stderr.splitlines()), name


@pytest.mark.nightly
def test_what_nothing_sees_survives_and_fails_the_campaign_unless_it_is_right(tmp_path: Path) -> None:
    """One rewrite of the patch, declared once to be equivalent and once to be a fault of the pairing."""
    text = (ROOT / "mutants" / "equivalent" / "switch.patch").read_text()
    few = "Scenarios: munmap-eagain, errno-under-mayfail-ebusy, memory-reclaim\n"
    said = {"right": f"Equivalent: yes\n{few}", "wrong": f"Expected-oracle: pairing\n{few}"}
    for name, lines in said.items():
        (tmp_path / f"{name}.patch").write_text(text.replace("Equivalent: yes\n", lines))

    ended = harness("mutants", "--json", "--out", tmp_path / "run", tmp_path / "right.patch", tmp_path / "wrong.patch")

    assert ended.status == 1, ended.stderr
    (wrong,), (right,) = ended.document["mutants"], ended.document["equivalents"]
    assert (wrong["verdict"], wrong["killed_by"]) == ("survived", [])
    assert wrong["note"] == "pairing saw nothing"
    assert (right["verdict"], right["note"]) == ("survived", "")
    assert set(right["scenarios"].values()) == {"pass"}
