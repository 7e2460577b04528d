# SPDX-License-Identifier: GPL-2.0-only
"""The functions that a kernel's reports name, with file and line behind each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.kernel.lines import Spot
from harness.report.text import plain

# A name begins once in a text without blanks, and is given up once: a console may hold anything.
_FRAME = re.compile(
    r"(?<!\w)(?<!\w\.)(?P<function>[A-Za-z_][\w.]{0,250}+)\+0x(?P<offset>[0-9a-f]{1,8})/0x(?P<size>[0-9a-f]{1,8})(?!\w)",
    re.ASCII,
)
# A kernel has 60,000 functions; the reports of one bug name some hundred places.
SPOTS_LIMIT = 5000
# Registers, and WARN(), name the instruction itself.
_INSTRUCTION = re.compile(r"\s*(?:RIP: |CPU |WARNING: )")


def spots(texts: Iterable[str]) -> set[Spot]:
    """The places that some reports name; the first of them, as many as are looked up."""
    return set(itertools.islice(_each(texts), SPOTS_LIMIT))


def _each(texts: Iterable[str]) -> Iterator[Spot]:
    """Each place once."""
    seen: set[Spot] = set()
    for spot in itertools.chain.from_iterable(_spots(line) for text in texts for line in text.splitlines()):
        if spot not in seen:
            seen.add(spot)
            yield spot


def decoded(text: str, found: Mapping[Spot, Sequence[str]]) -> str:
    """A report, safe to print, with the source lines of each place below it."""
    return "\n".join(part for line in text.splitlines() for part in (plain(line), *_places(line, found)))


def _spots(line: str) -> Iterator[Spot]:
    """The places that a line names. A return address is after its call, so the byte before it is looked up."""
    back = 0 if _INSTRUCTION.match(line) else 1
    for match in _FRAME.finditer(line):
        yield Spot(match["function"], max(0, int(match["offset"], 16) - back), int(match["size"], 16))


def _places(line: str, found: Mapping[Spot, Sequence[str]]) -> Iterator[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    for spot in _spots(line):
        yield from (indent + place for place in found.get(spot, ()))
