# SPDX-License-Identifier: GPL-2.0-only
"""docs/how-to/bisect.md: its example runs as it is typed, and what it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from harness import cli
from harness.bisect import engine

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/bisect.md").read_text(encoding="utf-8")


def test_its_example_runs_and_finds_the_sixth_change(tmp_path: Path) -> None:
    commands = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
    program = tmp_path / "harness"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness.cli "$@"\n')
    program.chmod(0o755)
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = os.environ | who | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HARNESS_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip

    done = subprocess.run(
        ["sh", "-ec", "\n".join(commands)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )

    assert len(commands) == 3
    assert done.returncode == 0, done.stderr
    assert "change 6 is the first bad commit" in done.stderr.splitlines()[-1]


def test_each_option_and_reason_that_it_names_exists() -> None:
    cli.parse(["bisect", "--good", "a", "--bad", "b"])
    command = (ROOT / "harness/commands/bisect.py").read_text() + (ROOT / "harness/commands/_options.py").read_text()
    known = set(re.findall(r'"(--[a-z-]+)"', command))
    text = Path(engine.__file__).read_text()

    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known
    _, _, table = PAGE.partition("## When there is none")
    reasons = re.findall(r"^\| (.+?) \| ", table.partition("## Interrupted")[0], re.MULTILINE)[1:]
    assert len(reasons) == 5
    assert [reason for reason in reasons if reason.removesuffix(" fails") not in text] == []
    assert f"{engine._SEEK} runs saw nothing" in PAGE
