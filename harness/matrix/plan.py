# SPDX-License-Identifier: GPL-2.0-only
"""A plan: the axes of a matrix, what is left out, what comes on top, and what is expected. Read from YAML."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.host import accelerator, workspace
from harness.kernel import config, versions
from harness.matrix.job import AXES, BASE, DEFAULT, Expected, Job
from harness.model import documents, strict_yaml
from harness.model.contract import CHOICES
from harness.model.errors import UsageError
from harness.model.strict_yaml import Mapping as Keys
from harness.model.strict_yaml import offer
from harness.model.verdict import Outcome
from harness.variants import catalogue

_KEYS = ("summary", *AXES.values(), "include", "exclude", "expect", "minutes")
_ENDS = ("verdict", "oracle")
# More than these are no plan for a night, and each takes memory.
LIMIT_JOBS = 100_000
_PATH = re.compile(r"^\$\.?(\w+)(?:\[(\d+)\])?")


@dataclass(frozen=True)
class Plan:
    """What a file asks for. digest: of its text; jobs: in the order of the file, each once."""

    path: Path
    summary: str
    digest: str
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """What the plan is called."""
        return self.path.stem


def read(path: Path, *, kernel: str = "", accel: str = "auto") -> Plan:
    """The plan in a file. Every fault is a UsageError with its line, and the nearest right word.

    kernel: only its jobs, if it is named. accel: what `auto` in the plan stands for.
    """
    text = strict_yaml.read(path)
    keys = strict_yaml.parse(text, str(path))
    keys.only(_KEYS, "a plan")
    keys.need("kernels", "a plan")
    for part, more in (("include", _ENDS), ("exclude", ()), ("expect", _ENDS)):
        entries = keys.get(part) or ()
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Keys):
                entry.only((*AXES, *more), f"an entry of {part}")
    _check(keys)
    jobs = _jobs(keys)
    if not jobs:
        raise UsageError(f"{path}: has no job: everything is excluded", "leave out an entry of exclude")
    if kernel:
        known = dict.fromkeys(job.kernel for job in jobs)
        jobs = [job for job in jobs if job.kernel == kernel]
        if not jobs:
            raise UsageError(f"{path}: has no job for --source {kernel}", offer(kernel, known))
    names: dict[str, Job] = {}
    for job in jobs:
        chosen = job if job.accelerator != "auto" else dataclasses.replace(job, accelerator=accel)
        names.setdefault(chosen.name, chosen)
    return Plan(path, str(keys.get("summary", "")), workspace.digest(text, kernel, accel), tuple(names.values()))


def _check(keys: Keys) -> None:
    """Compare a plan with its schema, and say where it differs."""
    try:
        documents.parse(json.dumps(keys, default=str), "plan")
    except ValueError as fault:
        raise UsageError(f"{_place(keys, str(fault))}: {fault}", "docs/how-to/nightly.md describes a plan") from None


def _place(keys: Keys, fault: str) -> str:
    """`file:line` of what a schema does not allow: of an entry that is a mapping, or of the key that it is in."""
    found = _PATH.match(fault)
    if found is None or found[1] not in keys:
        return keys.at()
    entries = keys[found[1]]
    entry = entries[int(found[2])] if found[2] and isinstance(entries, list) else None
    return entry.at() if isinstance(entry, Keys) else keys.at(found[1])


def _jobs(keys: Keys) -> list[Job]:
    axes = {axis: [_value(axis, entry) for entry in keys.get(plural, [None])] for axis, plural in AXES.items()}
    known = _Known()
    for axis, plural in AXES.items():
        for value in axes[axis]:
            known.check(axis, value, keys.at(plural if plural in keys else None))
    count = math.prod(map(len, axes.values()))
    if count > LIMIT_JOBS:
        raise UsageError(f"{keys.at()}: {count} jobs (limit {LIMIT_JOBS})", "split the plan")
    minutes = float(keys.get("minutes", Job.minutes))
    jobs = [
        Job(**{axis: value for axis, value in zip(axes, point, strict=True) if value is not None}, minutes=minutes)
        for point in itertools.product(*axes.values())
    ]
    for rule in keys.get("exclude", ()):
        left = [job for job in jobs if not _fits(rule, job)]
        if len(left) == len(jobs):
            raise _idle(rule, "exclude")
        jobs = left
    # What is included comes on top of what is left, and is not excluded.
    jobs += [_included(entry, known, minutes) for entry in keys.get("include", ())]
    for rule in keys.get("expect", ()):
        expected = _expected(rule)
        fitting = [place for place, job in enumerate(jobs) if _fits(rule, job)]
        if not fitting:
            raise _idle(rule, "expect")
        for place in fitting:
            jobs[place] = dataclasses.replace(jobs[place], expected=expected)
    return jobs


def _included(entry: Keys, known: _Known, minutes: float) -> Job:
    told = {axis: _value(axis, entry[axis]) for axis in AXES if axis in entry}
    for axis, value in told.items():
        known.check(axis, value, entry.at(axis))
    given = {axis: value for axis, value in told.items() if value is not None}
    return Job(**given, minutes=minutes, expected=_expected(entry))


def _value(axis: str, entry: Any) -> Any:
    """An entry of an axis as a job has it; None for what harness run takes by itself."""
    if axis == "repeat" or entry is None:
        return entry
    words = tuple(entry) if isinstance(entry, list) else (entry,)
    if axis in ("patch", "config", "scenarios"):
        nothing = {"config": (BASE,), "scenarios": (DEFAULT,)}.get(axis)
        return None if words == nothing else words
    if axis == "qemu":
        return None if words == (DEFAULT,) else str(Path(entry).expanduser())
    return entry


def _fits(rule: Mapping[str, Any], job: Job) -> bool:
    """Whether a job is where a rule says, on each axis that the rule names."""
    return all(
        tuple(job.value(axis)) == tuple(map(str, rule[axis] if isinstance(rule[axis], list) else [rule[axis]]))
        for axis in AXES
        if axis in rule
    )


def _idle(rule: Keys, part: str) -> UsageError:
    said = ", ".join(f"{axis}: {rule[axis]}" for axis in AXES if axis in rule)
    return UsageError(f"{rule.at()}: no job has {said}, which {part} names", "harness matrix PLAN --dry-run lists them")


def _expected(entry: Keys) -> Expected:
    verdict = Outcome(entry.get("verdict", Outcome.FAIL if "oracle" in entry else Outcome.PASS))
    oracle = entry.get("oracle", ())
    oracles = (oracle,) if isinstance(oracle, str) else tuple(oracle)
    if oracles and verdict is not Outcome.FAIL:
        raise UsageError(f"{entry.at('oracle')}: only a failure has an oracle", "verdict: fail")
    known = [found["name"] for found in catalogue.listing("oracles")] if oracles else []
    for name in oracles:
        if name not in known:
            raise UsageError(f"{entry.at('oracle')}: unknown oracle {name!r}", offer(name, known))
    return Expected(verdict, oracles)


class _Known:
    """What the words of a plan may be; each is looked at once."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, Any]] = set()

    def check(self, axis: str, value: Any, at: str) -> None:
        """Raise UsageError, with the place in the file, for a word that harness run would not take."""
        if value is None or (axis, value) in self._seen:
            return
        check: Callable[[Any], None] = getattr(self, f"_{axis}")
        with _placed(at):
            check(value)
        self._seen.add((axis, value))

    def _kernel(self, spec: str) -> None:
        kind, colon, rest = spec.partition(":")
        if colon and kind == "debian" and rest:
            return
        path = rest.rpartition("@")[0] if colon and kind == "git" else spec
        if not path or not Path(path).expanduser().exists():
            raise UsageError(f"there is no kernel {spec!r}", offer(spec, versions.sources()))

    def _patch(self, names: Sequence[str]) -> None:
        known = [*sorted(path.name for path in workspace.data("patches").iterdir() if path.is_dir()), "none"]
        for name in names:
            if name == "-":
                raise UsageError("a matrix has no standard input for a patch", "write it to a file")
            if name not in known and not Path(name).expanduser().exists():
                raise UsageError(f"there is no patch {name!r}", offer(name, known))
        if "none" in names and len(names) > 1:
            raise UsageError(f"none beside {', '.join(name for name in names if name != 'none')}", "one of them")

    def _contract(self, name: str) -> None:
        self._one_of(name, CHOICES, "contract")

    def _config(self, names: Sequence[str]) -> None:
        if BASE in names:
            raise UsageError(f"{BASE} is below each configuration", f"leave out {BASE} beside others")
        config.load(names, "")

    def _accelerator(self, name: str) -> None:
        self._one_of(name, ("auto", *accelerator.NAMES), "accelerator")

    def _qemu(self, place: str) -> None:
        if not Path(place).is_absolute():
            raise UsageError(f"{place!r} is not the path of a QEMU", f"{DEFAULT}, or what HARNESS_QEMU takes")

    def _scenarios(self, names: Sequence[str]) -> None:
        if DEFAULT in names:
            raise UsageError(f"{DEFAULT} beside other scenarios: it stands for the default set", "an entry of its own")
        catalogue.choose(names)

    def _repeat(self, _rounds: int) -> None:
        """The schema has the limits."""

    @staticmethod
    def _one_of(name: str, known: Sequence[str], what: str) -> None:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}", offer(name, known))


@contextlib.contextmanager
def _placed(at: str) -> Iterator[None]:
    """Say where in the plan a word is that a usage error is about."""
    try:
        yield
    except UsageError as fault:
        raise UsageError(f"{at}: {fault.message}", fault.hint) from None
