# SPDX-License-Identifier: GPL-2.0-only
"""`python -m setup.soak SECONDS`: two harnesses run again and again on one cache, and nothing may grow.

Each round is `harness run` twice at the same time. One in ten is killed (kill -9) in the middle; all others must
pass. After the first rounds, no process, descriptor, temporary file, socket, mount or entry of the cache may be more
than before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from harness.host.workspace import cache_dir

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ("memcg-accept", "memcg-eagain")
# What every harness leaves in the cache by design, once for each run.
_BY_RUN = ("runs", "faults", "logs")
# The rounds in which caches are filled.
_WARM_UP = 2
_KILLED_EACH = 10
_KILLED_AFTER_S = 4.0
_GONE_LIMIT_S = 30.0


@dataclass(frozen=True)
class Left:
    """What there is between two rounds. descriptors: open files of this process; entries: of the cache."""

    processes: int
    descriptors: int
    temporary: int
    sockets: int
    mounts: int
    entries: int


def left(cache: Path, scratch: Path) -> Left:
    """Count it. The processes are those that have our TMPDIR."""
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    return Left(
        processes=len(list(_processes(scratch))),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        temporary=len(list(scratch.iterdir())),
        sockets=sockets.count(str(scratch)),
        mounts=len(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()),
        entries=sum(
            1 for kind in cache.iterdir() if kind.name not in _BY_RUN and kind.is_dir() for _ in kind.iterdir()
        ),
    )


def _processes(scratch: Path) -> Iterator[Path]:
    mark = f"TMPDIR={scratch}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield folder


def pair(number: int, scratch: Path, runs: Path) -> list[tuple[int, str, bool]]:
    """Two runs at the same time: status, what was said, and whether we killed it, for each."""
    env = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    children = []
    for side in range(2):
        out = runs / f"{number}-{side}"
        words = ["run", "--jobs", "1", "--out", str(out), SCENARIOS[(number + side) % len(SCENARIOS)]]
        argv = [sys.executable, "-m", "harness.cli", *words]
        children.append(subprocess.Popen(argv, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True))
    killed = number % (_KILLED_EACH // 2) == _KILLED_EACH // 2 - 1
    if killed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The moment moves through the phases of a run.
            children[0].wait(timeout=_KILLED_AFTER_S * (1 + number % 7) / 7)
        with contextlib.suppress(ProcessLookupError):
            children[0].send_signal(signal.SIGKILL)
    said = [child.communicate()[1] for child in children]
    ended = [(child.returncode, text, child.returncode == -9) for child, text in zip(children, said, strict=True)]
    for side in range(2):
        if ended[side][0] in (0, -9):
            shutil.rmtree(runs / f"{number}-{side}", ignore_errors=True)
    return ended


def settled(cache: Path, scratch: Path) -> Left:
    """What is left, once the children of a killed harness have had time to go."""
    deadline = time.monotonic() + _GONE_LIMIT_S
    while (now := left(cache, scratch)).processes and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def main(words: list[str]) -> int:
    """Run pairs until the time is up; 0 when all passed and nothing grew, else 1."""
    parser = argparse.ArgumentParser(prog="python -m setup.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args(words)
    cache, began = cache_dir(), time.monotonic()
    counts = {"runs": 0, "killed": 0, "wrong": 0}
    number = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        scratch, runs = Path(name, "tmp"), Path(name, "runs")
        scratch.mkdir()
        base = now = left(cache, scratch)
        while time.monotonic() - began < asked.seconds or number <= _WARM_UP:
            for status, text, killed in pair(number, scratch, runs):
                counts["runs"] += 1
                counts["killed"] += killed
                if status and not killed:
                    counts["wrong"] += 1
                    print(f"soak: round {number}: status {status}\n{text}", flush=True)
            number += 1
            now = settled(cache, scratch)
            if number == _WARM_UP:
                base = now
            print(f"soak: {json.dumps({'round': number, **counts, **asdict(now)})}", flush=True)
        grown = [
            f"{field.name} {getattr(base, field.name)} → {getattr(now, field.name)}"
            for field in fields(Left)
            if getattr(now, field.name) > getattr(base, field.name)
        ]
    said = ", ".join(grown) or "nothing grew"
    spent = time.monotonic() - began
    print(f"soak: {counts['runs']} runs ({counts['killed']} killed) in {spent:.0f} s: {counts['wrong']} wrong; {said}")
    return int(bool(grown) or counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
