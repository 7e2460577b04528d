# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the kernel layer: a toy kernel that builds in a second, and folders of variants made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.host import workspace
from tests.unit.runs import run_directory

TOY = Path(__file__).resolve().parents[1] / "fakes" / "kernel"


class Said:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def say(self, text: str) -> None:
        """Remember a line."""
        self.lines.append(text)

    def advance(self, stage: str, done: int, total: int) -> None:
        """Remember a step."""
        self.steps.append((stage, done, total))


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A copy of the toy kernel that a test may edit."""
    return Path(shutil.copytree(TOY, tmp_path / "toy"))


@pytest.fixture
def variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of fragments and patches that fit the toy kernel, in place of the project's own."""
    root = tmp_path / "variants"
    (root / "kernel-configs").mkdir(parents=True)
    (root / "kernel-configs/base.config").write_text("CONFIG_SWAP=y\n# CONFIG_TINY is not set\n")
    (root / "kernel-configs/zram.config").write_text("CONFIG_ZRAM=y\n")
    (root / "kernel-configs/guest.config").write_text("CONFIG_SWAP=y\nCONFIG_TEST_HMM=m\n")
    (root / "patches/mayfail/6.1").mkdir(parents=True)
    (root / "patches/mayfail/6.12").mkdir(parents=True)
    (root / "patches/mayfail/6.1/0001-mayfail.patch").write_text(diff("mm/rmap.c", "start(9)", "start(2)"))
    (root / "patches/mayfail/6.12/0001-mayfail.patch").write_text(diff("mm/rmap.c", "start(0)", "start(2)"))
    monkeypatch.setattr(workspace, "data", lambda folder: root / folder)
    return root


def rot(path: Path, kind: str = "flip") -> None:
    """Change a file as a rotten disk does: its size and times stay; or as a full one does: it is cut, or empty."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    # In place: other names of the file rot with it.
    path.write_bytes({"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[kind])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def diff(path: str, old: str, new: str) -> str:
    """A diff against the toy kernel that replaces one text; it fails if the toy kernel lacks the text."""
    before = (TOY / path).read_text().splitlines()
    at = next((n for n, line in enumerate(before) if old in line), None)
    if at is None:
        at, line = len(before) // 2, f"\t{old};"
    else:
        line = before[at]
    above, below = before[max(0, at - 2) : at], before[at + 1 : at + 3]
    first, count = at + 1 - len(above), len(above) + 1 + len(below)
    hunk = [f" {text}" for text in above] + [f"-{line}", f"+{line.replace(old, new)}"] + [f" {text}" for text in below]
    head = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -{first},{count} +{first},{count} @@\n"
    return head + "\n".join(hunk) + "\n"


def git(folder: Path, *words: str) -> str:
    """Run git as a user would, with a name and no settings of this machine."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(folder)}
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(toy: Path) -> Path:
    """The toy kernel as a git repository of one commit."""
    return committed(toy)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for tests that only read it, or add objects."""
    return committed(Path(shutil.copytree(TOY, tmp_path_factory.mktemp("shared") / "toy")))


def committed(folder: Path) -> Path:
    """Make a repository of a folder, with one commit."""
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "toy")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that passed, and that no test changes."""
    return run_directory(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it, whole."""
    return Path(shutil.copytree(made, tmp_path / "run"))
