# SPDX-License-Identifier: GPL-2.0-only
"""100 clones one after another: no growth in processes, descriptors, files, memory."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import meter
from benchmarks.bench import SHAPE, Bench
from benchmarks.figure import AtMost, Row, Side
from harness.model.errors import MachineError

_CLONES = 100
# The first clones import modules and fill caches.
_WARM_UP = 10

ROWS = (
    Row("100 clones one after another: more processes", "process_growth", AtMost(0)),
    Row("100 clones: more threads", "thread_growth", AtMost(0)),
    Row("100 clones: more descriptors", "descriptor_growth", AtMost(0)),
    Row("100 clones: more files", "file_growth", AtMost(0)),
    # CPython does not return its heap to the byte; a leaked machine holds more than this.
    Row("100 clones: more memory", "memory_growth_mib", AtMost(1)),
    Row("100 clones: all of them", "clones_s"),
)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """The contents of this process and of the cache, before and after."""
    lab = bench.lab()

    def one() -> None:
        folder = bench.folder()
        with lab.machine(SHAPE, folder) as machine:
            if machine.run("true").status or not machine.cloned:
                raise MachineError(f"machines are not cloned here: {lab.refused}")
        shutil.rmtree(folder)

    def side() -> Mapping[str, float]:
        before = _held(bench)
        began = time.monotonic()
        for _ in range(_CLONES):
            one()
        spent_s = time.monotonic() - began
        after = _held(bench)
        return {"clones_s": spent_s, **{name: after[name] - before[name] for name in before}}

    for _ in range(_WARM_UP):
        one()
    yield [side]


def _held(bench: Bench) -> Mapping[str, float]:
    gc.collect()
    own = os.getpid()
    places = [bench.scratch, bench.cache / "snapshots", bench.cache / "tmp", Path("/dev/shm")]  # noqa: S108 - looked at
    return {
        "process_growth": len(meter.children(own)),
        "thread_growth": sum(1 for _ in Path("/proc/self/task").iterdir()),
        "descriptor_growth": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "file_growth": sum(1 for place in places if place.exists() for _ in place.rglob("*")),
        "memory_growth_mib": meter.rss_mib(own),
    }
