# SPDX-License-Identifier: GPL-2.0-only
"""harness list: list scenarios, configs, patches, oracles, mutants, sources or runs."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.run.runs import Kept

KINDS = ("scenarios", "configs", "patches", "oracles", "mutants", "sources", "runs")
# Of what is shorter, nothing is left to read.
_LEAST = 20


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("what", choices=KINDS, help="what to list")
    parser.add_argument("--json", action="store_true", help="the same as one array, on standard output")


def main(arguments: argparse.Namespace) -> int:
    """List everything of a kind."""
    from harness.host.workspace import cache_dir
    from harness.variants import catalogue

    if arguments.what == "sources":
        from harness.terminal import Terminal

        with Terminal() as terminal:
            entries = catalogue.sources(cache_dir(), terminal)
    elif arguments.what == "runs":
        from harness.run import runs

        entries = [_run(one) for one in runs.newest(cache_dir())]
    else:
        entries = catalogue.listing(arguments.what)
    if arguments.json:
        print(json.dumps(entries))
        return 0
    if arguments.what == "scenarios":
        entries = list(files(entries))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines(entries, width):
        print(line)
    return 0


def _run(one: Kept) -> dict[str, str]:
    """A run in a line: what it was run on, and what came of it."""
    from harness.model.run import subject
    from harness.report.text import one_line

    if one.verdict is None:
        return {
            "name": one.folder.name,
            "verdict": "unfinished",
            "summary": "unfinished    harness run --resume goes on",
        }
    run = one.verdict
    counts = {word: sum(result.outcome.value == word for result in run.scenarios) for word in ("pass", "fail")}
    said = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    causes = "; ".join(cause.finding.summary for cause in run.causes)
    on = f"{', '.join((subject(run.source, run.patches), *run.configs))}: {said or 'nothing judged'}"
    word = run.outcome.value
    return {
        "name": one.folder.name,
        "verdict": word,
        "summary": one_line(f"{word:12}  {on}" + (f"; {causes}" if causes else ""), 1000),
    }


def files(entries: Sequence[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """One entry for each file of scenarios: how many variants it has, and how many of them the default set."""
    for name, group in groupby(entries, key=lambda entry: entry["file"]):
        variants = list(group)
        default = sum(entry["set"] == "default" for entry in variants)
        which = [f"{len(variants)} variants"] if len(variants) > 1 else []
        if default:
            which.append("default" if default == len(variants) else f"{default} default")
        yield {"name": Path(name).stem, "summary": f"{', '.join(which):22}  {variants[0]['summary']}"}


def lines(entries: Sequence[Mapping[str, str]], width: int = 0) -> Iterator[str]:
    """Name and summary in two columns, a line each. width: of the terminal, at which a line is cut; 0: it is not."""
    first = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        line = f"{entry['name']:{first}}  {entry['summary']}"
        yield line if not width or len(line) <= width or width < _LEAST else f"{line[: width - 1]}…"
