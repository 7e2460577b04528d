# SPDX-License-Identifier: GPL-2.0-only
"""What `make check` reports about the time that it took."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from setup import check

REPORT = """<testsuites><testsuite name="pytest" tests="3" failures="1" errors="0" skipped="1">
<testcase classname="tests.guest.test_run" name="test_a" time="12.5"/>
<testcase classname="tests.guest.test_run" name="test_b" time="0.5"><failure message="x"/></testcase>
<testcase classname="tests.unit.test_cli" name="test_c" time="30.25"><skipped message="y"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check, "JUNIT", tmp_path)
    (tmp_path / "guest.xml").write_text(REPORT)
    return tmp_path


def test_jobs_are_counted_from_pytests_reports_and_others_by_their_status(reports: Path) -> None:
    assert check.count("guest", 1) == (1, 1, 1)
    assert check.count("lint", 0) == (1, 0, 0)
    assert check.count("types", 1) == (0, 1, 0)
    # A run that fails without a failed test: nothing collected, a broken conftest.
    (reports / "unit.xml").write_text('<testsuite tests="0"/>')
    assert check.count("unit", 5) == (0, 1, 0)


def test_the_slowest_tests_come_first(reports: Path) -> None:
    assert reports.exists()
    assert [name for _, name in check.slowest()] == [
        "tests.unit.test_cli::test_c", "tests.guest.test_run::test_a", "tests.guest.test_run::test_b",
    ]  # fmt: skip


def test_the_kernels_that_this_run_built_are_told_with_their_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reports: Path
) -> None:
    assert reports.exists()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    began = time.time() - 60
    for name, seconds, at in (("old", 300.0, began - 60), ("new", 182.5, began + 30), ("quick", 9.0, began + 40)):
        facts = tmp_path / "cache" / "kernels" / name / "kernel.json"
        facts.parent.mkdir(parents=True)
        patches = ["mayfail", f"/somewhere/{name}.patch"]
        facts.write_text(
            json.dumps({"seconds": seconds, "source": "debian:6.12", "patches": patches, "configs": ["base"]})
        )
        os.utime(facts, (at, at))

    check.tell_costs(began)

    said = capsys.readouterr().out.splitlines()
    assert "  2 kernels were built in 192 s:" in said
    assert said[-2:] == [
        "     182.5 s  debian:6.12, mayfail + new.patch; base",
        "       9.0 s  debian:6.12, mayfail + quick.patch; base",
    ]
