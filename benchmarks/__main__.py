# SPDX-License-Identifier: GPL-2.0-only
"""Measures figures and writes the table: python -m benchmarks [NAME…] [--rounds N]."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import environment, results, table
from benchmarks.bench import Bench
from benchmarks.figure import Figure, catalogue
from benchmarks.results import Result
from harness.guest.boot import BootFailed
from harness.host import accelerator, process, workspace
from harness.host.workspace import cache_dir
from harness.model.errors import HarnessError
from harness.terminal import Terminal

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results.json"
_TABLE = _HERE / "RESULTS.md"


def main() -> int:
    """0: everything that was asked for is measured, whatever the result; 1: a figure failed; 130: interrupted."""
    figures = catalogue()
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what the project claims about speed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(figures)} (default: all)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, instead of each figure's own")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the table again")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    asked = parser.parse_args()
    if Path.cwd() != workspace.ROOT:
        parser.error(f"must be started in {workspace.ROOT}")
    unknown = [name for name in asked.names if name not in figures]
    if unknown:
        parser.error(f"no figure {unknown[0]!r}; there are {', '.join(figures)}")
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds: at least 1")
    if asked.render:
        _write_table()
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _measure_all([figures[name] for name in asked.names or figures], asked.rounds, asked.accel)
    except KeyboardInterrupt:
        process.end_all()
        return 130


def _measure_all(figures: list[Figure], rounds: int | None, accel: str) -> int:
    cache = cache_dir()
    place = cache / "benchmarks"
    failed = False
    # Two runs at once would measure each other. The lock dies with its holder, whose scratch folder may remain.
    with Terminal() as terminal, workspace.lock(place / "bench.lock", terminal, "make bench"):
        for stale in place.glob("run.*"):
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(dir=place, prefix="run.") as scratch:
            # Files that we and our children leave in a temporary folder are then seen, and deleted afterwards.
            os.environ["TMPDIR"] = tempfile.tempdir = scratch
            bench = Bench(cache, Path(scratch), accelerator.choose(accel, cache, terminal).used, terminal)
            facts = environment.facts(bench)
            for figure in figures:
                try:
                    result = measure(figure, bench, rounds or figure.rounds, facts)
                except (HarnessError, BootFailed) as error:
                    result = Result({}, 0, facts, str(error))
                    terminal.say(f"{figure.name}: {error}")
                    failed = True
                # Written each time, so that an interrupted run keeps what it has.
                results.write(_RESULTS, results.read(_RESULTS) | {figure.name: result})
                _write_table()
            tempfile.tempdir = None
    sys.stderr.write(f"bench: {len(figures)} figures, in {_TABLE}\n")
    return int(failed)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _write_table() -> None:
    _TABLE.write_text(table.render(catalogue(), results.read(_RESULTS)), encoding="utf-8")


def measure(figure: Figure, bench: Bench, rounds: int, place: dict[str, str]) -> Result:
    """Every side of a figure once a round; odd rounds backwards, so that no side always follows another."""
    bench.progress.say(f"{figure.name}: {figure.summary}")
    samples: dict[str, list[float]] = {}
    with figure.measuring(bench) as sides:
        for number in range(rounds):
            for side in reversed(sides) if number % 2 else sides:
                for quantity, value in side().items():
                    samples.setdefault(quantity, []).append(value)
            shown = ", ".join(f"{quantity} {values[-1]:.4g}" for quantity, values in samples.items())
            bench.progress.say(f"{figure.name}: round {number + 1} of {rounds}: {shown}")
    return Result(samples, rounds, place)


if __name__ == "__main__":
    sys.exit(main())
