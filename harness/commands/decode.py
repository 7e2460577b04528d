# SPDX-License-Identifier: GPL-2.0-only
"""harness decode: every report of a run with file and line behind each function, in decoded.txt beside its console."""

from __future__ import annotations

import argparse

from harness.commands import _options


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.runs(parser)
    parser.add_argument("--compiler", choices=("gcc", "clang"), default="gcc", help="what its kernel was built with")


def main(arguments: argparse.Namespace) -> int:
    """Decode each run, and print what was written."""
    from harness.host import workspace
    from harness.run.decoding import decode
    from harness.terminal import Terminal

    with Terminal() as terminal:
        made = [
            path for run in arguments.runs for path in decode(run, arguments.compiler, workspace.cache_dir(), terminal)
        ]
    for path in made:
        print(path)
    return 0
