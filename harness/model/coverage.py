# SPDX-License-Identifier: GPL-2.0-only
"""Which of the lines that the user's patches changed were executed, and by which scenarios."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# So many ranges of lines are named in a sentence.
_RANGES = 12


@dataclass(frozen=True)
class ChangedLine:
    """A changed line that makes code. ran: scenario → how often it came by; unwatched: no probe can be set there."""

    file: str
    line: int
    ran: Mapping[str, int] = field(default_factory=dict)
    unwatched: bool = False


@dataclass(frozen=True)
class PatchCoverage:
    """What became of the changed lines of a run. A count is a lower limit: a probe that has counted enough is removed.

    silent: changed lines that make no code. unknown: file → why not all of its
    lines were looked for. uncounted: scenarios whose guest could not say what it
    counted. reason: why nothing was counted at all. required: percent.
    """

    lines: Sequence[ChangedLine] = ()
    silent: int = 0
    unknown: Mapping[str, str] = field(default_factory=dict)
    uncounted: Sequence[str] = ()
    reason: str = ""
    required: float = 0.0

    @property
    def ran(self) -> int:
        """How many lines were executed."""
        return sum(bool(line.ran) for line in self.lines)

    @property
    def percent(self) -> float:
        """How many of a hundred lines with code were executed; a patch that makes no code leaves none out."""
        if self.lines:
            return 100 * self.ran / len(self.lines)
        return 0.0 if self.reason or self.unknown else 100.0

    @property
    def short(self) -> str:
        """Why a pass proves too little, as a sentence; empty when enough was executed, or nothing was required."""
        if self.percent >= self.required:
            return ""
        asked = f"{self.percent:.3g} % of the changed lines ran (--require-patch-coverage {self.required:g})"
        return f"{asked}: {self.sentence}"

    @property
    def sentence(self) -> str:
        """What became of the changed lines."""
        if self.reason:
            return f"changed lines were not watched: {self.reason}"
        if not self.lines:
            why = "; ".join(f"{file} {reason}" for file, reason in self.unknown.items())
            return f"no changed line was found in this kernel: {why}" if why else "no changed line makes code"
        said = [f"{self.ran} of {len(self.lines)} changed lines ran" if self.ran else "no changed line ran"]
        said += _named("never", self.lines, lambda line: not line.ran and not line.unwatched)
        said += _named("cannot be watched", self.lines, lambda line: line.unwatched)
        said += [f"{file} {reason}" for file, reason in self.unknown.items()]
        if self.uncounted:
            said.append(f"not counted: {', '.join(self.uncounted)}")
        return "; ".join(said)

    @property
    def scenarios(self) -> list[tuple[str, int]]:
        """The scenarios that executed changed lines, and how many; the most first."""
        return Counter(name for line in self.lines for name in line.ran).most_common()

    def document(self) -> dict[str, Any]:
        """As verdict.json holds it."""
        return {
            "summary": self.sentence,
            "percent": round(self.percent, 1),
            "required": self.required,
            "ran": self.ran,
            "lines": [
                {"file": line.file, "line": line.line, "ran": dict(line.ran), "unwatched": line.unwatched}
                for line in self.lines
            ],
            "silent": self.silent,
            "unknown": dict(self.unknown),
            "uncounted": list(self.uncounted),
            "reason": self.reason,
        }

    @classmethod
    def restore(cls, document: Mapping[str, Any]) -> PatchCoverage:
        """What document() wrote, once it fits the schema."""
        return cls(
            lines=tuple(
                ChangedLine(
                    str(entry["file"]),
                    int(entry["line"]),
                    {str(name): int(count) for name, count in entry["ran"].items()},
                    unwatched=bool(entry["unwatched"]),
                )
                for entry in document["lines"]
            ),
            silent=int(document["silent"]),
            unknown={str(file): str(reason) for file, reason in document["unknown"].items()},
            uncounted=tuple(map(str, document["uncounted"])),
            reason=str(document["reason"]),
            required=float(document["required"]),
        )


def _named(word: str, lines: Iterable[ChangedLine], chosen: Callable[[ChangedLine], bool]) -> Iterator[str]:
    """The lines that are chosen, as a clause; none when there is none."""
    places = [
        place
        for file, group in itertools.groupby(filter(chosen, lines), lambda line: line.file)
        for place in _ranges(file, [line.line for line in group])
    ]
    if places:
        more = f" and {len(places) - _RANGES} more" if len(places) > _RANGES else ""
        yield f"{word}: {', '.join(places[:_RANGES])}{more}"


def _ranges(file: str, numbers: Sequence[int]) -> Iterator[str]:
    """mm/rmap.c:1702-1703 for lines of a file, in their order."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        first, *others = [number for _, number in group]
        yield f"{file}:{first}-{others[-1]}" if others else f"{file}:{first}"
