# SPDX-License-Identifier: GPL-2.0-only
"""report.html: one page without scripts or outside resources, every value escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from harness.model.run import RunVerdict
from harness.report.text import plain


def render(verdict: RunVerdict) -> str:
    """The document."""
    return page("report.html.j2", run=verdict.document())


def page(template: str, **documents: dict[str, Any]) -> str:
    """A page from a template in our folder."""
    return _template(template).render({name: _plain(document) for name, document in documents.items()})


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _plain(value: Any) -> Any:
    """A document with all of its text made harmless, keys as well."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
