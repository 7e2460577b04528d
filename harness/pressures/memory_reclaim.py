# SPDX-License-Identifier: GPL-2.0-only
"""A write to memory.reclaim: proactive reclaim of the scenario's cgroup, in the writer's own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"size": True}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Ask for `size` to be reclaimed; less is not an error where pages are held."""
    return [f"reclaim cgroup=work bytes={arguments['size']}"]
