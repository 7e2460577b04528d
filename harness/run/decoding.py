# SPDX-License-Identifier: GPL-2.0-only
"""File and line behind the functions in a run's reports: in decoded.txt beside each console.

The kernel of the run is found again by what the verdict says of it, and must
have the same build ID.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from harness import console
from harness.host import workspace
from harness.host.progress import Progress
from harness.kernel import lines
from harness.kernel.lines import Spot
from harness.model.instrument import Instrument
from harness.postmortem.kdump import TEXT
from harness.report import manifest
from harness.report.text import plain
from harness.run import earlier, pipeline
from harness.run.pipeline import Clock

DECODED = "decoded.txt"

# A name begins once in a text without blanks, and is given up once: a console may hold anything.
_FRAME = re.compile(
    r"(?<!\w)(?<!\w\.)(?P<function>[A-Za-z_][\w.]{0,250}+)\+0x(?P<offset>[0-9a-f]{1,8})/0x(?P<size>[0-9a-f]{1,8})(?!\w)",
    re.ASCII,
)
# A kernel has 60,000 functions; the reports of one bug name some hundred places.
SPOTS_LIMIT = 5000
# Registers, and WARN(), name the instruction itself.
_INSTRUCTION = re.compile(r"\s*(?:RIP: |CPU |WARNING: )")


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
    named = spots(texts.values())
    if len(named) == SPOTS_LIMIT:
        progress.say(f"{run}: only the first {SPOTS_LIMIT} places are looked up (limit)")
    found = lines.find(kernel, named, cache, earlier.module(run), progress)
    for place, text in texts.items():
        workspace.write_atomic(place / DECODED, decoded(text, found) + "\n")
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


def spots(texts: Iterable[str]) -> set[Spot]:
    """The places that some reports name; the first of them, as many as are looked up."""
    found: set[Spot] = set()
    for spot in itertools.chain.from_iterable(spots_of(line) for text in texts for line in text.splitlines()):
        found.add(spot)
        if len(found) == SPOTS_LIMIT:
            break
    return found


def decoded(text: str, found: Mapping[Spot, Sequence[str]]) -> str:
    """A report, safe to print, with the source lines of each place below it."""
    return "\n".join(part for line in text.splitlines() for part in (plain(line), *_places(line, found)))


def spots_of(line: str) -> Iterator[Spot]:
    """The places that a line names. A return address is after its call, so the byte before it is looked up."""
    back = 0 if _INSTRUCTION.match(line) else 1
    for match in _FRAME.finditer(line):
        yield Spot(match["function"], max(0, int(match["offset"], 16) - back), int(match["size"], 16))


def _places(line: str, found: Mapping[Spot, Sequence[str]]) -> Iterator[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    for spot in spots_of(line):
        yield from (indent + place for place in found.get(spot, ()))
