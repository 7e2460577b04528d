# SPDX-License-Identifier: GPL-2.0-only
"""run.json: what a run was asked to do, and on what it does it; written as it begins.

A run that was killed is judged and resumed from it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.model.contract import EARLIER, ContractFacts
from harness.model.run import BUILT, AccelFacts, KernelFacts, RunVerdict
from harness.model.verdict import Outcome

NAME = "run.json"
SCHEMA = 1
# How often scenarios are run in all; a name takes a hundred bytes of memory.
_LIMIT = 2_000_000


@dataclass(frozen=True)
class Begun:
    """A run that has begun. files: the name and text of each file that its scenarios come from.

    folder: where it was called, for names that are relative. kernel and used
    are known once the kernel is built; inputs: what went into the kernel, as a
    digest; image: the key of what its guests carry. id, began_s: by which the
    history knows the run again, and when it began, in seconds since 1970 (UTC).
    """

    source: str
    patches: Sequence[str]
    configs: Sequence[str]
    compiler: str
    accel: str
    jobs: int
    repeat: int
    timeout_s: float
    record: bool
    maxfail: int
    coverage: float | None
    changed_since: str
    folder: str
    files: Mapping[str, str]
    scenarios: Sequence[str]
    contract: ContractFacts = EARLIER
    kernel: KernelFacts = field(default_factory=lambda: KernelFacts("", "", cached=False))
    used: AccelFacts = field(default_factory=lambda: AccelFacts("", "", ""))
    inputs: str = ""
    image: str = ""
    # A file with the user's whole .config; an earlier version knew none.
    base_config: str = ""
    # What the tree is built in; empty without a sandbox.
    sandbox: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    # An earlier version wrote neither.
    id: str = ""
    began_s: float = 0.0

    @property
    def rounds(self) -> Sequence[tuple[str, str]]:
        """What is to be run, in order: the scenario, and the name that it has in the run."""
        return [
            (name, f"{name}.{number}" if self.repeat > 1 else name)
            for number in range(1, self.repeat + 1)
            for name in self.scenarios
        ]

    @property
    def _base(self) -> Sequence[str]:
        """What the configurations that were asked for go on top of; a kernel that was built elsewhere has none."""
        if self.source.startswith(BUILT):
            return ()
        return (self.base_config, "guest") if self.base_config else ("base",)

    def document(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def restore(cls, document: Mapping[str, Any]) -> Begun:
        """What document() wrote, once it fits the schema. Raises ValueError."""
        told = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        for name, count in Counter(told["scenarios"]).items():
            if count > 1:
                raise ValueError(f"two scenarios are called {name!r}")
        if told["repeat"] * len(told["scenarios"]) > _LIMIT:
            raise ValueError(f"{told['repeat']} × {len(told['scenarios'])} scenarios (limit {_LIMIT})")
        kernel, used = KernelFacts(**told["kernel"]), AccelFacts(**told["used"])
        contract = ContractFacts.restore(document.get("contract"))
        return cls(**told | {"kernel": kernel, "used": used, "contract": contract})

    def unjudged(self) -> RunVerdict:
        """The verdict of the run before anything is judged."""
        return RunVerdict(
            source=self.source,
            patches=tuple(self.patches),
            configs=tuple(dict.fromkeys((*self._base, *self.configs))),
            kernel=self.kernel,
            accel=AccelFacts(self.accel, self.used.used, self.used.reason),
            contract=self.contract,
            scenarios=(),
            skipped=self.skipped,
            sandbox=self.sandbox,
            interrupted=True,
            not_run=tuple(name for scenario, name in self.rounds if not {scenario, name} & self.skipped.keys()),
            forced=Outcome.ERROR,
        )
