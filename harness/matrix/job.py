# SPDX-License-Identifier: GPL-2.0-only
"""A job of a matrix: one `harness run`, what it must end with, and the names that people and files give it."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.host import accelerator, workspace
from harness.kernel import versions
from harness.model.contract import AUTO, CHOICES
from harness.model.verdict import Outcome

# What a job is, one word for each axis → the key that lists the axis in a plan.
AXES: Mapping[str, str] = {
    "kernel": "kernels",
    "patch": "patches",
    "contract": "contracts",
    "config": "configs",
    "accelerator": "accelerators",
    "qemu": "qemus",
    "scenarios": "scenarios",
    "repeat": "repeats",
}
# The words for nothing on top, for what harness run runs by itself, and for the usual QEMU.
BASE, DEFAULT = "base", "default"
_UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
_PLAIN_KERNEL = re.compile(r"debian:[0-9][0-9.]*")
_PLAIN = re.compile(r"[a-z][a-z0-9-]*[a-z]")
_TAKEN = {*CHOICES, *accelerator.NAMES, BASE, DEFAULT}
# A name is that of a folder, beside which others stand.
_LONGEST = 100


@dataclass(frozen=True)
class Expected:
    """What a job must end with. oracles: of a failure, those that may tell its causes; none for any."""

    verdict: Outcome = Outcome.PASS
    oracles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One point of a matrix. Empty: what harness run takes by itself. minutes: its limit until its time is known."""

    kernel: str = versions.DEFAULT
    patch: tuple[str, ...] = ()
    contract: str = AUTO
    config: tuple[str, ...] = ()
    accelerator: str = "auto"
    qemu: str = ""
    scenarios: tuple[str, ...] = ()
    repeat: int = 1
    expected: Expected = field(default_factory=Expected, compare=False)
    minutes: float = field(default=60.0, compare=False)

    @property
    def name(self) -> str:
        """The name of its folder. Another job has another one."""
        said = "_".join(_UNSAFE.sub("-", word).strip("-.") or "x" for word in self._words())
        if len(said) <= _LONGEST and self._is_plain():
            return said
        return f"{said[:_LONGEST]}-{workspace.digest(*map(repr, self._facts()))[:8]}"

    @property
    def title(self) -> str:
        """The job in words."""
        more = [", ".join(self.config) or BASE]
        more += [self.accelerator] if self.accelerator != "auto" else []
        more += [f"QEMU {self.qemu}"] if self.qemu else []
        rounds = f" × {self.repeat}" if self.repeat > 1 else ""
        return f"{self.subject}, {', '.join(more)}: {', '.join(self.scenarios) or f'the {DEFAULT} set'}{rounds}"

    @property
    def subject(self) -> str:
        """What is judged, and by which contract."""
        contract = f" by {self.contract}" if self.contract != AUTO else ""
        return f"{self.kernel} + {', '.join(self.patch or versions.patch(self.contract))}{contract}"

    @property
    def build(self) -> str:
        """The same for jobs that share a kernel."""
        return shlex.join(dataclasses.replace(self, patch=self.patch or versions.patch(self.contract))._kernel())

    def value(self, axis: str) -> Sequence[str]:
        """What a rule of a plan says for this job's place on an axis."""
        match axis:
            case "patch":
                return self.patch or versions.patch(self.contract)
            case "config":
                return self.config or (BASE,)
            case "scenarios":
                return self.scenarios or (DEFAULT,)
            case "qemu":
                return (self.qemu or DEFAULT,)
        return (str(getattr(self, axis)),)

    def words(self, out: str = "") -> list[str]:
        """The arguments of harness. out: its run directory."""
        words = ["run", *self._kernel(), *self._contract()]
        words += ["--accel", self.accelerator] if self.accelerator != "auto" else []
        words += ["--repeat", str(self.repeat)] if self.repeat > 1 else []
        words += ["--out", out] if out else []
        return [*words, *self.scenarios]

    def build_words(self) -> list[str]:
        """The arguments of harness that only build its kernel and the module for it."""
        return ["build", *self._kernel(), *self._contract()]

    @property
    def command(self) -> str:
        """What a person types for the same."""
        place = f"HARNESS_QEMU={shlex.quote(self.qemu)} " if self.qemu else ""
        return f"{place}harness {shlex.join(self.words())}"

    def document(self) -> dict[str, Any]:
        """As matrix.json holds it."""
        told = asdict(self)
        told["expected"]["verdict"] = self.expected.verdict.value
        return told

    @classmethod
    def restore(cls, told: Mapping[str, Any]) -> Job:
        """What document() wrote, once it fits the schema."""
        expected = Expected(Outcome(told["expected"]["verdict"]), tuple(told["expected"]["oracles"]))
        lists = {name: tuple(told[name]) for name in ("patch", "config", "scenarios")}
        return cls(**{**told, **lists, "expected": expected})

    def _kernel(self) -> list[str]:
        words = ["--source", self.kernel]
        for option, values in (("--patch", self.patch), ("--config", self.config)):
            for value in values:
                words += [option, value]
        return words

    def _contract(self) -> list[str]:
        return ["--contract", self.contract] if self.contract != AUTO else []

    def _facts(self) -> Iterator[object]:
        # No patch is the one that goes with the contract.
        return (getattr(self, axis) if axis != "patch" else self.value(axis) for axis in AXES)

    def _is_plain(self) -> bool:
        """Whether its words, as they are, are a name that no other job has: no path, and no word of another axis."""
        words = (*self.value("patch"), *self.config, *self.scenarios)
        return (
            _PLAIN_KERNEL.fullmatch(self.kernel) is not None
            and not self.qemu
            and all(_PLAIN.fullmatch(word) for word in words)
            and not _TAKEN & {*self.config, *self.scenarios}
        )

    def _words(self) -> Iterator[str]:
        """The parts of the name; what says nothing is left out."""
        yield self.kernel.removeprefix("debian:")
        yield "+".join(map(_short, self.patch or versions.patch(self.contract)))
        if self.contract != AUTO:
            yield self.contract
        yield "+".join(map(_short, self.config)) or BASE
        if self.accelerator != "auto":
            yield self.accelerator
        if self.qemu:
            yield _short(self.qemu)
        yield "+".join(map(_short, self.scenarios)) or DEFAULT
        if self.repeat > 1:
            yield f"x{self.repeat}"


def _short(word: str) -> str:
    """A file by its own name."""
    return Path(word).name or word
