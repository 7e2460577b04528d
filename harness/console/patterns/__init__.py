# SPDX-License-Identifier: GPL-2.0-only
"""The tables of the lines that open a report, in the order in which they are tried: the first match names it."""

from __future__ import annotations

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


def match(text: str) -> tuple[Pattern, int] | None:
    """The pattern with which a record begins a report, and where in its text; None for all other records."""
    text = text[:LIMIT]
    present = {needle for needle in NEEDLES if needle in text}
    if not present:
        return None
    asked = [pattern for pattern in PATTERNS if not present.isdisjoint(pattern.needles)]
    vague = [pattern for pattern in asked if pattern.first]
    asked = [pattern for pattern in asked if not pattern.first]
    for pattern in asked:
        if pattern.compiled.match(text) is not None:
            return pattern, 0
    for pattern in asked:
        found = pattern.compiled.search(text)
        if found is not None and _begins(text, found.start()):
            return pattern, found.start()
    return next(((pattern, 0) for pattern in vague if pattern.compiled.match(text) is not None), None)


def _begins(text: str, start: int) -> bool:
    """A word begins there, or the torn text before it looks different: "DEBUG: …" and "no_BUG: …" are not a BUG."""
    before, letter = text[start - 1], text[start]
    return before not in "_=-\"'`" and not (before.isupper() and letter.isupper())
