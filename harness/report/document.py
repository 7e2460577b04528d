# SPDX-License-Identifier: GPL-2.0-only
"""verdict.json: the only place that writes and reads it."""

from __future__ import annotations

import json
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
    try:
        if not files.is_below(folder, NAME):
            raise FileNotFoundError(f"no {NAME}")
        return parse(files.read(folder / NAME, documents.LIMIT_BYTES))
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder}: not a run directory: {fault}", _HINT) from None


def read(folder: Path) -> RunVerdict:
    """The verdict of a run directory, all of whose files are as they were when the run ended.

    Raises UsageError for a folder that is no run directory, or that has links in
    it, and MachineError for a run that is damaged.
    """
    listed = manifest.read(folder)
    try:
        content, found = b"", {}
        if files.is_below(folder, NAME):
            content = files.read(folder / NAME, documents.LIMIT_BYTES)
            found = {NAME: manifest.digest(content)}
        if listed is not None:
            manifest.compare(folder, {NAME: listed.get(NAME, "")}, found)
        if not found:
            raise FileNotFoundError(f"no {NAME}")
        verdict = parse(content)
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder}: not a run directory: {fault}", _HINT) from None
    names = [result.name for result in verdict.scenarios]
    if listed is None:
        # They must still be files of the run.
        list(manifest.evidence(folder, names))
    else:
        manifest.compare(folder, listed, {**found, **manifest.digests(folder, names)})
    return verdict
