# SPDX-License-Identifier: GPL-2.0-only
"""What a process costs: time, memory, bytes written."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import process
from harness.model.errors import LaunchError

_MIB = 1 << 20

# Starts a command, waits, and writes what it and its children used. A separate, small process: Linux counts the memory
# of the parent at the fork as a child's peak, and after some figures this process has hundreds of MiB.
_LAUNCHER = """
import json, os, sys, time
began = time.monotonic()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
spent_s = time.monotonic() - began
with open(sys.argv[1], "w") as report:
    json.dump([spent_s, used.ru_utime + used.ru_stime, used.ru_maxrss, used.ru_oublock], report)
sys.exit(max(os.waitstatus_to_exitcode(status), -1) % 256)
"""


@dataclass(frozen=True)
class Cost:
    """What a command and all processes that it waited for took, and its output.

    peak_rss_mib: of the largest single process. written_mib: pages that were
    dirtied on behalf of a disk (ru_oublock).
    """

    status: int
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    peak_rss_mib: float
    written_mib: float

    def quantities(self, prefix: str) -> dict[str, float]:
        """As quantities of a figure."""
        return {
            f"{prefix}_s": self.wall_s,
            f"{prefix}_cpu_s": self.cpu_s,
            f"{prefix}_peak_rss_mib": self.peak_rss_mib,
            f"{prefix}_written_mib": self.written_mib,
        }


def metered(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Cost:
    """Run a command to its end, whatever its status. Raises LaunchError when the command does not end in time."""
    with tempfile.NamedTemporaryFile(prefix="cost.") as report:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, report.name, *argv]
        done = process.run(launcher, timeout_s=timeout_s, cwd=cwd, env=env)
        try:
            wall_s, cpu_s, peak_kib, blocks = json.load(report)
        except ValueError:
            raise LaunchError(f"{argv[0]}: could not be started: {done.stderr.strip()[-200:]}") from None
    return Cost(done.status, done.stdout, done.stderr, wall_s, cpu_s, peak_kib / 1024, blocks * 512 / _MIB)


def pss_mib(pid: int) -> float:
    """A process's share of the memory that it uses: shared pages count in part."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024


def rss_mib(pid: int, peak: bool = False) -> float:
    """The memory that a process has now, or its peak."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:" if peak else "VmRSS:") / 1024


def disk_mib(path: Path) -> float:
    """What a file or a folder occupies on disk; a file with several links counts once."""
    seen: dict[tuple[int, int], int] = {}
    for found in [path, *path.rglob("*")]:
        status = found.lstat()
        seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values()) / _MIB


def children(pid: int) -> list[int]:
    """Every descendant of a process, at any depth."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = entry.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(words[1]), []).append(int(entry.parent.name))
    found = []
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _field(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LaunchError(f"{path}: has no {name}")
