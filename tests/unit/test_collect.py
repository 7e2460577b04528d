# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli import main
from harness.history import keeping, store
from harness.history.store import Store
from harness.host import collect, workspace
from harness.host.collect import Collected, Keep
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from harness.report.write import write
from tests.unit.test_history_store import a_run
from tests.unit.verdicts import run_of

ROOT = Path(__file__).resolve().parents[2]
MIB, DAY = 1 << 20, 86400


def entry(cache: Path, name: str, age_s: float) -> Path:
    """A folder of 1 MiB in the cache, last used `age_s` ago."""
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(os.urandom(MIB))
    used = folder.stat().st_mtime - age_s
    os.utime(folder, (used, used))
    return folder


NONE = Keep(runs=0, days=0)


def test_what_was_used_longest_ago_goes_first_and_of_one_day_the_cheapest(tmp_path: Path) -> None:
    kernel, new_kernel = entry(tmp_path, "kernels/old", 200_000), entry(tmp_path, "kernels/new", 9500)
    old, new = entry(tmp_path, "runs/1", 9000), entry(tmp_path, "runs/2", 8000)

    done = collect.bound(tmp_path, 2 * MIB + MIB // 2, keep=NONE)

    assert [one.path for one in done.gone] == [kernel, old]
    assert [path.exists() for path in (kernel, old, new, new_kernel)] == [False, False, True, True]
    assert done.freed == done.left == 2 * MIB


def test_what_would_go_is_told_and_stays(tmp_path: Path) -> None:
    old = entry(tmp_path, "runs/1", 9000)

    done = collect.bound(tmp_path, 0, keep=NONE, dry=True)

    assert ([one.path for one in done.gone], done.left) == ([old], 0)
    assert (old / "content").exists()


def test_runs_are_kept_by_number_and_age_and_those_that_failed_longer(tmp_path: Path) -> None:
    days = {"1-old": 20, "2-failed": 10, "3-failed-long-ago": 20, "4-missed": 20, "5-young": 2, "6-newest": 20}
    runs = {name: entry(tmp_path, f"runs/{name}", age * DAY) for name, age in days.items()}
    for name in ("2-failed", "3-failed-long-ago"):
        write(run_of({"one": Outcome.FAIL}), runs[name])
        used = time.time() - days[name] * DAY
        os.utime(runs[name], (used, used))

    keep = Keep(runs=1, days=3, spare=lambda run: run.name == "4-missed")
    done = collect.bound(tmp_path, 0, keep=keep)

    assert [one.path.name for one in done.gone] == ["1-old", "3-failed-long-ago"]


USER = """
import sys
from pathlib import Path
from harness.host import workspace
print(workspace.whole(Path(sys.argv[1])), flush=True)
sys.stdin.read()
print(workspace.whole(Path(sys.argv[1])), flush=True)
"""


def test_what_another_process_uses_stays_until_it_ends(tmp_path: Path) -> None:
    """However long ago it was made. A process that is killed uses nothing."""
    kernel, other = entry(tmp_path, "kernels/used", 90_000), entry(tmp_path, "kernels/other", 90_000)
    argv = [sys.executable, "-c", USER, str(kernel)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "True\n"

        done = collect.bound(tmp_path, 0, fresh_s=-1, keep=NONE)

        assert [one.path for one in done.gone] == [other]
        assert (kernel / "content").exists()
        user.kill()
    collect.bound(tmp_path, 0, fresh_s=-1, keep=NONE)
    assert not kernel.exists()
    assert list((tmp_path / "trash").iterdir()) == []


def test_what_was_collected_is_not_whole(tmp_path: Path) -> None:
    """A process that looked at it before makes it again."""
    kernel = entry(tmp_path, "kernels/used", 90_000)
    assert workspace.whole(kernel)
    assert collect.bound(tmp_path, 0, fresh_s=-1, keep=NONE).gone == [], "this process uses it"
    kernel.rename(tmp_path / "elsewhere")

    assert not workspace.use(kernel)
    assert not workspace.whole(kernel)


def test_a_run_that_is_under_way_stays(tmp_path: Path) -> None:
    run = entry(tmp_path, "runs/1", 90_000)
    workspace.hold(run, "run")

    assert collect.bound(tmp_path, 0, keep=NONE).gone == []


def test_processes_that_collect_at_once_remove_each_entry_once(tmp_path: Path) -> None:
    for number in range(60):
        entry(tmp_path, f"images/{number}", 90_000)
    program = (
        "import sys\nfrom pathlib import Path\nfrom harness.host import collect\n"
        "print(len(collect.bound(Path(sys.argv[1]), 0).gone))"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    assert sum(int(one.communicate()[0]) for one in both) == 60
    assert list((tmp_path / "images").iterdir()) == []


def test_a_lock_that_was_taken_is_a_use(tmp_path: Path) -> None:
    """Of a work tree, nobody writes to the folder itself."""
    tree = entry(tmp_path, "trees/debian", 90_000)
    with workspace.lock(tmp_path / "locks" / "debian.lock"):
        pass

    assert collect.bound(tmp_path, 0).gone == []
    assert tree.exists()


def test_at_the_end_of_a_run_only_a_cache_near_its_limit_is_bounded(tmp_path: Path) -> None:
    old, new = entry(tmp_path, "images/1", 90_000), entry(tmp_path, "images/2", 80_000)

    assert collect.bound_soon(tmp_path, 0, lambda: NONE, 60) is None
    assert collect.bound_soon(tmp_path, 3 * MIB, lambda: NONE, 60) is None
    done = collect.bound_soon(tmp_path, 2 * MIB, lambda: NONE, 60)

    assert done is not None
    assert [one.path for one in done.gone] == [old]
    assert new.exists()
    # There is no time: nothing was measured, and nothing is removed.
    assert collect.bound_soon(tmp_path, 1, lambda: NONE, -1) is None


def test_sizes_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "images/1", 90_000)
    collect.bound_soon(tmp_path, 100 * MIB, lambda: NONE, 60)
    monkeypatch.setattr(collect, "_size", lambda *_: pytest.fail("measured again"))

    assert collect.bound_soon(tmp_path, 100 * MIB, lambda: NONE, 60) is None
    (tmp_path / "sizes").write_bytes(b"damaged")
    monkeypatch.setattr(collect, "_size", lambda *_: MIB)
    assert collect.bound_soon(tmp_path, 100 * MIB, lambda: NONE, 60) is None


@pytest.mark.parametrize(("given", "limit"), [("7", 7 << 30), ("0", 0)])
def test_the_limit_is_what_the_variable_says(
    given: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(collect.VARIABLE, given)

    assert collect.limit_bytes(tmp_path / "not" / "there") == limit


def test_the_limit_is_20_gib_or_a_quarter_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(collect.VARIABLE, raising=False)

    for gib, limit in ((40, 20), (400, 100)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, gib=gib: SimpleNamespace(total=gib << 30))
        assert collect.limit_bytes(tmp_path) == limit << 30


@pytest.mark.parametrize("given", ["-1", "1.5", "many", "\u0663", "1" * 7])
def test_a_limit_that_is_none_is_told(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(collect.VARIABLE, given)

    with pytest.raises(UsageError, match="is not a whole number"):
        collect.limit_bytes(tmp_path)
    (line,) = keeping.tidy(tmp_path)
    assert "the verdict stands" in line


def test_gc_lists_and_removes_and_loses_no_run(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes lives on in the history."""
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    monkeypatch.setenv(collect.VARIABLE, "1")
    run = a_run(cache / "runs" / "20260101-000000")
    (run / "large").write_bytes(b"x")
    os.truncate(run / "large", 2 << 30)
    monkeypatch.setattr(collect, "_size", lambda path, *_: 2 << 30 if path.parent.name == "runs" else 0)
    used = time.time() - 90 * DAY
    os.utime(run, (used, used))

    assert main(["gc"]) == 0
    said = capsys.readouterr().out
    assert "freed 0 MiB, 2048 MiB left (limit 1 GiB)" in said
    assert "--keep-runs and --keep-days keep fewer" in said
    assert main(["gc", "--keep-runs", "0", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"    2048 MiB  \d{{4}}-\d\d-\d\d  {run}\nwould free 2048 MiB, 0 MiB left", said)
    assert main(["gc", "--keep-runs", "0"]) == 0
    assert not run.exists()
    with Store(cache) as held:
        assert [one.folder for one in held.entries()] == [str(run)]


def test_gc_without_a_history_keeps_the_runs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    monkeypatch.setattr(collect, "_size", lambda *_: 2 << 30)
    run = a_run(cache / "runs" / "20260101-000000")
    image = entry(cache, "images/1", 9000)
    used = time.time() - 90 * DAY
    os.utime(run, (used, used))
    store.place(cache).mkdir(parents=True)

    assert main(["gc", "--keep-runs", "0", "--keep-gib", "1"]) == 0
    assert run.exists()
    assert not image.exists()


def test_what_was_used_just_now_stays(tmp_path: Path) -> None:
    """It may belong to a run that is under way."""
    fresh = entry(tmp_path, "runs/fresh", 10)

    collect.bound(tmp_path, 0, keep=NONE)

    assert fresh.exists()


def test_what_is_locked_stays(tmp_path: Path) -> None:
    """A build is under way in it."""
    tree = entry(tmp_path, "trees/debian-6.12", 90_000)
    with workspace.lock(tmp_path / "locks" / "debian-6.12.lock"):
        collect.bound(tmp_path, 0, fresh_s=-1)
        assert tree.exists()

    collect.bound(tmp_path, 0, fresh_s=-1)

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

    assert collect.bound(tmp_path, -1) == Collected([], 0)
    assert (tmp_path / ".new.x7" / "content").exists()


def test_a_run_that_ends_near_the_limit_says_what_it_freed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that the history does not have stays; without a limit, nothing is looked at."""
    monkeypatch.setattr(collect, "_size", lambda *_: 1 << 30)
    run, image = a_run(cache / "runs" / "20260101-000000"), entry(cache, "images/1", 90_000)
    used = time.time() - 90 * DAY
    os.utime(run, (used, used))
    monkeypatch.setenv(collect.VARIABLE, "0")
    assert list(keeping.tidy(cache)) == []
    monkeypatch.setenv(collect.VARIABLE, "1")
    monkeypatch.setattr(collect, "Keep", functools.partial(Keep, runs=0, days=0))

    (line,) = keeping.tidy(cache)

    assert line.startswith("cache        near its limit: freed 1024 MiB, 1024 MiB left; ")
    assert (run.exists(), image.exists()) == (True, False)
    with keeping.opened(cache):
        pass
    assert len(list(keeping.tidy(cache))) == 1
    assert not run.exists()


def test_a_large_entry_takes_no_more_time_than_there_is(tmp_path: Path) -> None:
    """It counts for what it was known to take; harness gc measures it whole."""
    tree = entry(tmp_path, "trees/large", 90_000)

    assert collect._size(tree, time.monotonic() - 1) == 0
    collect.bound(tmp_path, 100 * MIB)
    (tmp_path / "trees" / "large" / "new").touch()
    assert collect._measured(tmp_path, time.monotonic() - 1) == {tree: MIB}
