# SPDX-License-Identifier: GPL-2.0-only
"""harness gc: limit the size of the cache."""

from __future__ import annotations

import argparse

from harness.commands import _options


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--keep-gib", type=_options.positive, default=20, metavar="N", help="how much may stay, in GiB (default 20)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Remove what was used longest ago, until the rest is below the limit."""
    from harness.host import collect
    from harness.host.workspace import cache_dir

    freed, left = collect.bound(cache_dir(), arguments.keep_gib << 30)
    print(f"freed {freed >> 20} MiB, {left >> 20} MiB left (limit {arguments.keep_gib} GiB) in {cache_dir()}")
    return 0
