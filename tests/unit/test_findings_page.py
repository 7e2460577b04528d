# SPDX-License-Identifier: GPL-2.0-only
"""docs/reference/findings.md explains every oracle and every text that an oracle can print."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import oracles

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/findings.md").read_text(encoding="utf-8")
# Calls whose second argument is the text of a finding.
_SAYS = {"Finding", "_say", "_note", "_beyond"}
# Shorter pieces are words like "is not", which prove nothing.
_LEAST = 14


def constants(node: ast.expr) -> Iterator[str]:
    """The constant pieces of a text, of both branches of a choice."""
    if isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield from (str(part.value) for part in node.values if isinstance(part, ast.Constant))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def texts(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in _SAYS:
                yield from constants(node.args[1])
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            for row in node.iter.elts:
                if isinstance(row, ast.Tuple):
                    yield from constants(row.elts[0])
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            yield from constants(node.value.elts[0])


SAID = sorted(
    {
        piece.strip(" :,")
        for path in (ROOT / "harness" / "oracles").glob("*.py")
        for text in texts(path.read_text(encoding="utf-8"))
        for piece in re.split(r"\s{2,}", text)
        if len(piece.strip(" :,")) >= _LEAST
    }
)


def test_the_texts_are_found():
    assert "a start whose invalidate_range_end never came" in SAID
    assert "was called after it was removed" in SAID
    assert len(SAID) > 25


@pytest.mark.parametrize("text", SAID)
def test_every_text_of_an_oracle_is_explained(text: str):
    assert text in PAGE


@pytest.mark.parametrize("name", sorted(oracles.catalogue()))
def test_every_oracle_has_a_section(name: str):
    assert f"\n## {name}\n" in PAGE


def test_the_page_explains_no_oracle_that_is_gone():
    assert set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE)) - {"Contracts"} == set(oracles.catalogue())
