# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cli import main
from harness.commands.init import FILES
from harness.variants import catalogue


def test_what_is_written_is_a_scenario_a_test_and_a_workflow(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0

    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(FILES)
    (scenario,) = catalogue.choose([str(tmp_path / "scenarios/first.yaml")])
    assert scenario.exercised
    assert yaml.safe_load((tmp_path / ".github/workflows/kernel.yml").read_text())["jobs"]["kernel"]["steps"]


def test_pytest_collects_it_and_builds_nothing(tmp_path: Path) -> None:
    main(["init", str(tmp_path)])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**env, "HARNESS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "3 tests collected" in done.stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_is_there_stays_and_nothing_is_written(tmp_path: Path, link: bool) -> None:
    place = tmp_path / "tests" / "test_kernel.py"
    place.parent.mkdir()
    place.symlink_to("/nonexistent") if link else place.write_text("mine")

    assert main(["init", str(tmp_path)]) == 129

    assert sorted(path.name for path in tmp_path.iterdir()) == ["tests"]
    assert link or place.read_text() == "mine"


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "none")]) == 129

    assert capsys.readouterr().err.splitlines() == [
        f"harness: {tmp_path / 'none'}: not a folder",
        f"  try: mkdir {tmp_path / 'none'}",
    ]
