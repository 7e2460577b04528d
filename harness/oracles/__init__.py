# SPDX-License-Identifier: GPL-2.0-only
"""One file = one invariant. Each has `NAME` and `judge(recording) -> findings`; the folder lists itself.

Files with an underscore in front serve several of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from harness.model.recording import Recording
from harness.model.verdict import Finding

Judge = Callable[[Recording], Iterable[Finding]]


def catalogue() -> Mapping[str, tuple[Judge, str]]:
    """Every oracle by name: its judge, and the first line of what it says of itself."""
    found: dict[str, tuple[Judge, str]] = {}
    for module_info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        name = module_info.name.replace("_", "-")
        found[name] = (cast(Judge, module.judge), (module.__doc__ or "").strip().splitlines()[0])
    return found


def prepare() -> None:
    """Import what judging needs while there is time for it: numpy takes 0.1 s, on a busy host 0.3 s."""
    catalogue()
    importlib.import_module("numpy")


def judge(recording: Recording) -> list[Finding]:
    """What all oracles find in a recording, in the order of their names."""
    return [finding for speak, _ in catalogue().values() for finding in speak(recording)]
