# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a user has it: a process of its own, its exit code, its verdict document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.kernel import versions

# Each kernel that is served. `make check` builds one, in four minutes on two CPUs; the others are for the night.
GATE = (versions.DEFAULT,)
EACH = pytest.mark.parametrize(
    "source",
    [pytest.param(name, marks=() if name in GATE else pytest.mark.nightly) for name in versions.sources()],
)

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PATCHES = HERE / "patches"
SCENARIOS = ROOT / "tests" / "scenarios"
# Enough for a kernel built from source on a slow host; a command that hangs is ended then and fails.
LIMIT_S = 3600


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The verdict document that --json printed."""
        assert self.stdout, self.stderr
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    def findings(self, scenario: str = "") -> list[dict[str, str]]:
        """All findings, or those of one scenario."""
        return [
            finding
            for result in self.document["scenarios"]
            if scenario in ("", result["name"])
            for finding in result["findings"]
        ]


def argv(*words: str | Path) -> list[str]:
    """The command for a process that a test starts itself."""
    return [sys.executable, "-m", "harness.cli", *map(str, words)]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with changes."""
    return dict(os.environ) | {"PYTHONPATH": str(ROOT)} | changes


def of_a_user() -> dict[str, str]:
    """The environment of a user, with neither this checkout's path nor this run's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}


def as_a_user(words: Sequence[str | Path], cwd: Path) -> tuple[int, str]:
    """Exit status and output of a command, in a user's environment."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env=of_a_user(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout


def pytest_of_a_user(folder: Path, *words: str) -> tuple[int, str]:
    """Exit status and output of pytest in a folder."""
    return as_a_user([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words], folder)


def harness(
    *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, given: str = ""
) -> Ended:
    """Run `harness WORDS` to its end; given: on its standard input."""
    done = subprocess.run(
        argv(*words),
        env=environment(**(env or {})),
        cwd=cwd or ROOT,
        input=given,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)
