# SPDX-License-Identifier: GPL-2.0-only
"""Guest output on its way to people: nothing that a terminal or a browser would act on."""

from __future__ import annotations

from harness.model.characters import UNSAFE


def plain(text: str) -> str:
    """`text` with everything that a terminal might obey written out in hex."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def flat(text: str) -> str:
    """The same on a single line: what ends or indents one is written out, too."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def one_line(text: str, limit: int = 300) -> str:
    """The same as words on a single line of at most `limit` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
