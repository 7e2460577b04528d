# SPDX-License-Identifier: GPL-2.0-only
"""Pages that stand alone: nothing outside them is asked for, every value is escaped, and no script runs but ours.

The policy in a page's head allows exactly its own style and script, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from harness.report.text import plain

_HERE = Path(__file__).parent
_UPLOT = "vendor/uPlot.iife.min.js"


def page(template: str, **values: Any) -> str:
    """A page from a template in our folder; text in its values is made harmless, but for what is Markup already."""
    harmless = {name: _plain(value) for name, value in values.items()}
    return _template(template).render(**harmless)


def part(template: str, **values: Any) -> Markup:
    """A part of a page."""
    return Markup(page(template, **values))  # noqa: S704 - the templates escape


def data(value: Any) -> Markup:
    """A value as JSON for a page's script; no text in it ends the script."""
    return htmlsafe_json_dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


@cache
def prepare() -> Environment:
    """Load the templates: 50 ms, for whoever has time before the first page."""
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _text("templates/page.css")
    charts = f"{_text('vendor/uPlot.min.css')}\n"
    licence = f"/*\n{_text('vendor/LICENSE')}*/\n"
    script = f"{licence}{_text(_UPLOT)}\n{_text('templates/page.js')}"
    # What is between the tags, to the byte, is what the policy names.
    environment.globals.update(
        style=Markup(charts + style),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704 - our own files
        policy=f"default-src 'none'; style-src {_source(charts + style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        uplot=_text("vendor/LICENSE"),
    )
    for name in environment.list_templates(extensions=["j2"]):
        environment.get_template(name)
    return environment


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _template(name: str) -> Template:
    return prepare().get_template(name)


def _plain(value: Any) -> Any:
    """A value with all of its text made harmless, keys as well."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
