# SPDX-License-Identifier: GPL-2.0-only
"""verdict.json: the only place that writes and reads it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.model.errors import UsageError
from harness.model.run import RunVerdict

NAME = "verdict.json"


def render(verdict: RunVerdict) -> str:
    """The text of verdict.json."""
    return json.dumps(verdict.document(), indent=2, ensure_ascii=True) + "\n"


def parse(text: str) -> RunVerdict:
    """The verdict in a text that render() made. Raises ValueError for another text."""
    try:
        return RunVerdict.restore(json.loads(text))
    except (KeyError, TypeError, AttributeError) as fault:
        raise ValueError(f"not a verdict document: {type(fault).__name__}: {fault}") from fault


def read(folder: Path) -> RunVerdict:
    """The verdict of a run directory. Raises UsageError for any other folder."""
    try:
        return parse((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UsageError(f"{folder}: not a run directory: {fault}", "name a folder that harness run wrote") from None
