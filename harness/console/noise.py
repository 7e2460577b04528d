# SPDX-License-Identifier: GPL-2.0-only
"""Known noise: reports that are excused for a while, each with a reason and an owner."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.console.report import Report
from harness.model import strict_yaml
from harness.model.errors import UsageError

DEFAULT = Path(__file__).with_name("known-noise.yaml")
_KEYS = ("title", "reason", "link", "owner", "expires")


@dataclass(frozen=True)
class Entry:
    """One kind of report that is excused until the end of the day `expires`. where: file:line of the entry."""

    title: str
    reason: str
    link: str
    owner: str
    expires: datetime.date
    where: str

    def expired(self, today: datetime.date) -> bool:
        """It excuses nothing any more."""
        return today > self.expires

    def matches(self, report: Report) -> bool:
        """The report is of this kind."""
        return re.fullmatch(self.title, report.title) is not None


def load(path: Path | None = None) -> tuple[Entry, ...]:
    """Read a list of known noise, the harness's own if no other is named; every fault is a UsageError with its line."""
    content = strict_yaml.load(path or DEFAULT)
    content.only(("entries",), "a list of known noise")
    raw = content.need("entries", "a list of known noise")
    if not isinstance(raw, list) or not all(isinstance(item, strict_yaml.Mapping) for item in raw):
        raise UsageError(f"{content.at('entries')}: entries must be a list of mappings")
    return tuple(_entry(item) for item in raw)


def _entry(item: strict_yaml.Mapping) -> Entry:
    item.only(_KEYS, "an entry of known noise")
    words = {key: item.need(key, "an entry of known noise") for key in _KEYS}
    for key in _KEYS[:-1]:
        if not isinstance(words[key], str) or not words[key].strip():
            raise UsageError(f"{item.at(key)}: {key} must be a non-empty text")
    if type(words["expires"]) is not datetime.date:
        raise UsageError(f"{item.at('expires')}: expires must be a date, as in 2027-03-31")
    try:
        re.compile(words["title"])
    except re.error as error:
        raise UsageError(f"{item.at('title')}: not a regular expression: {error}") from None
    return Entry(**words, where=item.at())


class Excuses:
    """Applies a list to reports, and remembers which of its entries matched."""

    def __init__(self, entries: Sequence[Entry], today: datetime.date | None = None) -> None:
        self._entries = entries
        self._today = today or datetime.datetime.now(tz=datetime.UTC).date()
        self._used: Counter[Entry] = Counter()

    def excuse(self, report: Report) -> Entry | None:
        """The entry that excuses a report, or None; an entry that has expired excuses none."""
        for entry in self._entries:
            if entry.matches(report):
                self._used[entry] += 1
                if not entry.expired(self._today):
                    return entry
        return None

    def excused(self) -> Iterator[str]:
        """What was excused, and why: a pass that rests on it must say so."""
        for entry, count in self._used.items():
            if not entry.expired(self._today):
                yield f"{entry.where}: {entry.title!r} excused {count} reports until {entry.expires}: {entry.reason}"

    def complaints(self) -> Iterator[str]:
        """What is wrong with the list, after all reports have been shown to it."""
        for entry in self._entries:
            if entry.expired(self._today):
                yield f"{entry.where}: {entry.title!r} expired on {entry.expires}; ask {entry.owner}"
            elif entry not in self._used:
                yield f"{entry.where}: {entry.title!r} matched no report; ask {entry.owner}"
