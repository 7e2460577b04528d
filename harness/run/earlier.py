# SPDX-License-Identifier: GPL-2.0-only
"""A run that ended, as its directory tells of it: what it ran on, and what came of each scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.kernel.build import KernelBuild
from harness.model.errors import UsageError
from harness.run.pipeline import MODULES, KernelRequest


@dataclass(frozen=True)
class Earlier:
    """request: what its kernel was made of. verdicts: scenario → its outcome's word."""

    folder: Path
    request: KernelRequest
    build_id: str
    verdicts: Mapping[str, str]

    def verify(self, kernel: KernelBuild) -> None:
        """The kernel is the run's: UsageError when its inputs no longer make that."""
        if kernel.build_id != self.build_id:
            raise UsageError(
                f"{self.folder}: its kernel had build id {self.build_id[:12] or '(none)'}, "
                f"its inputs now make {kernel.build_id[:12]}",
                "name the compiler with --compiler, or run it again",
            )

    def scenario(self) -> str:
        """The first scenario that did not pass, or else the first."""
        failed = [name for name, verdict in self.verdicts.items() if verdict != "pass"]
        for name in [*failed, *self.verdicts]:
            return name
        raise UsageError(f"{self.folder}: no scenario was judged", "harness run SCENARIO")


def read(folder: Path, compiler: str = "gcc") -> Earlier:
    """What verdict.json says. Raises UsageError for a folder that is no run."""
    try:
        document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        configs = tuple(name for name in document["configs"] if name != "base")
        return Earlier(
            folder,
            KernelRequest(document["source"], tuple(document["patches"]), configs, compiler),
            document["kernel"]["build_id"],
            {str(entry["name"]): str(entry.get("verdict", "")) for entry in document["scenarios"]},
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UsageError(f"{folder}: no run directory: {fault}", "name a folder that harness run wrote") from None


def module(folder: Path) -> Path | None:
    """The module of a run as it was loaded; None for a run that came to none."""
    return next((folder / MODULES).glob("*.ko"), None)


def named(word: str) -> tuple[Path, str] | None:
    """The run and the scenario, or "", that RUN or RUN/SCENARIO names; None when the word names neither."""
    place = Path(word)
    if (place / "verdict.json").is_file():
        return place, ""
    if place.is_dir() and (place.parent / "verdict.json").is_file():
        return place.parent, place.resolve().name
    return None
