# SPDX-License-Identifier: GPL-2.0-only
"""harness decode: every report of a run with file and line behind each function, in decoded.txt beside its console.

The kernel of the run is found again by what the verdict says of it, and must
have the same build ID.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import console
from harness.commands import _options
from harness.host import workspace
from harness.host.progress import Progress
from harness.kernel import lines
from harness.model.instrument import Instrument
from harness.postmortem.kdump import TEXT
from harness.report import manifest
from harness.run import decoding, earlier, pipeline
from harness.run.pipeline import Clock

DECODED = "decoded.txt"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", type=_options.run, help="a run directory, its name in the cache, or last"
    )
    parser.add_argument("--compiler", choices=("gcc", "clang"), default="gcc", help="what its kernel was built with")


def main(arguments: argparse.Namespace) -> int:
    """Decode each run, and print what was written."""
    from harness.terminal import Terminal

    with Terminal() as terminal:
        made = [
            path for run in arguments.runs for path in decode(run, arguments.compiler, workspace.cache_dir(), terminal)
        ]
    for path in made:
        print(path)
    return 0


def decode(run: Path, compiler: str, cache: Path, progress: Progress) -> list[Path]:
    """Write decoded.txt for each scenario that has a report or a post-mortem; returns the files.

    Raises UsageError for a folder that is no run, or a run whose inputs no longer make its kernel.
    """
    ran = earlier.read(run, compiler)
    for doubt in manifest.doubts(run):
        progress.say(doubt)
    texts = {run / name: text for name in ran.verdicts if (text := _reports(run / name))}
    if not texts:
        return []
    kernel = pipeline.prepare(ran.request, Instrument(), cache, progress, Clock()).kernel
    ran.verify(kernel)
    spots = decoding.spots(texts.values())
    if len(spots) == decoding.SPOTS_LIMIT:
        progress.say(f"{run}: only the first {decoding.SPOTS_LIMIT} places are looked up (limit)")
    found = lines.find(kernel, spots, cache, earlier.module(run), progress)
    for place, text in texts.items():
        workspace.write_atomic(place / DECODED, decoding.decoded(text, found) + "\n")
    return [place / DECODED for place in texts]


def _reports(place: Path) -> str:
    """What the kernel reported in a scenario, and what was read from outside."""
    parts = []
    if (place / "console.log").exists():
        with (place / "console.log").open("rb") as stream:
            parts = [f"{report.title}\nconsole line {report.line}\n{report.text}" for report in console.scan(stream)]
    if (place / TEXT).exists():
        parts.append((place / TEXT).read_text(encoding="utf-8", errors="backslashreplace"))
    return "\n\n".join(parts)
