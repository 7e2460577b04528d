# SPDX-License-Identifier: GPL-2.0-only
"""The means to measure a figure: kernels, machines, the harness as a process, a scratch folder."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import meter
from benchmarks.meter import Cost
from benchmarks.virtme import Virtme
from harness.guest.lab import Lab
from harness.host import process, workspace
from harness.host.progress import Progress
from harness.model.errors import MachineError
from harness.model.shape import MachineShape
from harness.run.pipeline import KernelRequest
from harness.run.session import Session
from harness.variants import instruments

# The guest of every comparison: 512 MiB, two CPUs.
SHAPE = MachineShape()
# The kernel that virtme-ng and we both boot: the default, and what virtme-ng needs. From the top of the checkout,
# because an object tree is found again by the path as it was given.
VIRTME_CONFIG = "benchmarks/virtme.config"
# The default kernel, and what the microvm board needs.
MICROVM_CONFIG = "benchmarks/microvm.config"
_RUN_LIMIT_S = 3 * 3600


@dataclass(frozen=True)
class Run:
    """One `harness run` as a whole process: its cost, verdict.json, and the size of its run directory in MiB."""

    cost: Cost
    verdict: dict[str, Any]
    folder_mib: float


class Bench:
    """One call of `make bench`. cache: the harness's; scratch: a folder that is deleted afterwards."""

    def __init__(self, cache: Path, scratch: Path, accel: str, progress: Progress) -> None:
        self.cache = cache
        self.scratch = scratch
        self.accel = accel
        self.progress = progress
        self._labs: dict[tuple[str, ...], Lab] = {}
        self._numbers = itertools.count(1)

    @cached_property
    def virtme(self) -> Virtme:
        """The peer, which is installed when it is missing."""
        return Virtme.installed(self.cache / "benchmarks", self.accel, self.progress)

    def lab(self, *configs: str) -> Lab:
        """Machines of the default kernel with some more fragments; the kernel is built when it is missing."""
        if configs not in self._labs:
            request = KernelRequest(configs=configs)
            session = Session(request, instruments.NOTIFIER_HOLD, self.accel, self.progress, self.folder())
            self._labs[configs] = session.lab
        return self._labs[configs]

    def folder(self) -> Path:
        """A fresh folder."""
        place = self.scratch / str(next(self._numbers))
        place.mkdir()
        return place

    def harness(self, *arguments: str, cache: Path | None = None) -> Cost:
        """A command of the harness as a whole process, from this checkout, on the harness's cache or another."""
        env = process.environment(HARNESS_CACHE=str(cache or self.cache))
        argv = [sys.executable, "-m", "harness.cli", *arguments]
        return meter.metered(argv, timeout_s=_RUN_LIMIT_S, cwd=workspace.ROOT, env=env)

    def run(self, *arguments: str, cache: Path | None = None, expected: int = 0) -> Run:
        """`harness run`, which must end as expected: a run that did not do its work is not measured."""
        folder = self.folder()
        cost = self.harness("run", "--json", "--out", str(folder), "--accel", self.accel, *arguments, cache=cache)
        if cost.status != expected:
            said = cost.stderr.strip().splitlines() or ["nothing"]
            raise MachineError(f"harness run {' '.join(arguments)}: status {cost.status}: {said[-1]}")
        return Run(cost, json.loads(cost.stdout), meter.disk_mib(folder))


def phases(verdict: dict[str, Any], prefix: str = "phase") -> dict[str, float]:
    """The seconds of each phase of a run, as quantities. The times of guests that ran side by side are added up."""
    return {f"{prefix}_{name}_s": seconds for name, seconds in verdict["seconds"].items()}


def passed(verdict: dict[str, Any], names: Sequence[str] = ()) -> None:
    """Raise MachineError unless a run judged something, including the named scenarios."""
    judged = {entry["name"] for entry in verdict["scenarios"] if entry["verdict"] == "pass"}
    missing = sorted(set(names) - judged)
    if not judged or missing:
        raise MachineError(f"this run judged {len(judged)} scenarios; missing: {', '.join(missing) or 'all'}")
