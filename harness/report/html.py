# SPDX-License-Identifier: GPL-2.0-only
"""report.html: one page without scripts or outside resources, every value escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.model.run import RunVerdict
from harness.report.text import plain


def render(verdict: RunVerdict) -> str:
    """The document."""
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("report.html.j2").render(run=verdict.document())
