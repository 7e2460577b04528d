# SPDX-License-Identifier: GPL-2.0-only
"""Where a figure was measured: the machine, the versions, the commit, the date."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

from benchmarks import virtme
from benchmarks.bench import Bench
from harness.host import emulator, process, workspace
from harness.kernel import source, toolchain

# These files change with every measurement and are not part of what is measured.
_OWN = (":!benchmarks/RESULTS.md", ":!benchmarks/results.json")


def facts(bench: Bench) -> dict[str, str]:
    """What a reader must know to compare figures, by name."""
    memory = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    assert memory is not None
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{int(memory[1]) / (1 << 20):.0f} GiB",
        "accelerator": bench.accel,
        "QEMU": _version([*emulator.find().words, "--version"]),
        "Linux": source.fetch("debian:6.12", bench.cache, bench.progress).version,
        "host": platform.release(),
        "compiler": toolchain.find("gcc").identity.splitlines()[0],
        "virtme-ng": virtme.version(),
        "Python": platform.python_version(),
    }


def _commit() -> str:
    root = str(workspace.ROOT)
    head = process.run(["git", "-C", root, "rev-parse", "--short=12", "HEAD"], timeout_s=30)
    if head.status:
        return "none"
    changed = process.run(["git", "-C", root, "status", "--porcelain", "--", ".", *_OWN], timeout_s=60).stdout
    return head.stdout.strip() + (" and changes" if changed.strip() else "")


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _version(argv: list[str]) -> str:
    found = re.search(r"\d+(\.\d+)+", process.run(argv, timeout_s=30).stdout)
    return found[0] if found else "?"
