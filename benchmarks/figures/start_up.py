# SPDX-License-Identifier: GPL-2.0-only
"""`harness --help` and `harness list`, as whole processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.figure import AtMost, Row, Side
from harness.model.errors import MachineError

ROWS = (
    Row("harness --help", "help_s", AtMost(0.25)),
    Row("harness list scenarios", "list_s", AtMost(0.25)),
)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Each command must print something."""

    def side(name: str, *arguments: str) -> Mapping[str, float]:
        cost = bench.harness(*arguments)
        if cost.status or not cost.stdout:
            raise MachineError(f"harness {' '.join(arguments)}: status {cost.status}, {len(cost.stdout)} characters")
        return {f"{name}_s": cost.wall_s}

    yield [lambda: side("help", "--help"), lambda: side("list", "list", "scenarios")]
