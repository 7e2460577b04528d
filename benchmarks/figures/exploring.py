# SPDX-License-Identifier: GPL-2.0-only
"""harness explore: which mutants it finds without a scenario for them, and how many examples it judges a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figure import AtLeast, Row, Side
from harness.host import workspace
from harness.model.errors import MachineError
from harness.model.verdict import Outcome

MUTANTS_FOLDER = workspace.data("mutants")
# One of each kind: the flag, the tolerance, the ends, the state of the refused page, and rare faults.
MUTANTS = (
    "unmarked",
    "marks-munmap",
    "tolerates-ebusy-too",
    "tolerates-the-first-alone",
    "skips-the-end",
    "refusal-ends-twice",
    "returns-from-the-loop",
    "refusal-loses-the-pte",
    "rare-end-skipped",
    "rare-unmarked",
)
# The time of each search, for a mutant and for the good patch.
SECONDS = 90
SEED = 1
# A round is eleven searches of a minute and a half.
ROUNDS = 1

ROWS = (
    Row(f"harness explore, {SECONDS} s each: of {len(MUTANTS)} mutants found", "found_mutants", AtLeast(6)),
    Row("the same on the good patch: examples a minute", "examples_per_minute"),
)


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Nothing to prepare: builds are not measured."""

    def side() -> Mapping[str, float]:
        good = _explored(bench)
        if good["verdict"] != Outcome.PASS:
            raise MachineError(f"the good patch: {good['verdict']}, {good['found'] or 'nothing found'}")
        found = {name: _explored(bench, "--patch", str(MUTANTS_FOLDER / f"{name}.patch")) for name in MUTANTS}
        missed = [name for name, hunt in found.items() if hunt["verdict"] != Outcome.FAIL]
        bench.progress.say(f"not found: {', '.join(missed) or 'none'}")
        first = {f"{name}_examples": hunt["examples"] for name, hunt in found.items() if name not in missed}
        return {
            "found_mutants": len(MUTANTS) - len(missed),
            "examples_per_minute": good["examples_per_minute"],
            **first,
        }

    yield [side]


def _explored(bench: Bench, *patches: str) -> dict[str, Any]:
    """The result of a search on the patch, and on more patches."""
    asked = ("--seconds", str(SECONDS), "--seed", str(SEED), "--accel", bench.accel, "--out", str(bench.folder()))
    cost = bench.harness("explore", "--json", "--patch", "mayfail", *patches, *asked)
    if not cost.stdout:
        raise MachineError(f"harness explore: status {cost.status}: {cost.stderr.strip()[-200:]}")
    document: dict[str, Any] = json.loads(cost.stdout)
    return document
