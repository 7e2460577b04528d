# SPDX-License-Identifier: GPL-2.0-only
"""docs/how-to/your-kernel.md, in real: a kernel that its owner built, a whole configuration, commands without us."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.host.progress import QUIET
from harness.host.workspace import cache_dir
from harness.kernel import build as builds
from harness.kernel.source import fetch
from harness.model.instrument import Instrument
from harness.run import pipeline
from harness.run.pipeline import Clock, KernelRequest
from tests.guest.command import LIMIT_S, ROOT, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

PAGE = (ROOT / "docs/how-to/your-kernel.md").read_text(encoding="utf-8")
BUILT, BASE, RECIPE = (shlex.split(line) for line in re.findall(r"^\$ \.venv/bin/harness (.+)$", PAGE, re.MULTILINE))
# What a module's build reads of a source.
_READ = ("arch/x86", "include", "scripts", "Makefile", "Kconfig")


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """A copy of the default kernel's object tree, as an owner has one, in a folder with its source."""
    cache = cache_dir()
    kernel = pipeline.prepare(KernelRequest(), Instrument(), cache, QUIET, Clock()).kernel
    with builds.objects_again(kernel, cache, QUIET) as objects:
        shutil.copytree(objects.obj, tmp_path / "obj", symlinks=True)
        for name in _READ:
            copy = shutil.copytree if (objects.tree / name).is_dir() else shutil.copy2
            (tmp_path / "linux" / name).parent.mkdir(parents=True, exist_ok=True)
            copy(objects.tree / name, tmp_path / "linux" / name)
    (tmp_path / "obj/source").unlink()
    (tmp_path / "obj/source").symlink_to("../linux")
    return tmp_path


def state(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Everything that a write below a folder would change."""
    facts = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode) for name, s in facts.items()}


def test_a_kernel_that_its_owner_built_is_judged_and_nothing_of_it_is_written(owned: Path):
    before = state(owned / "obj"), state(owned / "linux")

    ended = harness(*BUILT, "--json", "--out", owned / "run", cwd=owned)

    assert ended.status == 0, ended.stderr
    assert ended.document["source"] == "built:obj"
    assert ended.document["contract"]["reason"].startswith("the source of the built kernel has MMU_NOTIFIER_RANGE_MAY")
    assert (state(owned / "obj"), state(owned / "linux")) == before


@pytest.mark.nightly
def test_a_defconfig_is_built_booted_and_judged(tmp_path: Path):
    """With what it says n to, and without its modules."""
    cache = cache_dir()
    tree = fetch("debian:6.12", cache).origin.linkable
    assert tree is not None
    make = ["make", "-s", "-C", str(tree), f"O={tmp_path}/obj", "x86_64_defconfig"]
    subprocess.run(make, check=True, timeout=LIMIT_S)
    shutil.copy(tmp_path / "obj/.config", tmp_path / "theirs.config")

    ended = harness(*BASE, "--json", "--out", tmp_path / "run", cwd=tmp_path)

    assert ended.status == 0, ended.stderr
    assert "CONFIG_MEMCG: the file says n, guest needs y" in (tmp_path / "run/kernel/config.told").read_text()
    assert ended.document["configs"] == ["theirs.config", "guest"]


@pytest.mark.nightly
def test_the_recipe_makes_the_same_kernel(tmp_path: Path):
    """As it is printed, and as it is in a run."""
    run = harness("run", "memcg-eagain", "--json", "--out", tmp_path / "run")
    printed = harness(*RECIPE, "--out", tmp_path / "recipe").stdout

    done = subprocess.run(
        ["sh", "-s", tmp_path / "work"],
        input=f"STOP=build\n{printed}",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"Build ID: {run.document['kernel']['build_id']}\n" in done.stdout
    kept = harness("report", "--print-recipe", tmp_path / "run").stdout
    assert kept.replace(str(tmp_path / "run/kernel/recipe"), str(tmp_path / "recipe")) == printed
