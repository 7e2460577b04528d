# SPDX-License-Identifier: GPL-2.0-only
"""harness gc: limit the size of the cache."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import _options
from harness.model.errors import HarnessError

if TYPE_CHECKING:
    from harness.terminal import Terminal


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--keep-gib",
        type=_options.positive,
        metavar="N",
        help="how much may stay, in GiB (default: $HARNESS_KEEP_GIB, else 20, or a quarter of the disk "
        "if that is more)",
    )
    parser.add_argument(
        "--keep-runs",
        type=functools.partial(_options.below, 1_000_001),
        default=20,
        metavar="N",
        help="how many of the newest runs stay in any case (default 20)",
    )
    parser.add_argument(
        "--keep-days",
        type=functools.partial(_options.below, 100_001),
        default=3,
        metavar="D",
        help="for how many days each run stays in any case; one that failed, four times as long (default 3)",
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, and list what would go")


def main(arguments: argparse.Namespace) -> int:
    """Remove what was used longest ago, until the rest is below the limit."""
    from harness.host import collect
    from harness.host.workspace import cache_dir
    from harness.report.text import flat
    from harness.terminal import Terminal

    cache = cache_dir()
    limit = arguments.keep_gib << 30 if arguments.keep_gib else collect.limit_bytes(cache)
    with Terminal() as terminal:
        spare = _unknown(cache, terminal)
    keep = collect.Keep(arguments.keep_runs, arguments.keep_days, spare)
    done = collect.bound(cache, limit or 1 << 62, keep=keep, dry=arguments.dry_run)
    if arguments.dry_run:
        for entry in done.gone:
            used = time.strftime("%Y-%m-%d", time.localtime(entry.used_s))
            print(f"{entry.size >> 20:8} MiB  {used}  {flat(str(entry.path))}")
    would = "would free" if arguments.dry_run else "freed"
    of = f"limit {limit >> 30} GiB" if limit else "no limit"
    print(f"{would} {done.freed >> 20} MiB, {done.left >> 20} MiB left ({of}) in {cache}")
    if limit and done.left > limit:
        print(
            "the rest is in use, was used within the hour, or is a run that is kept: "
            "--keep-runs and --keep-days keep fewer"
        )
    return 0


def _unknown(cache: Path, terminal: Terminal) -> Callable[[Path], bool]:
    """Which runs must not go yet: those that the history does not have, and all when there is none."""
    from harness.history import keeping

    try:
        with keeping.opened(cache, terminal) as held:
            return keeping.missing(held)
    except HarnessError as error:
        terminal.say(f"{error}; so all runs stay")
        return lambda _: True
