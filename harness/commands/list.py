# SPDX-License-Identifier: GPL-2.0-only
"""harness list: list scenarios, configs, patches, oracles, mutants or sources."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence

KINDS = ("scenarios", "configs", "patches", "oracles", "mutants", "sources")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("what", choices=KINDS)
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    """List everything of a kind."""
    from harness.variants import catalogue

    if arguments.what == "sources":
        from harness.host.workspace import cache_dir
        from harness.terminal import Terminal

        with Terminal() as terminal:
            entries = catalogue.sources(cache_dir(), terminal)
    else:
        entries = catalogue.listing(arguments.what)
    if arguments.json:
        print(json.dumps(entries))
    else:
        for line in lines(entries):
            print(line)
    return 0


def lines(entries: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Name and summary, in two columns."""
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        yield f"{entry['name']:{width}}  {entry['summary']}"
