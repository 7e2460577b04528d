# SPDX-License-Identifier: GPL-2.0-only
"""harness merge: several shards, and plain runs, as one matrix directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.commands import _matrix, _options


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.runs(parser)
    parser.add_argument(
        "--since", type=Path, metavar="DIR", help="the matrix directory of another night: what is worse here is new"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the matrix directory goes")
    parser.add_argument("--json", action="store_true", help="matrix.json on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Merge; the exit code is that of the worst job."""
    from harness.host import workspace
    from harness.matrix import merging
    from harness.terminal import Terminal

    with Terminal() as terminal:
        before = _matrix.before(arguments.since, terminal)
        told, places = merging.merge(arguments.runs)
        told = told.compared(before)
        folder = workspace.claim(arguments.out or _matrix.fresh(workspace.cache_dir(), told.plan, "merged"))
        merging.gather(places, folder)
        told.write(folder)
        terminal.lines(_matrix.lines(told, folder, terminal))
    if arguments.json:
        print(json.dumps(told.document(), indent=1))
    return told.outcome.exit_code
