# SPDX-License-Identifier: GPL-2.0-only
"""The nightly workflows of GitHub and GitLab are valid by the published schemas, and consist of commands that exist."""

from __future__ import annotations

import itertools
import json
import os
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
from harness.kernel import versions
from harness.model.errors import UsageError
from setup.nightly import BARE, main

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
GITLAB = ROOT / ".gitlab-ci.yml"
SCHEMAS = {WORKFLOW: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}
# What a person types as it stands: it changes the checkout's own files under build/ alone.
PLAIN = ("apt-get", "mkdir", "cp", "cat", "sh")
# Where GitHub shows a summary.
SUMMARY = ' >> "$GITHUB_STEP_SUMMARY"'
EXPRESSION = re.compile(r"\$\{\{\s*matrix\.(\w+)\s*\}\}")


def jobs() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return loaded


def commands() -> Iterator[str]:
    """Every command of every step except the step that finds the kernels, with each value of the matrix filled in."""
    for job in jobs().values():
        matrix: dict[str, Any] = dict(job.get("strategy", {}).get("matrix", {}))
        if "source" in matrix:
            # The value that the first job puts there is checked below.
            assert matrix["source"] == "${{ fromJSON(needs.kernels.outputs.sources) }}"
            matrix["source"] = versions.sources()
        for step in job["steps"]:
            for line in step.get("run", "").splitlines() if "id" not in step else ():
                lines = [line]
                for name in dict.fromkeys(EXPRESSION.findall(line)):
                    value = re.compile(rf"\$\{{\{{\s*matrix\.{name}\s*\}}\}}")
                    lines = [value.sub(str(one), text) for text in lines for one in matrix[name]]
                yield from lines


def gitlab() -> Iterator[str]:
    """Every command of every job, with each value of its matrix filled in."""
    loaded = yaml.safe_load(GITLAB.read_text())
    for job in [loaded["default"], *(job for job in loaded.values() if isinstance(job, dict) and "script" in job)]:
        parts = job.get("parallel", {}).get("matrix", [{}])
        for line in [line for key in ("before_script", "script", "after_script") for line in job.get(key, ())]:
            for part in parts:
                for values in itertools.product(*part.values()):
                    text = line
                    for name, value in zip(part, values, strict=True):
                        text = text.replace(f"${name}", value)
                    yield text


def complaint(command: str) -> str:
    """Why a person could not type this command in a checkout; empty when they can."""
    command = command.removesuffix(SUMMARY)
    words = shlex.split(command)
    if "${{" in command or "$" in command:
        return "only the workflow's runner knows this value"
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if words[1] not in targets:
            return f"the Makefile has no {words[1]}"
        return nightly(shlex.split(words[2].removeprefix("ARGS="))) if words[1] == "nightly" else ""
    if words[0] == ".venv/bin/harness":
        try:
            cli.parse(words[1:])  # Parsed only: nothing may run.
        except UsageError as error:
            return str(error)
        return ""
    return "" if words[0] in PLAIN else f"{words[0]} is none of ours"


