# SPDX-License-Identifier: GPL-2.0-only
"""One file is one invariant, with `NAME` and `judge(recording) -> findings`; the folder lists itself.

An oracle with `CONSOLE_ONLY = True` also judges a guest that no scenario drove.
Files whose names begin with an underscore serve several oracles.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import cast

from harness.model.recording import Recording
from harness.model.verdict import Finding

Judge = Callable[[Recording], Iterable[Finding]]


def catalogue() -> Mapping[str, tuple[Judge, str]]:
    """Every oracle by name: its judge, and the first line of its docstring."""
    found: dict[str, tuple[Judge, str]] = {}
    for module_info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        name = module_info.name.replace("_", "-")
        found[name] = (cast(Judge, module.judge), (module.__doc__ or "").strip().splitlines()[0])
    return found


def prepare() -> None:
    """Import what judging needs while there is time for it: numpy takes 0.1 s to import, 0.3 s on a busy host."""
    catalogue()
    importlib.import_module("numpy")


def of_the_console() -> list[str]:
    """The oracles that need no event log and no scenario: those with `CONSOLE_ONLY`."""
    return [name for name in catalogue() if hasattr(_module(name), "CONSOLE_ONLY")]


def judge(recording: Recording, names: Collection[str] | None = None) -> list[Finding]:
    """What the oracles find in a recording, in the order of their names. names: the oracles to ask, None for all."""
    return [
        finding
        for name, (speak, _) in catalogue().items()
        if names is None or name in names
        for finding in speak(recording)
    ]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
