# SPDX-License-Identifier: GPL-2.0-only
"""memory.high lowered below what is in use: the writer itself reclaims down to it (memory_high_write)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"limit": True}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Set memory.high of the scenario's cgroup to `limit`, and take it off again."""
    return [
        f"cgroup-set name=work key=memory.high value={arguments['limit']}",
        "cgroup-set name=work key=memory.high value=max",
    ]
