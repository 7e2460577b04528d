# SPDX-License-Identifier: GPL-2.0-only
"""One line changed in include/linux/mmu_notifier.h, the variant seen before → verdict of the default set.

A variant that was seen as a whole is in the store and costs no call of make.
The target is for a harder case: the header was seen, and a line of
mm/rmap.c never was, so that everything that includes the header comes from
ccache and the kernel is linked anew.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench, passed, phases
from benchmarks.figure import AtMost, Row, Side
from benchmarks.tree import HEADER, RMAP, Tree
from harness.model.errors import MachineError
from harness.variants import catalogue

ROWS = (
    Row("one line changed in mmu_notifier.h → the same, the variant seen before", "run_s", AtMost(40)),
    Row("the same, the whole kernel seen before", "stored_s"),
)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """A developer's directory, built before with and without one more line in the header."""
    names = [scenario.name for scenario in catalogue.choose([])]
    tree = Tree.copied(bench.cache, bench.progress)
    added = itertools.cycle([True, False])

    def turn() -> None:
        if next(added):
            tree.add_line(HEADER, "#define HARNESS_BENCHMARK 1")
        else:
            tree.restore(HEADER)

    for _ in range(2):
        bench.progress.say("building a variant of mmu_notifier.h; minutes when it is the first time")
        turn()
        bench.harness("build", "--source", str(tree.path))

    def side() -> Mapping[str, float]:
        turn()
        tree.add_line(RMAP, f"const unsigned long harness_benchmark = {time.time_ns()}UL;")
        done = bench.run("--source", str(tree.path))
        passed(done.verdict, names)
        if done.verdict["kernel"]["cached"]:
            raise MachineError("the kernel was not built, though a line changed")
        return {**done.cost.quantities("run"), **phases(done.verdict)}

    def stored() -> Mapping[str, float]:
        turn()
        tree.restore(RMAP)
        done = bench.run("--source", str(tree.path))
        passed(done.verdict, names)
        if not done.verdict["kernel"]["cached"]:
            raise MachineError("the kernel was built, though it had been seen before")
        return {"stored_s": done.cost.wall_s}

    try:
        yield [side, stored]
    finally:
        tree.restore(HEADER)
        tree.restore(RMAP)
