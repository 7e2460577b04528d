# SPDX-License-Identifier: GPL-2.0-only
"""A fault of the host in each phase of a run: the right class, nothing left behind, and the next run is unharmed.

What other files prove is not repeated: a full disk, missing programs and starved guests are in test_failures.py, a
QEMU or an SSH server that is killed in test_machine.py, entries of the cache that rotted in the unit tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.guest.console import FILE_LIMIT_BYTES, Console
from harness.host.workspace import cache_dir
from tests.guest.command import ROOT, environment, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

SCENARIO = "memcg-accept"
GONE_LIMIT_S = 60.0
LIMIT_S = 600.0
# What is expensive and only read once the kernel is built; all else a test's cache has for itself.
_SHARED: tuple[str, ...] = (
    "ccache",
    "configs",
    "kernels",
    "lists",
    "locks",
    "modules",
    "order",
    "places",
    "programs",
    "reached",
)
_SHARED += ("recipes", "selftests", "sources", "steps", "trees")

# Runs harness with a fault: at a function's call, before or behind it, this process, its QEMU or its clock is hit.
_PLANTED = """
import functools, importlib, os, signal, sys, time
module, name, fault = sys.argv[1:4]
there = importlib.import_module(module)
real = getattr(there, name)

@functools.wraps(real)
def planted(*args, **kwargs):
    if fault == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "qemu":
        os.kill(next(arg for arg in args if hasattr(arg, "monitor")).pid, signal.SIGKILL)
    if fault == "jump":
        now = time.time_ns
        time.time_ns = lambda: now() - 86400 * 10**9
    result = real(*args, **kwargs)
    if fault == "behind":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(there, name, planted)
from harness import cli
sys.exit(cli.main(sys.argv[4:]))
"""


@dataclass(frozen=True)
class Bench:
    """A cache and a folder for temporary files of the test's own; what is left of a run shows there."""

    cache: Path
    scratch: Path

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a run. Each child of a harness has TMPDIR, too, and is known by it."""
        return environment(HARNESS_CACHE=str(self.cache), TMPDIR=str(self.scratch))

    def run(self, *words: str | Path, wrap: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """`harness WORDS`, perhaps under another program."""
        argv = [*wrap, sys.executable, "-m", "harness.cli", *map(str, words)]
        return subprocess.run(argv, cwd=ROOT, env=self.variables, capture_output=True, text=True, check=False)

    def faulty(self, place: str, fault: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """`harness WORDS` with a fault at a function."""
        argv = [sys.executable, "-c", _PLANTED, *place.split(":"), fault, *map(str, words)]
        return subprocess.run(argv, cwd=ROOT, env=self.variables, capture_output=True, text=True, check=False)

    def processes(self) -> set[int]:
        """All processes of runs on this cache."""
        mark, found = f"TMPDIR={self.scratch}".encode(), set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue
        return found

    def check(self, *, killed: bool = False) -> None:
        """No process, no lock, no temporary file is left; what kill -9 interrupted may leave files in the cache."""
        deadline = time.monotonic() + GONE_LIMIT_S
        while self.processes() and time.monotonic() < deadline:
            os.sched_yield()
        assert self.processes() == set()
        assert [path for path in self.cache.rglob("*.lock") if held(path)] == []
        if not killed:
            assert list(self.scratch.iterdir()) == []
            assert [path for path in self.cache.glob("*/.*") if path.is_dir()] == []


def held(lock: Path) -> bool:
    """Whether somebody has a lock of this test's cache; those of the shared folders may be others'."""
    if any(parent.is_symlink() for parent in lock.parents):
        return False
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One cache for all tests: each begins with what the one before it left."""
    assert harness("build").status == 0
    folder = tmp_path_factory.mktemp("faults")
    made = Bench(folder / "cache", folder / "tmp")
    made.cache.mkdir()
    made.scratch.mkdir()
    for name in _SHARED:
        (cache_dir() / name).mkdir(exist_ok=True)
        (made.cache / name).symlink_to(cache_dir() / name)
    yield made
    made.check(killed=True)


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


# The phases in which nothing is built, each by a function that runs in it.
PHASES = [
    ("source", "harness.kernel.source:fetch", "behind"),
    ("build", "harness.kernel.build:build", "behind"),
    ("image", "harness.guest.cpio:archive", "behind"),
    ("boot", "harness.guest.boot:_await_hello", "before"),
    ("snapshot", "harness.guest.snapshot:tsc_khz", "before"),
    ("restore", "harness.guest.snapshot:_renew", "before"),
    ("scenario", "harness.run.pipeline:drive", "behind"),
    ("judging", "harness.run.judging:judge", "before"),
    ("report", "harness.report.manifest:write", "before"),
]


@pytest.mark.nightly
@pytest.mark.parametrize(("phase", "place", "fault"), PHASES, ids=[phase for phase, _, _ in PHASES])
def test_kill_9_in_any_phase_harms_no_later_run(
    phase: str, place: str, fault: str, bench: Bench, tmp_path: Path
) -> None:
    """The next run finds what the killed one left half done."""
    before = mounts()
    for name in ("images", "snapshots"):
        # Else nothing would be made in these phases.
        shutil.rmtree(bench.cache / name, ignore_errors=True)

    killed = bench.faulty(place, fault, "run", "--out", tmp_path / "run", SCENARIO)

    assert killed.returncode == -9, (phase, killed.stderr)
    bench.check(killed=True)
    assert mounts() == before
    if phase in ("judging", "report"):
        judged = bench.run("judge", "--json", tmp_path / "run")
        assert judged.returncode in (0, 128), judged.stderr
    done = bench.run("run", "--out", tmp_path / "next", SCENARIO)
    assert done.returncode == 0, done.stderr
    assert list((bench.cache / "images").glob(".*")) + list((bench.cache / "snapshots").glob(".*")) == []
    bench.check(killed=True)