def nightly(words: list[str]) -> str:
    """Why `make nightly` refuses these arguments, or why one of the commands that it makes of them is not valid."""
    done: list[list[str]] = []

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        done.append(argv)
        if "harness.cli" in argv:
            cli.parse(argv[3:])  # Parsed only: nothing may run.
        return subprocess.CompletedProcess(argv, 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setup.nightly.subprocess.run", run)
        try:
            status = main(words)
        except (UsageError, SystemExit) as error:
            return str(error) or "usage"
    return "" if done and status == 0 else "nothing to do"


def check_schema(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    """Validate with the schema that check-jsonschema ships, so that no network is needed."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, path],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items(), ids=lambda value: Path(value).name)
def test_the_workflow_is_valid_by_the_published_schema(path: Path, schema: str) -> None:
    done = check_schema(path, schema)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "right", "wrong"), [(WORKFLOW, "runs-on:", "run-on:"), (GITLAB, "expire_in:", "expires:")]
)
def test_the_schema_refuses_a_misspelled_key(path: Path, right: str, wrong: str, tmp_path: Path) -> None:
    broken = tmp_path / "nightly.yml"
    broken.write_text(path.read_text().replace(right, wrong, 1))

    assert check_schema(broken, SCHEMAS[path]).returncode != 0


@pytest.mark.parametrize("command", sorted({*commands(), *gitlab()}))
def test_each_step_is_a_command_that_a_person_can_type(command: str) -> None:
    assert complaint(command) == ""


@pytest.mark.parametrize(
    "command",
    [
        "make coffee",
        ".venv/bin/harness fly",
        ".venv/bin/harness run --accel warp",
        ".venv/bin/harness run --out $RUNNER_TEMP",
        'make nightly ARGS="walk"',
        'make nightly ARGS="run --source debian:2.4"',
        'make nightly ARGS="run --accel warp"',
        "curl example.org",
    ],
)
def test_a_step_that_nobody_can_type_is_noticed(command: str) -> None:
    assert complaint(command) != ""


def test_kvm_is_demanded_and_not_only_hoped_for() -> None:
    nights = [command for command in commands() if "make nightly" in command and "--source" in command]
    shards = [command for command in commands() if "make nightly" in command and "--shard" in command]

    assert len(nights) == 3 * len(versions.sources())
    assert len(shards) == 4
    assert all("--accel kvm" in night for night in [*nights, *shards])


def test_the_shards_of_a_night_are_all_of_it_on_both() -> None:
    for said in (commands(), gitlab()):
        parts = [found[1] for line in said if line.startswith("make") and (found := re.search(r"--shard (\S+)", line))]
        assert sorted(parts) == ["1/4", "2/4", "3/4", "4/4"]


def test_gitlab_has_the_kernels_that_are_served() -> None:
    (named,) = yaml.safe_load(GITLAB.read_text())["mutants"]["parallel"]["matrix"]

    assert sorted(named["SOURCE"]) == sorted(versions.sources())


def test_the_kernels_of_the_night_are_those_that_are_served(tmp_path: Path) -> None:
    """The step's own line, as the runner's shell runs it."""
    (step,) = [step for step in jobs()["kernels"]["steps"] if step.get("id") == "ports"]
    said = tmp_path / "output"

    subprocess.run(["bash", "-euc", step["run"]], cwd=ROOT, env=os.environ | {"GITHUB_OUTPUT": str(said)}, check=True)

    name, _, value = said.read_text().partition("=")
    assert name == "sources"
    assert sorted(json.loads(value)) == sorted(versions.sources())


def test_a_night_is_the_matrix_every_mutant_and_an_hour_of_explore_on_each_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A failure does not end the run, but is reported."""
    ran: list[list[str]] = []

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(argv[2:])
        return subprocess.CompletedProcess(argv, int(argv[3] == "mutants"))

    monkeypatch.setattr("setup.nightly.subprocess.run", run)

    assert main(["--out", str(tmp_path)]) == 1
    assert ran.pop(0) == ["pytest", "-m", "nightly", "tests/guest"]
    fuzzers = sorted(path.name for path in (ROOT / "tests/unit").glob("test_fuzz_*.py"))
    assert [ran.pop(0) for _ in fuzzers] == [["setup.fuzz", "3600", f"tests/unit/{name}"] for name in fuzzers]
    assert ran.pop(0) == ["setup.soak", "3600"]
    assert [ran.pop(0) for _ in BARE] == [[suite, str(tmp_path.parent / f"bare-{suite}")] for suite in BARE]
    assert {words.pop(0) for words in ran} == {"harness.cli"}
    assert ran.pop(0)[:2] == ["matrix", "plans/nightly.yaml"]
    assert [(words[0], words[words.index("--source") + 1]) for words in ran] == [
        (kind, source) for source in versions.sources() for kind in ("mutants", "explore", "mutants")
    ]
    assert all("3600" in words for words in ran if words[0] == "explore")
    assert [words[0] for words in ran if "stock" in words] == ["mutants"] * len(versions.sources())
    last = capsys.readouterr().out.splitlines()[-1]
    others = 3 + len(fuzzers) + len(BARE)
    passed, all_ = (times * len(versions.sources()) + others for times in (1, 3))
    assert last.startswith(f"nightly: {passed} of {all_} passed")


def test_each_action_is_pinned_to_a_major_version() -> None:
    used = [step["uses"] for job in jobs().values() for step in job["steps"] if "uses" in step]

    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+(/[\w-]+)+@v\d+", action)] == []
