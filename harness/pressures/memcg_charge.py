# SPDX-License-Identifier: GPL-2.0-only
"""User memory charged against memory.max: try_charge_memcg() reclaims in the task that touches the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"size": True, "keep": False}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Touch `size` of fresh memory in the scenario's cgroup; given back at once, or kept under the name `keep`."""
    kept = f" name={arguments['keep']}" if "keep" in arguments else ""
    return [f"charge size={arguments['size']}{kept}"]
