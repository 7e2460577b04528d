# SPDX-License-Identifier: GPL-2.0-only
"""A finished run, as its directory describes it: what it ran on, and how each scenario ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import pressures
from harness.host import sandbox
from harness.kernel.build import KernelBuild
from harness.kernel.config import BASE, GUEST
from harness.model import scenario
from harness.model.errors import UsageError
from harness.model.scenario import Scenario
from harness.model.verdict import Outcome
from harness.report import document
from harness.run.pipeline import MODULES, KernelRequest

_MODULE = re.compile(r"[A-Za-z0-9_-]+\.ko")


@dataclass(frozen=True)
class Earlier:
    """request: what its kernel was made of. verdicts: scenario → how it ended."""

    folder: Path
    request: KernelRequest
    build_id: str
    verdicts: Mapping[str, Outcome]

    def verify(self, kernel: KernelBuild) -> None:
        """Check that the kernel is the run's. Raises UsageError when the run's inputs now make another one."""
        if kernel.build_id != self.build_id:
            raise UsageError(
                f"{self.folder}: its kernel had build id {self.build_id[:12] or '(none)'}, "
                f"its inputs now make {kernel.build_id[:12]}",
                "name the compiler with --compiler, or run it again",
            )

    def scenario(self) -> str:
        """The first scenario that did not pass, or else the first."""
        failed = [name for name, verdict in self.verdicts.items() if verdict is not Outcome.PASS]
        for name in [*failed, *self.verdicts]:
            return name
        raise UsageError(f"{self.folder}: no scenario was judged", "harness run SCENARIO")


def read(folder: Path, compiler: str = "gcc") -> Earlier:
    """What the verdict of a run directory says. Raises what document.read() does."""
    verdict = document.read(folder)
    if verdict.sandbox:
        sandbox.demand()
    base, configs = "", tuple(name for name in verdict.configs if name != BASE)
    if verdict.configs[1:2] == (GUEST,) and verdict.configs[0] != BASE:
        base, configs = configs[0], configs[2:]
    return Earlier(
        folder,
        KernelRequest(verdict.source, verdict.patches, configs, compiler, base_config=base),
        verdict.kernel.build_id,
        {result.name: result.outcome for result in verdict.scenarios},
    )


def scenario_of(place: Path, name: str) -> Scenario:
    """The scenario whose recording a folder of a run holds."""
    keys = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
    stem = place / "scenario.yaml"
    suffixes = {found.name.removeprefix(stem.stem): found for found in scenario.load(stem, keys)}
    fitting = [suffix for suffix in suffixes if name.partition(".")[0].endswith(suffix)]
    if not fitting:
        raise UsageError(f"{stem}: holds no scenario {name!r}")
    # "-held" is the end of "-not-held", too.
    return scenario.renamed(suffixes[max(fitting, key=len)], name)


def module(folder: Path) -> Path | None:
    """The module of a run as it was loaded; None for a run that built no module."""
    # Its name becomes a word of a command of gdb.
    return next((path for path in (folder / MODULES).glob("*.ko") if _MODULE.fullmatch(path.name)), None)


def named(word: str) -> tuple[Path, str] | None:
    """The run and the scenario, or "", that RUN or RUN/SCENARIO names; None when the word names neither."""
    place = Path(word)
    if (place / document.NAME).is_file():
        return place, ""
    if place.is_dir() and (place.parent / document.NAME).is_file():
        return place.parent, place.resolve().name
    return None
