# SPDX-License-Identifier: GPL-2.0-only
"""verdict.json: the only place that writes and reads it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.model import documents, files
from harness.model.errors import unreadable
from harness.model.run import RunVerdict
from harness.report import manifest

NAME = "verdict.json"
_HINT = "name a folder that harness run wrote, or last"


def render(verdict: RunVerdict) -> str:
    """The text of verdict.json."""
    return json.dumps(verdict.document(), indent=2, ensure_ascii=True) + "\n"


def parse(content: str | bytes) -> RunVerdict:
    """The verdict in a text that render() made. Raises ValueError for another text."""
    return RunVerdict.restore(documents.parse(content, "verdict"))


def glance(folder: Path) -> RunVerdict:
    """The verdict of a run directory, for a list: what it rests on is not compared with its digests.

    Raises UsageError for a folder that is no run directory.
    """
    with _run_directory(folder):
        return _parsed(_content(folder))


def read(folder: Path) -> RunVerdict:
    """The verdict of a run directory, all of whose files are as they were when the run ended.

    Raises UsageError for a folder that is no run directory, or that has links in
    it, and MachineError for a run that is damaged.
    """
    listed = manifest.read(folder)
    with _run_directory(folder):
        content = _content(folder)
        found = {} if content is None else {NAME: manifest.digest(content)}
        if listed is not None:
            manifest.compare(folder, {NAME: listed.get(NAME, "")}, found)
        verdict = _parsed(content)
    names = [result.name for result in verdict.scenarios]
    if listed is None:
        # They must still be files of the run.
        list(manifest.evidence(folder, names))
    else:
        manifest.compare(folder, listed, {**found, **manifest.digests(folder, names)})
    return verdict


def _content(folder: Path) -> bytes | None:
    """verdict.json; None when there is none."""
    return files.read(folder / NAME, documents.LIMIT_BYTES) if files.is_below(folder, NAME) else None


def _parsed(content: bytes | None) -> RunVerdict:
    if content is None:
        raise FileNotFoundError(f"no {NAME}")
    return parse(content)


@contextlib.contextmanager
def _run_directory(folder: Path) -> Iterator[None]:
    """What cannot be read in the block makes a folder no run directory."""
    try:
        yield
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder}: not a run directory: {fault}", _HINT) from None
