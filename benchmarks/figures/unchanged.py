# SPDX-License-Identifier: GPL-2.0-only
"""Nothing changed → verdict of the default set, judged again from fresh machines; and the seconds of each phase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench, passed, phases
from benchmarks.figure import AtMost, Row, Side
from harness.model.errors import MachineError
from harness.variants import catalogue

ROWS = (Row("nothing changed → verdict of the default set, from fresh machines", "run_s", AtMost(15)),)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """`harness run` of a kernel that is in the store."""
    names = [scenario.name for scenario in catalogue.choose([])]
    bench.lab()

    def side() -> Mapping[str, float]:
        done = bench.run()
        passed(done.verdict, names)
        if not done.verdict["kernel"]["cached"]:
            raise MachineError("the kernel was built, though nothing changed")
        return {**done.cost.quantities("run"), **phases(done.verdict), "run_folder_mib": done.folder_mib}

    yield [side]
