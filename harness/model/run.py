# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on a whole run: what was tested, on what, and what came of it. verdict.json, schema 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.model.causes import Cause, causes
from harness.model.contract import EARLIER, ContractFacts
from harness.model.coverage import PatchCoverage
from harness.model.rates import Rate, rates
from harness.model.verdict import Outcome, ScenarioResult, rounded, worst

SCHEMA = 1
# How a source is named that is none: --built DIR is the source built:DIR.
BUILT = "built:"


def subject(source: str, patches: Sequence[str]) -> str:
    """What is judged, in words; a kernel that its owner has built has no patches of ours."""
    return f"{source} + {', '.join(patches)}" if patches else source


@dataclass(frozen=True)
class KernelFacts:
    """The kernel that was judged. commit: of a revision, its name and the first line of its message."""

    release: str
    build_id: str
    cached: bool
    commit: str = ""


@dataclass(frozen=True)
class AccelFacts:
    """The accelerator that was asked for, the one that was used, and why."""

    requested: str
    used: str
    reason: str


@dataclass(frozen=True)
class MachineFacts:
    """Where the machines came from: "clone" of one boot per shape, "boot" for the reason in `refused`, "none" came."""

    refused: str = ""
    came: str = "none"

    def document(self) -> dict[str, str]:
        """As verdict.json holds it."""
        return {"from": self.came, "reason": self.refused}


@dataclass(frozen=True)
class RunVerdict:
    """Everything verdict.json holds. `error` is one line when the run ended before all scenarios were judged."""

    source: str
    patches: Sequence[str]
    configs: Sequence[str]
    kernel: KernelFacts
    accel: AccelFacts
    scenarios: Sequence[ScenarioResult]
    machines: MachineFacts = field(default_factory=MachineFacts)
    contract: ContractFacts = EARLIER
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    # What the list of known noise excused, and what is wrong with the list.
    noise: Sequence[str] = ()
    # What was damaged in the cache, and was made again.
    cache: Sequence[str] = ()
    error: str = ""
    # A signal ended the run. not_run: what had no turn, for whatever reason.
    interrupted: bool = False
    not_run: Sequence[str] = ()
    forced: Outcome | None = None
    # What the kernel and all else of its tree was built in; empty without a sandbox.
    sandbox: str = ""
    # Of the user's patches; None without any.
    coverage: PatchCoverage | None = None

    @property
    def outcome(self) -> Outcome:
        """Any finding of a scenario decides; then what stopped the run; then the scenarios that proved too little."""
        seen = [result.outcome for result in self.scenarios]
        if self.forced is not None:
            seen.append(self.forced)
        if self.coverage is not None and self.coverage.short:
            seen.append(Outcome.INCONCLUSIVE)
        return worst(seen)

    @property
    def title(self) -> str:
        """What was judged: source, commit, patches and configuration."""
        commit = f" ({self.kernel.commit})" if self.kernel.commit else ""
        configs = f", configuration {', '.join(self.configs)}" if self.configs else ""
        return f"{subject(f'{self.source}{commit}', self.patches)}{configs}"

    @property
    def causes(self) -> Sequence[Cause]:
        """What the failures come down to; judging again may find other ones."""
        return causes(self.scenarios)

    @property
    def rates(self) -> Sequence[Rate]:
        """What failed in some rounds and passed in others."""
        return rates(self.scenarios)

    def document(self) -> dict[str, Any]:
        """As verdict.json holds it."""
        phases = ("source", "build", "image", "boot", "restore", "scenarios", "total")
        return {
            "schema": SCHEMA,
            "verdict": self.outcome.value,
            "error": self.error,
            "interrupted": self.interrupted,
            "not_run": list(self.not_run),
            "source": self.source,
            "patches": list(self.patches),
            "configs": list(self.configs),
            "kernel": {
                "release": self.kernel.release,
                "build_id": self.kernel.build_id,
                "cached": self.kernel.cached,
                "commit": self.kernel.commit,
            },
            "contract": self.contract.document(),
            "accel": {"requested": self.accel.requested, "used": self.accel.used, "reason": self.accel.reason},
            "machines": self.machines.document(),
            "causes": [cause.document() for cause in self.causes],
            "rates": [rate.document() for rate in self.rates],
            "scenarios": [result.document() for result in self.scenarios],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped.items()],
            "patch_coverage": self.coverage.document() if self.coverage else None,
            "noise": list(self.noise),
            "cache": list(self.cache),
            "sandbox": self.sandbox,
            "seconds": {
                name: rounded(self.seconds.get(name, 0.0)) for name in {**dict.fromkeys(phases), **self.seconds}
            },
        }

    @classmethod
    def restore(cls, document: Mapping[str, Any]) -> RunVerdict:
        """What document() wrote, now or in an earlier version, once it fits the schema. Raises ValueError."""
        names = [entry["name"] for entry in (*document["scenarios"], *document.get("skipped", ()))]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"two scenarios are called {name!r}")
        kernel, accel, error = document["kernel"], document["accel"], document.get("error", "")
        machines, covered = document.get("machines", {}), document.get("patch_coverage")
        return cls(
            source=str(document["source"]),
            patches=tuple(map(str, document["patches"])),
            configs=tuple(map(str, document["configs"])),
            kernel=KernelFacts(
                str(kernel["release"]),
                str(kernel["build_id"]),
                cached=bool(kernel["cached"]),
                commit=str(kernel.get("commit", "")),
            ),
            accel=AccelFacts(str(accel["requested"]), str(accel["used"]), str(accel["reason"])),
            scenarios=tuple(ScenarioResult.restore(entry) for entry in document["scenarios"]),
            contract=ContractFacts.restore(document.get("contract")),
            machines=MachineFacts(str(machines.get("reason", "")), str(machines.get("from", "none"))),
            skipped={str(entry["name"]): str(entry["reason"]) for entry in document.get("skipped", ())},
            seconds={str(name): float(seconds) for name, seconds in document["seconds"].items()},
            noise=tuple(map(str, document.get("noise", ()))),
            cache=tuple(map(str, document.get("cache", ()))),
            sandbox=str(document.get("sandbox", "")),
            error=str(error),
            interrupted=bool(document.get("interrupted", False)),
            not_run=tuple(map(str, document.get("not_run", ()))),
            forced=Outcome(document["verdict"]) if error else None,
            coverage=PatchCoverage.restore(covered) if covered else None,
        )
