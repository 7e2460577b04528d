# SPDX-License-Identifier: GPL-2.0-only
"""The runs in the cache: by their short names, and `last`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model import begun
from harness.model.errors import HarnessError, UsageError
from harness.model.run import RunVerdict
from harness.model.strict_yaml import offer
from harness.report import document

LAST = "last"
# What the name of a run may end with.
_SHORT = re.compile(r"[0-9][0-9-]{2,40}")
# What each run writes, at its beginning or at its end.
_WRITTEN = (begun.NAME, document.NAME)
# How far back a look into earlier runs goes.
_LIMIT = 50


@dataclass(frozen=True)
class Kept:
    """A run in the cache; verdict: None when it has none that can be read."""

    folder: Path
    verdict: RunVerdict | None


def folders(cache: Path) -> list[Path]:
    """Every run in the cache, the newest first: their names are the times at which they began."""
    place = cache / "runs"
    found = place.iterdir() if place.is_dir() else iter(())
    return sorted((run for run in found if any((run / name).exists() for name in _WRITTEN)), reverse=True)


def find(word: str, cache: Path) -> Path:
    """The directory of a run, or of a scenario in it: a path, `last`, the name of a run in the cache, or its end.

    Raises UsageError for a name that several runs have, and for `last` when there is none. A word that names
    nothing is taken for a path, about which whoever reads it complains.
    """
    name, _, rest = word.partition("/")
    if not (name == LAST or _SHORT.fullmatch(name)) or Path(word).exists():
        return Path(word)
    known = folders(cache)
    if name == LAST:
        if not known:
            raise UsageError(f"{word}: there is no run in {cache / 'runs'}", "harness run")
        return known[0] / rest
    fitting = [run for run in known if run.name == name] or [run for run in known if run.name.endswith(name)]
    if len(fitting) > 1:
        raise UsageError(f"{word}: {len(fitting)} runs end so", offer(name, [run.name for run in fitting]))
    return fitting[0] / rest if fitting else Path(word)


def newest(cache: Path, limit: int = _LIMIT) -> Iterator[Kept]:
    """The latest runs, the newest first."""
    for folder in folders(cache)[:limit]:
        try:
            verdict = document.glance(folder)
        except HarnessError:
            verdict = None
        yield Kept(folder, verdict)
