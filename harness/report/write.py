# SPDX-License-Identifier: GPL-2.0-only
"""Writes the documents of a run directory: verdict.json and then manifest.json last, so that what has them is whole."""

from __future__ import annotations

from pathlib import Path

from harness.host.workspace import write_atomic
from harness.model.run import RunVerdict
from harness.report import document, html, junit, ktap, manifest
from harness.report.detail import Details
from harness.report.manifest import Digests


def write(verdict: RunVerdict, folder: Path, details: Details | None = None) -> Path:
    """Write all reports into the directory of a run whose files are all there; returns the path of verdict.json.

    details: of its scenarios, for the page.
    """
    return _write(verdict, folder, manifest.digests(folder, [result.name for result in verdict.scenarios]), details)


def rewrite(verdict: RunVerdict, folder: Path, details: Details | None = None) -> Path:
    """Write them again. A run without a manifest gets none: nobody knows whether its files are what they were."""
    return _write(verdict, folder, manifest.read(folder), details)


def _write(verdict: RunVerdict, folder: Path, digests: Digests | None, details: Details | None) -> Path:
    # While there is no manifest, the run counts as unverified.
    (folder / manifest.NAME).unlink(missing_ok=True)
    text = document.render(verdict).encode()
    write_atomic(folder / "junit.xml", junit.render(verdict))
    write_atomic(folder / "results.ktap", ktap.render(verdict))
    write_atomic(folder / html.NAME, html.render(verdict, folder, details.found if details else {}))
    write_atomic(folder / document.NAME, text)
    if digests is not None:
        manifest.write(folder, {**digests, document.NAME: manifest.digest(text)})
    return folder / document.NAME
