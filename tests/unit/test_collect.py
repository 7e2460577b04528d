# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.host import collect, workspace

MIB = 1 << 20


def entry(cache: Path, name: str, age_s: float) -> Path:
    """A folder of 1 MiB in the cache, last used `age_s` ago."""
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(os.urandom(MIB))
    used = folder.stat().st_mtime - age_s
    os.utime(folder, (used, used))
    return folder


def test_the_cheapest_goes_first_and_of_one_kind_the_oldest(tmp_path: Path) -> None:
    """Runs are deleted before kernels, whatever their age."""
    kernel = entry(tmp_path, "kernels/k", 90_000)
    old, new = entry(tmp_path, "runs/old", 9000), entry(tmp_path, "runs/new", 8000)

    freed, left = collect.bound(tmp_path, 2 * MIB + MIB // 2)

    assert not old.exists()
    assert new.exists()
    assert kernel.exists()
    assert freed == left // 2


def test_what_was_used_just_now_stays(tmp_path: Path) -> None:
    """It may belong to a run that is under way."""
    fresh = entry(tmp_path, "runs/fresh", 10)

    collect.bound(tmp_path, 0)

    assert fresh.exists()


def test_what_is_locked_stays(tmp_path: Path) -> None:
    """A build is under way in it."""
    tree = entry(tmp_path, "trees/debian-6.12", 90_000)
    with workspace.lock(tmp_path / "locks" / "debian-6.12.lock"):
        collect.bound(tmp_path, 0)
        assert tree.exists()

    collect.bound(tmp_path, 0)

    assert not tree.exists()


def test_one_kind_can_be_bounded_by_itself(tmp_path: Path) -> None:
    """Snapshots are, whenever one is taken: the user bounds everything else."""
    old, new = entry(tmp_path, "snapshots/old", 9000), entry(tmp_path, "snapshots/new", 8000)
    run = entry(tmp_path, "runs/run", 90_000)

    collect.bound(tmp_path, MIB + MIB // 2, kinds=("snapshots",))

    assert (old.exists(), new.exists(), run.exists()) == (False, True, True)


def test_what_goes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes a snapshot, or finishes with a file, between our looks at them."""
    entry(tmp_path, "snapshots/.new.x7", 9000)
    (tmp_path / "snapshots" / "part").touch()
    size = collect._size

    def gone(path: Path) -> int:
        path.rename(tmp_path / path.name)
        return size(path)

    monkeypatch.setattr(collect, "_size", gone)

    assert collect.bound(tmp_path, -1) == (0, 0)
    assert (tmp_path / ".new.x7" / "content").exists()
