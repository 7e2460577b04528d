# SPDX-License-Identifier: GPL-2.0-only
"""The tables of the lines that open a report, in the order in which they are tried: the first match names it."""

from __future__ import annotations

import re
from functools import lru_cache

from harness.console.pattern import LIMIT, Pattern
from harness.console.patterns import hang, lockdep, memory, oops, other

PATTERNS: tuple[Pattern, ...] = (
    *hang.PATTERNS,
    *lockdep.PATTERNS,
    *memory.PATTERNS,
    *oops.PATTERNS,
    *other.PATTERNS,
)


NEEDLES = tuple(dict.fromkeys(needle for pattern in PATTERNS for needle in pattern.needles))


# What begins a report begins with the word, or has it behind a blank: DEBUG is another.
_BUG = re.compile("(?<![A-Z_])BUG")


def match(text: str) -> tuple[Pattern, int] | None:
    """The pattern with which a record begins a report, and where in its text; None for all other records."""
    text = text[:LIMIT]
    present = tuple([needle for needle in NEEDLES if needle in text])
    if "BUG" in present and _BUG.search(text) is None:
        present = tuple([needle for needle in present if needle != "BUG"])
    if not present:
        return None
    asked, vague = _asked(present)
    for pattern in asked:
        if pattern.compiled.match(text) is not None:
            return pattern, 0
    for pattern in asked:
        found = pattern.compiled.search(text)
        if found is not None and _begins(text, found.start()):
            return pattern, found.start()
    return next(((pattern, 0) for pattern in vague if pattern.compiled.match(text) is not None), None)


@lru_cache(maxsize=256)
def _asked(needles: tuple[str, ...]) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    """The patterns that a line with these needles may match: those that count anywhere, and those that come first."""
    asked = [pattern for pattern in PATTERNS if not frozenset(needles).isdisjoint(pattern.needles)]
    return tuple(p for p in asked if not p.first), tuple(p for p in asked if p.first)


def _begins(text: str, start: int) -> bool:
    """A word begins there, or the torn text before it looks different: "DEBUG: …" and "no_BUG: …" are not a BUG."""
    before, letter = text[start - 1], text[start]
    return before not in "_=-\"'`" and not (before.isupper() and letter.isupper())
