# SPDX-License-Identifier: GPL-2.0-only
"""MADV_PAGEOUT: exactly these pages, young or not, synchronously; PF_MEMALLOC, but no reclaim_state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"buffer": True}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Page `buffer` out."""
    return [f"advise name={arguments['buffer']} advice=pageout"]
