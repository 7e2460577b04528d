# SPDX-License-Identifier: GPL-2.0-only
"""The options of the commands that take long to load: a shell that completes a word waits for these alone."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.commands import _names, _options


def shell(parser: argparse.ArgumentParser) -> None:
    """What harness shell takes."""
    _options.kernel(parser)
    _options.accel(parser)
    parser.add_argument(
        "--module", action="append", type=Path, default=[], metavar="DIR",
        help="build the modules of this folder for the kernel, and load them; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=Path, metavar="DIR", help="copy this folder, as it is now, to /share in the guest, read-only"
    )
    parser.add_argument("--gdb", action="store_true", help="let gdb in, and print the line that starts it")
    words = parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="[RUN[/SCENARIO]] [COMMAND …]",
        help="a run, for a guest in which its scenario was done again up to where it stopped (default: the first that "
        "did not pass); a command to run in the guest, whose status is ours",
    )
    _names.complete(words, "runs")


def replay(parser: argparse.ArgumentParser) -> None:
    """What harness replay takes."""
    run = parser.add_argument("run", metavar="RUN", type=_options.run, help="a run with --record, or last")
    _names.complete(run, "runs")
    scenarios = parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="which of them (default: what did not pass, or else all)"
    )
    _names.complete(scenarios, "recorded")
    parser.add_argument("--gdb", action="store_true", help="let gdb in, and print the line that starts it")
    parser.add_argument(
        "--at",
        type=functools.partial(_options.below, 1 << 63),
        default=0,
        metavar="N",
        help="with --gdb: stop at the Nth instruction (default 0)",
    )
    parser.add_argument("--json", action="store_true", help="one object a line for each scenario")


def mutants(parser: argparse.ArgumentParser) -> None:
    """What harness mutants takes."""
    names = parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a mutant, or a file of your own (default: all of ours)"
    )
    _names.complete(names, "mutants")
    parser.add_argument(
        "--whole", action="store_true", help="each on the whole default set, too, to see that no other oracle speaks"
    )
    _options.kernel(parser)
    _options.machines(parser)


def explore(parser: argparse.ArgumentParser) -> None:
    """What harness explore takes."""
    _options.kernel(parser)
    _options.accel(parser)
    parser.add_argument(
        "--seconds", type=_options.seconds, default=60.0, metavar="N", help="how long to search (default 60)"
    )
    parser.add_argument(
        "--seed",
        type=functools.partial(_options.below, 1 << 32),
        metavar="S",
        help="where to begin, to repeat a search",
    )
    parser.add_argument(
        "--jobs", type=_options.jobs, default=0, metavar="N", help="searchers at once, or auto (default)"
    )
    parser.add_argument(
        "--toward-patch",
        action="store_true",
        help="prefer scenarios that execute lines that your patches change and few others execute; "
        "the first for each line is kept in OUT/reached",
    )
    _options.out(parser)
    parser.add_argument("--json", action="store_true", help="what was found, on standard output")


OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "shell": shell,
    "replay": replay,
    "mutants": mutants,
    "explore": explore,
}
