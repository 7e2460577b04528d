# SPDX-License-Identifier: GPL-2.0-only
"""harness report: write the reports of finished runs again. To write them, the runs are judged again."""

from __future__ import annotations

import argparse

from harness.commands import _options, judge
from harness.model import files
from harness.model.errors import UsageError, unreadable
from harness.run import pipeline, recipe

# A path of the user's and a hundred lines of ours.
_LIMIT_BYTES = 1 << 20


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    judge.options(parser)
    parser.add_argument(
        "--print-recipe",
        action="store_true",
        help="judge nothing: print the commands that made each run's kernel and boot it, as a shell script",
    )


def main(arguments: argparse.Namespace) -> int:
    """Write the reports, or print the recipes."""
    if not arguments.print_recipe:
        return judge.main(arguments)
    for folder in arguments.runs:
        name = f"{pipeline.RECIPE}/{recipe.SCRIPT}"
        place = folder / name
        try:
            if not files.is_below(folder, name):
                raise UsageError(
                    f"{folder}: holds no {name}: an earlier version made this run", "harness run --print-recipe"
                )
            text = files.read(place, _LIMIT_BYTES)
        except (OSError, ValueError) as fault:
            raise unreadable(fault, f"{place}: {fault}", "harness run --print-recipe") from None
        _options.print_script(text.decode("utf-8", errors="surrogateescape"))
    return 0
