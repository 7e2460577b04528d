# SPDX-License-Identifier: GPL-2.0-only
"""Characters that a terminal, a browser or a reader of lines would act on."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline, DEL, surrogates, and the Unicode marks that reorder text or end lines.
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
