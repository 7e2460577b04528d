# SPDX-License-Identifier: GPL-2.0-only
"""The nightly workflow: valid by the published schema, and made of commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import cli
from harness.model.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
EXPRESSION = re.compile(r"\$\{\{\s*matrix\.(\w+)\s*\}\}")


def jobs() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return loaded


def commands() -> Iterator[str]:
    """Every command of every step, with each value of the matrix put in."""
    for job in jobs().values():
        matrix: dict[str, list[str]] = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                names = EXPRESSION.findall(line)
                if not names:
                    yield line
                for name in names:
                    yield from (EXPRESSION.sub(value, line) for value in matrix[name])


def complaint(command: str) -> str:
    """Why a person could not type this command in a checkout; empty when they can."""
    words = shlex.split(command)
    if "${{" in command or "$" in command:
        return "only the workflow's runner knows this value"
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if words[1] in targets else f"the Makefile has no {words[1]}"
    if words[0] == ".venv/bin/harness":
        try:
            cli.parse(words[1:])  # Parsed only: nothing may run.
        except UsageError as error:
            return str(error)
        return ""
    return "" if words[0] == "apt-get" else f"{words[0]} is none of ours"


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Validate with the schema that check-jsonschema ships, so that no network is needed."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workflow_is_valid_by_the_published_schema() -> None:
    done = check_schema(WORKFLOW)

    assert done.returncode == 0, done.stdout


def test_the_schema_refuses_a_misspelled_key(tmp_path: Path) -> None:
    broken = tmp_path / "nightly.yml"
    broken.write_text(WORKFLOW.read_text().replace("runs-on:", "run-on:", 1))

    assert check_schema(broken).returncode != 0


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_each_step_is_a_command_that_a_person_can_type(command: str) -> None:
    assert complaint(command) == ""


@pytest.mark.parametrize(
    "command",
    [
        "make coffee",
        ".venv/bin/harness fly",
        ".venv/bin/harness run --accel warp",
        ".venv/bin/harness run --out $RUNNER_TEMP",
        "curl example.org",
    ],
)
def test_a_step_that_nobody_can_type_is_noticed(command: str) -> None:
    assert complaint(command) != ""


def test_kvm_is_demanded_and_not_only_hoped_for() -> None:
    runs = [command for command in commands() if "harness run" in command]

    assert sorted(re.search(r"debian:[0-9.]+", run)[0] for run in runs) == ["debian:6.1", "debian:6.12"]  # type: ignore[index]
    assert all("--accel kvm" in run for run in runs)


def test_each_action_is_pinned_to_a_major_version() -> None:
    used = [step["uses"] for job in jobs().values() for step in job["steps"] if "uses" in step]

    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action)] == []
