# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on runs that never happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model.run import AccelFacts, KernelFacts, RunVerdict
from harness.model.verdict import Outcome, ScenarioResult

_FIELDS: Mapping[str, Any] = {
    "source": "debian:6.12",
    "patches": ("mayfail",),
    "configs": ("base",),
    "kernel": KernelFacts("6.12.117", "abc", cached=True),
    "accel": AccelFacts("auto", "tcg", "no /dev/kvm"),
}


def run_of(results: Sequence[ScenarioResult] | Mapping[str, Outcome], **changes: Any) -> RunVerdict:
    """The verdict on a run: its results, or how each of its scenarios ended; changes: of other fields."""
    if isinstance(results, Mapping):
        results = [ScenarioResult(name, outcome) for name, outcome in results.items()]
    return RunVerdict(**{**_FIELDS, "scenarios": tuple(results), **changes})
