# SPDX-License-Identifier: GPL-2.0-only
"""Reading a console on which report follows report, as whole processes: fast, linear, in flat memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import meter
from benchmarks.bench import Bench
from benchmarks.figure import AtMost, AtMostTimes, Row, Side
from harness.host import process, workspace
from harness.model.errors import MachineError

_FEW_MB, _MANY_MB = 5, 20

ROWS = (
    Row("harness console, back-to-back oopses: 20 MB, against a bare loop over their lines in Python", "oops_s",
        AtMostTimes(12), "loop_s"),
    Row("the same, WARNs", "warn_s", AtMostTimes(12), "loop_s"),
    Row("the same, lockdep reports", "lockdep_s", AtMostTimes(12), "loop_s"),
    Row("the same, linear: a MB of 20 MB of oopses against one of 5 MB", "oops_mb_ms", AtMostTimes(1.2), "few_mb_ms"),
    Row("the same, flat memory: peak RSS for 20 MB against 5 MB", "oops_peak_rss_mib", AtMostTimes(1.1),
        "few_peak_rss_mib"),
    Row("the same, 20 MB without a report", "quiet_s", AtMost(1)),
)  # fmt: skip

_LOOP = "import sys; print(sum(b'BUG: ' in line for line in open(sys.argv[1], 'rb')))"

_STACK = """Call Trace:
 <TASK>
 nh_collect+0x1c/0x60 [notifier_hold]
 nh_ioctl+0x2f4/0x4c0 [notifier_hold]
 __x64_sys_ioctl+0x91/0xd0
 do_syscall_64+0x5e/0x90
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
 </TASK>
"""
_CPU = "CPU: 0 UID: 0 PID: 44 Comm: drive Tainted: G           O       6.12.117 #1\n"
_END = "---[ end trace 0000000000000000 ]---\n"
# Each begins as the kernel has it; {n} differs from report to report, as a stack pointer does.
REPORTS = {
    "oops": (
        "BUG: kernel NULL pointer dereference, address: 0000000000000018\n#PF: supervisor read access in kernel mode\n"
        f"Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI\n{_CPU}RIP: 0010:nh_collect+0x1c/0x60 [notifier_hold]\n"
        "RSP: 0018:ffffc900{n:08x} EFLAGS: 00010246\n" + _STACK + _END
    ),
    "warn": (
        "------------[ cut here ]------------\nWARNING: CPU: 1 PID: 9 at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10\n"
        f"{_CPU}RIP: 0010:try_to_unmap_one+0x5/0x10\nRSP: 0018:ffffc900{{n:08x}} EFLAGS: 00010246\n" + _STACK + _END
    ),
    "lockdep": (
        "============================================\nWARNING: possible circular locking dependency detected\n"
        "drive/44 is trying to acquire lock:\nffff8880{n:08x} (&nh->lock){{+.+.}}-{{3:3}}, at: nh_start+0x1c/0x60\n"
        "\nbut task is already holding lock:\nffff8880{n:08x} (fs_reclaim){{+.+.}}-{{0:0}}, at: __alloc_pages+0x1/0x2\n"
        "\nthe existing dependency chain (in reverse order) is:\n-> #1 (fs_reclaim){{+.+.}}-{{0:0}}:\n"
        "       fs_reclaim_acquire+0x9f/0xd0\n\nstack backtrace:\n" + _CPU + _STACK
    ),
    "quiet": "nh: all is well with subscriber {n}\n",
}


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Logs of each kind of report; each must be read to its last report."""
    folder = bench.folder()
    logs = {name: _log(folder / f"{name}.log", text, _MANY_MB) for name, text in REPORTS.items()}
    few = _log(folder / "few.log", REPORTS["oops"], _FEW_MB)

    def side(name: str, log: Path, size_mb: int) -> Mapping[str, float]:
        cost = bench.harness("console", str(log))
        reports = len(cost.stdout.splitlines())
        wanted = 0 if name == "quiet" else log.read_bytes().count(b"<TASK>")
        if reports != wanted:
            raise MachineError(f"{log.name}: {reports} reports, {wanted} were written: {cost.stderr.strip()[-300:]}")
        return {**cost.quantities(name), f"{name}_mb_ms": cost.wall_s / size_mb * 1000}

    def loop() -> Mapping[str, float]:
        argv = [sys.executable, "-c", _LOOP, str(logs["oops"])]
        return meter.metered(argv, timeout_s=60, cwd=workspace.ROOT, env=process.environment()).quantities("loop")

    yield [
        loop,
        *(lambda name=name, log=log: side(name, log, _MANY_MB) for name, log in logs.items()),
        lambda: side("few", few, _FEW_MB),
    ]


def _log(path: Path, text: str, size_mb: int) -> Path:
    """A log of so many megabytes of a report, each with its own time and addresses."""
    with path.open("w", encoding="ascii") as log:
        number = 0
        while log.tell() < size_mb * 1_000_000:
            number += 1
            stamp = f"[{number // 1000:5}.{number % 1000:03}000][   T44] "
            log.writelines(stamp + line for line in text.format(n=number * 16).splitlines(keepends=True))
    return path
