# SPDX-License-Identifier: GPL-2.0-only
"""Markdown of pages that are generated: text from the code as text, whatever characters it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]])")


def plain(text: str) -> str:
    """Text that is no Markdown, as an option's help."""
    told = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", told)


def code(text: str) -> str:
    """Words of a program."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown. Empty when there is no row."""
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""])


def _cell(text: str) -> str:
    # In code, too, a bar ends the cell; behind a backslash it does not.
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def page(title: str, *parts: str) -> str:
    """A whole page."""
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts if part)]) + "\n"
