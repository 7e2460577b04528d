# SPDX-License-Identifier: GPL-2.0-only
"""One line changed in mm/rmap.c, new to every cache → verdict of the default set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench, passed, phases
from benchmarks.figure import AtMost, Row, Side
from benchmarks.tree import RMAP, Tree
from harness.model.errors import MachineError
from harness.variants import catalogue

ROWS = (Row("one line changed in mm/rmap.c → verdict of the default set", "run_s", AtMost(30)),)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """A developer's directory that was built before."""
    names = [scenario.name for scenario in catalogue.choose([])]
    tree = Tree.copied(bench.cache, bench.progress)
    bench.progress.say("building the developer's tree as it is")
    bench.harness("build", "--source", str(tree.path))

    def side() -> Mapping[str, float]:
        tree.add_line(RMAP, f"const unsigned long harness_benchmark = {time.time_ns()}UL;")
        done = bench.run("--source", str(tree.path))
        passed(done.verdict, names)
        if done.verdict["kernel"]["cached"]:
            raise MachineError("the kernel was not built, though a line changed")
        return {**done.cost.quantities("run"), **phases(done.verdict)}

    try:
        yield [side]
    finally:
        tree.restore(RMAP)
