# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that hang, die, or have a wrong line in mm/rmap.c: how long a verdict and the first finding take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench, passed
from benchmarks.figure import AtMost, AtMostTimes, Row, Side
from benchmarks.tree import RMAP, Tree
from harness.host import workspace
from harness.model.errors import MachineError
from harness.variants import catalogue

ROWS = (
    Row("a kernel that waits for ever after −EAGAIN → verdict of the default set, against a good one", "waits_s",
        AtMostTimes(3), "good_s"),
    Row("a kernel that dies there → the same", "dies_s", AtMostTimes(3), "good_s"),
    Row("a kernel that waits for ever → first finding, harness run -x", "waits_first_s", AtMost(45)),
    Row("a wrong line in mm/rmap.c, new to every cache → first finding, harness run -x", "line_first_s", AtMost(8)),
)  # fmt: skip

_WRONG = workspace.ROOT / "benchmarks" / "wrong"
_LINE = workspace.data("mutants") / "unmarked.patch"


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """The kernels are built before."""
    names = [scenario.name for scenario in catalogue.choose([])]
    own = ("--patch", "mayfail", "--no-patch-coverage")
    patched = {name: (*own, "--patch", str(_WRONG / f"{name}.patch")) for name in ("waits", "dies")}
    tree = Tree.copied(bench.cache, bench.progress)
    line = ("--source", str(tree.path), "--patch", "mayfail", "--patch", str(_LINE), "--no-patch-coverage")
    for arguments in (*patched.values(), line):
        bench.harness("build", *(word for word in arguments if word != "--no-patch-coverage"))

    def good() -> Mapping[str, float]:
        done = bench.run()
        passed(done.verdict, names)
        return {"good_s": done.cost.wall_s}

    def wrong(name: str) -> Mapping[str, float]:
        whole = bench.run(*patched[name], expected=1)
        if (number := len(whole.verdict["causes"])) != 1:
            raise MachineError(f"{name}: {number} causes were told")
        first = bench.run("-x", *patched[name], expected=1)
        return {f"{name}_s": whole.cost.wall_s, f"{name}_first_s": first.cost.wall_s}

    def new_line() -> Mapping[str, float]:
        tree.add_line(RMAP, f"const unsigned long harness_benchmark = {time.time_ns()}UL;")
        done = bench.run("-x", *line, expected=1)
        if done.verdict["kernel"]["cached"]:
            raise MachineError("the kernel was not built, though a line changed")
        return {"line_first_s": done.cost.wall_s, "line_first_build_s": done.verdict["seconds"]["build"]}

    try:
        yield [good, lambda: wrong("waits"), lambda: wrong("dies"), new_line]
    finally:
        tree.restore(RMAP)
