# SPDX-License-Identifier: GPL-2.0-only
"""A fresh machine runs one command and returns its output and status: clone, plain boot, virtme-ng, same kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from benchmarks import meter
from benchmarks.bench import SHAPE, VIRTME_CONFIG, Bench
from benchmarks.figure import Faster, Row, Side
from harness.guest.machine import Machine
from harness.model.errors import MachineError

ROWS = (
    Row("fresh machine runs one command, clone against virtme-ng", "clone_s", Faster(25), "virtme_ng_s"),
    Row("the same, plain boot against virtme-ng", "boot_s", Faster(5), "virtme_ng_s"),
    Row("the same, clone against our own plain boot", "clone_s", None, "boot_s"),
    Row("the same, harness shell COMMAND as a whole process against virtme-ng", "command_s", None, "virtme_ng_s"),
)

_COMMAND = "uname -r; exit 7"
_STATUS = 7


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Every way to a fresh machine with the same vmlinux, memory and CPUs, each to its end."""
    lab = bench.lab(VIRTME_CONFIG)
    release = lab.kernel.release
    peer = bench.virtme
    # The snapshot is taken once for each kernel, just as the kernel is built once.
    with lab.machine(SHAPE, bench.folder()):
        pass
    if lab.refused:
        raise MachineError(f"machines are not cloned here: {lab.refused}")

    def ours(name: str, fresh: AbstractContextManager[Machine]) -> Mapping[str, float]:
        began = time.monotonic()
        with fresh as machine:
            done = machine.run("sh", "-c", _COMMAND)
            answered = time.monotonic()
            memory = {
                f"{name}_pss_mib": meter.pss_mib(machine.pid),
                f"{name}_peak_rss_mib": meter.rss_mib(machine.pid, peak=True),
            }
            looked_s = time.monotonic() - answered
        ended = time.monotonic()
        _check(name, done.text, done.status, release)
        return {f"{name}_s": ended - began - looked_s, f"{name}_answer_s": answered - began, **memory}

    def command() -> Mapping[str, float]:
        words = ("--config", VIRTME_CONFIG, "--accel", bench.accel, "sh", "-c", _COMMAND)
        cost = bench.harness("shell", *words)
        _check("harness shell", cost.stdout, cost.status, release)
        return cost.quantities("command")

    def virtme() -> Mapping[str, float]:
        cost, said = peer.run(lab.kernel.vmlinux, SHAPE, f"({_COMMAND}); echo $?", bench.folder())
        text, _, status = said.strip().rpartition("\n")
        _check("virtme-ng", text, int(status), release)
        return cost.quantities("virtme_ng")

    yield [
        lambda: ours("clone", lab.machine(SHAPE, bench.folder())),
        lambda: ours("boot", lab.boot(SHAPE, bench.folder())),
        command,
        virtme,
    ]


def _check(who: str, text: str, status: int, release: str) -> None:
    if (text.strip(), status) != (release, _STATUS):
        raise MachineError(f"{who} answered {text.strip()!r}, status {status}, not {release!r}, status {_STATUS}")