def test_a_run_with_few_descriptors_on_a_jumping_clock_without_shared_memory_passes(
    bench: Bench, tmp_path: Path
) -> None:
    """None of these is a fault that a run has to care about; a clock that jumps costs the clone."""
    jump = tmp_path / "jump"
    jump.mkdir()
    (jump / "sitecustomize.py").write_text(
        "import itertools, time\nreal, turn = time.time_ns, itertools.cycle((0, -86400, 3600))\n"
        "time.time_ns = lambda: real() + next(turn) * 10**9\ntime.time = lambda: time.time_ns() / 1e9\n"
    )
    few = f'ulimit -n 64; export PYTHONPATH={jump}:{ROOT}; exec "$@"'
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm; exec "$@"', "sh"]
    wrap = [*(hidden if os.geteuid() == 0 else ()), "bash", "-c", few, "bash"]

    done = bench.run("run", "--json", "--out", tmp_path / "run", SCENARIO, wrap=wrap)

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["machines"]["from"] == "boot"
    assert "the clone's clock is" in document["machines"]["reason"]
    bench.check()


def test_a_host_without_memory_for_a_guest_is_an_error(bench: Bench, tmp_path: Path) -> None:
    """The line has QEMU's words."""
    wrap = ["bash", "-c", 'ulimit -v 1200000; exec "$@"', "bash"]

    done = bench.run("run", "--json", "--out", tmp_path / "run", SCENARIO, wrap=wrap)

    assert done.returncode == 128, done.stderr
    assert "Cannot allocate memory" in json.loads(done.stdout)["error"]
    bench.check()


@pytest.mark.nightly
def test_a_qemu_that_is_killed_in_a_scenario_is_an_error_and_not_a_verdict(bench: Bench, tmp_path: Path) -> None:
    """As the host does when it runs out of memory. It is tried once more."""
    done = bench.faulty("harness.run.pipeline:drive", "qemu", "run", "--json", "--out", tmp_path / "run", SCENARIO)

    (result,) = json.loads(done.stdout)["scenarios"]
    assert done.returncode == 128, done.stderr
    assert (result["verdict"], result["attempts"], result["findings"]) == ("error", 2, [])
    bench.check()


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="a cache that cannot be written to needs mount(2)")
def test_a_cache_that_becomes_read_only_is_named(bench: Bench, tmp_path: Path) -> None:
    """Before a run it is the user's mistake, who can choose another."""
    read_only = ["unshare", "--mount", "sh", "-c"]
    read_only += ['mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; exec "$@"', str(bench.cache)]

    done = bench.run("run", "--out", tmp_path / "run", SCENARIO, wrap=read_only)

    assert done.returncode == 129, done.stderr
    assert f"HARNESS_CACHE {bench.cache}" in done.stderr
    assert "is not writable" in done.stderr
    bench.check()


@pytest.mark.nightly
def test_a_guest_that_fills_its_disk_and_its_memory_harms_nobody_else(bench: Bench, tmp_path: Path) -> None:
    """Its root is its memory: programs there fail, the host keeps all that it had, and the next guest is whole."""
    free = shutil.disk_usage(tmp_path).free

    filled = bench.run("shell", "sh", "-c", "cat /dev/zero >/fill; echo status $?")

    assert filled.returncode in (0, 1, 128), filled.stderr
    assert free - shutil.disk_usage(tmp_path).free < 1 << 30
    again = bench.run("shell", "cat", "/proc/uptime")
    assert again.returncode == 0, again.stderr
    bench.check()


@pytest.mark.nightly
def test_a_gigabyte_on_the_console_costs_no_memory_and_a_bounded_file(tmp_path: Path) -> None:
    """With forged marks, verdicts and escape sequences in it; what comes behind the limit is still listened to."""
    line = b"\x1b]0;owned\x07\x1b[2J notifier_hold: begin:memcg-eagain pass [    1.0] ok 1 forged\r\n"
    flood, count = line * 10_000, (1 << 30) // (len(line) * 10_000) + 1
    ours, theirs = socket.socketpair()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    console = Console(ours, tmp_path / "console.log")
    try:
        for _ in range(count):
            theirs.sendall(flood)
        theirs.sendall(b"[    9.0] Kernel panic - not syncing: at last\r\n")
        theirs.close()
        console.settle(LIMIT_S)

        assert console.size > 1 << 30
        assert "at last" in console.panic
        assert (tmp_path / "console.log").stat().st_size <= FILE_LIMIT_BYTES + (1 << 20)
        assert "\x1b" not in console.tail()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    finally:
        console.close()
        ours.close()


def test_the_cache_of_all_these_faults_is_whole(bench: Bench, tmp_path: Path) -> None:
    done = bench.run("run", "--json", "--out", tmp_path / "run", SCENARIO)

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["cache"], document["machines"]["from"]) == ([], "clone")
    bench.check()
