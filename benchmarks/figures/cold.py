# SPDX-License-Identifier: GPL-2.0-only
"""Cold: source package → first verdict, against `vng --build` of the same tree and one command in it.

Ours begins with an empty cache: it unpacks the package, patches, configures,
builds kernel, module and image, boots, runs a scenario, judges. virtme-ng
begins with the tree unpacked and an empty object folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks import meter
from benchmarks.bench import SHAPE, Bench, passed, phases
from benchmarks.figure import AtMost, Faster, Row, Side
from benchmarks.tree import Tree
from harness.model.errors import MachineError

ROWS = (
    Row("cold: source package → first verdict, against vng --build and one command", "cold_s", Faster(3.5), "virtme_s"),
    Row("cold: of it, building", "phase_build_s", AtMost(240), "virtme_build_s"),
)

_SCENARIO = "memcg-eagain"


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Each side starts from nothing in every round; about 4 and 11 minutes on two cores."""
    tree = Tree.copied(bench.cache, bench.progress)
    peer = bench.virtme

    def ours() -> Mapping[str, float]:
        cache = bench.folder()
        try:
            done = bench.run(_SCENARIO, cache=cache)
            passed(done.verdict, [_SCENARIO])
            return {
                **done.cost.quantities("cold"),
                **phases(done.verdict),
                "cold_cache_mib": meter.disk_mib(cache),
            }
        finally:
            shutil.rmtree(cache)

    def virtme() -> Mapping[str, float]:
        objects = bench.folder()
        try:
            build = peer.build(tree.path, objects)
            run, said = peer.run(objects, SHAPE, "uname -r", bench.folder())
            if "virtme" not in said:
                raise MachineError(f"virtme-ng's own kernel said {said.strip()!r}")
            return {
                "virtme_s": build.wall_s + run.wall_s,
                "virtme_build_s": build.wall_s,
                "virtme_cpu_s": build.cpu_s + run.cpu_s,
                "virtme_peak_rss_mib": max(build.peak_rss_mib, run.peak_rss_mib),
                "virtme_written_mib": build.written_mib + run.written_mib,
                "virtme_objects_mib": meter.disk_mib(objects),
            }
        finally:
            shutil.rmtree(objects)

    yield [ours, virtme]
