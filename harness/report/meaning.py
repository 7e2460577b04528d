# SPDX-License-Identifier: GPL-2.0-only
"""What a finding means, and where to look: read from docs/reference/findings.md, the one place that says so."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.host import workspace

_SECTION = re.compile(r"^## (\S+)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_INVARIANT = re.compile(r"^\*(.+?)\*(?=$|:)", re.MULTILINE)
_ROW = re.compile(r"^\| (.+?) (?<!\\)\| (.+?) \|$", re.MULTILINE)
# The texts of a row are separated by these; `…` in them stands for a name, a number or a flag.
_OR = re.compile(r"; |, (?=was |ends )| \(|\)")
# A row is the finding's when so much of one of its texts is in the summary.
_ENOUGH = 0.6


@dataclass(frozen=True)
class Meaning:
    """The invariant that an oracle watches; and where to look when it is broken so, empty when nothing is said."""

    invariant: str
    look: str


def of(oracle: str, summary: str) -> Meaning:
    """The meaning of a finding."""
    section = _sections().get(oracle, "")
    invariant = _INVARIANT.search(section)
    rows = [(_share(texts, summary), look) for texts, look in _ROW.findall(section)]
    share, look = max(rows, default=(0.0, ""))
    first = section.strip().partition("\n\n")[0]
    return Meaning(_flat(invariant[1] if invariant else first), _flat(look) if share >= _ENOUGH else "")


@functools.cache
def _sections() -> Mapping[str, str]:
    page = workspace.data("docs") / "reference" / "findings.md"
    return dict(_SECTION.findall(page.read_text(encoding="utf-8")))


def _share(texts: str, summary: str) -> float:
    """How much of the best of a row's texts a summary has; a little more for a longer one."""
    found = 0.0
    for text in _OR.split(texts):
        pieces = [piece.strip(" :,") for piece in text.replace("`", "").split("…")]
        pieces = [piece for piece in pieces if piece]
        length = sum(map(len, pieces))
        held = sum(len(piece) for piece in pieces if piece.casefold() in summary.casefold())
        if length >= len("the same"):
            found = max(found, held / length * (1 - 1 / (2 + length)))
    return found


def _flat(text: str) -> str:
    return " ".join(text.replace("\\|", "|").split())


def functions(text: str) -> Sequence[str]:
    """The functions that a text names, as `try_to_unmap_one()`, each once."""
    return list(dict.fromkeys(re.findall(r"\b([A-Za-z_][A-Za-z0-9_]{2,63})\(\)", text)))
