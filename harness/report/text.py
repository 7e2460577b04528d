# SPDX-License-Identifier: GPL-2.0-only
"""Guest output on its way to people: nothing that a terminal or a browser would act on."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline, DEL, and the Unicode marks that reorder text.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` with everything that a terminal might obey written out in hex."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def one_line(text: str, limit: int = 300) -> str:
    """The same on a single line of at most `limit` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
