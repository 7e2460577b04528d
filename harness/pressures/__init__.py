# SPDX-License-Identifier: GPL-2.0-only
"""One file = one way to make the kernel reclaim; the folder lists itself.

Each file has `KEYS`, the keys that a step may give (True: it must), and
`commands(arguments)`, the lines for the guest driver that press.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pressure:
    """One way to press: the keys of its step, its commands, and what it says about itself."""

    name: str
    keys: Mapping[str, bool]
    commands: Callable[[Mapping[str, Any]], Sequence[str]]
    summary: str


def catalogue() -> Mapping[str, Pressure]:
    """Every pressure by name."""
    found = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        name = info.name.replace("_", "-")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        found[name] = Pressure(name, module.KEYS, module.commands, summary)
    return found
