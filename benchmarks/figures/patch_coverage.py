# SPDX-License-Identifier: GPL-2.0-only
"""Probes on the lines that a patch changes: what they cost a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench, passed
from benchmarks.figure import AtMostTimes, Row, Side
from harness.host import workspace
from harness.model.errors import MachineError
from harness.variants import catalogue

ROWS = (
    Row("the default set on a patch of one's own with probes on its lines, against one without", "watched_s",
        AtMostTimes(1.1), "unwatched_s"),
)  # fmt: skip

# A right kernel: the patch takes nothing away.
_PATCH = workspace.data("mutants") / "equivalent" / "helper.patch"


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """The kernel, and the places of its lines, are known before."""
    names = [scenario.name for scenario in catalogue.choose([])]
    own = ("--patch", "mayfail", "--patch", str(_PATCH))
    bench.run(*own, names[0])

    def side(name: str, *more: str) -> Mapping[str, float]:
        done = bench.run(*own, *more)
        passed(done.verdict, names)
        lines = done.verdict["patch_coverage"]
        if bool(lines and lines["ran"]) != (not more):
            raise MachineError(f"{name}: {lines}")
        return {f"{name}_s": done.cost.wall_s}

    yield [lambda: side("watched"), lambda: side("unwatched", "--no-patch-coverage")]
