# SPDX-License-Identifier: GPL-2.0-only
"""docs/explanation/security.md names doors that are there, and its command runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from tests.unit import fuzzing

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/explanation/security.md").read_text(encoding="utf-8")


def test_each_door_is_there() -> None:
    doors = re.findall(r"`((?:harness|tests)/[^`]+)`", PAGE)

    assert len(doors) > 10
    assert [door for door in doors if not list(ROOT.glob(door))] == []


def test_each_number_is_the_one_that_is_enforced() -> None:
    from harness.guest import carry
    from harness.kernel import manifest, modules
    from harness.model import strict_yaml

    assert f"{manifest.FILES_LIMIT:,} files and {manifest.BYTES_LIMIT >> 30} GiB" in PAGE
    assert f"{strict_yaml.LIMIT_BYTES >> 10} KiB" in PAGE
    assert f"{carry.LIMIT_BYTES >> 20} MiB and {carry.LIMIT_FILES:,} files" in PAGE
    assert f"{modules.FILES_LIMIT:,} files and {modules.BYTES_LIMIT >> 20} MiB" in PAGE


def test_its_command_runs() -> None:
    """With an example for each door in place of hundreds."""
    (command,) = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
    setting, *words = shlex.split(command)
    name, _, _ = setting.partition("=")
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {name: "1"}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert name == fuzzing.VARIABLE
