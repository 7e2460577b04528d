# SPDX-License-Identifier: GPL-2.0-only
"""bisect.html: how a search went, on one page without scripts or outside resources, every value escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import templating


def render(document: Mapping[str, Any]) -> str:
    """The document of a search as a page."""
    return templating.page("bisect.html.j2", bisect=dict(document))
