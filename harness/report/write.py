# SPDX-License-Identifier: GPL-2.0-only
"""Writes the documents of a run directory, verdict.json last, so that a directory that has it is complete."""

from __future__ import annotations

from pathlib import Path

from harness.host.workspace import write_atomic
from harness.model.run import RunVerdict
from harness.report import document, html, junit, ktap


def write(verdict: RunVerdict, folder: Path) -> Path:
    """Write all reports into a run directory and return the path of verdict.json."""
    write_atomic(folder / "junit.xml", junit.render(verdict))
    write_atomic(folder / "results.ktap", ktap.render(verdict))
    write_atomic(folder / "report.html", html.render(verdict))
    write_atomic(folder / document.NAME, document.render(verdict))
    return folder / document.NAME
