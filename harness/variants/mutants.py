# SPDX-License-Identifier: GPL-2.0-only
"""One file = one way to get the patch or the module wrong, or to write the patch otherwise.

NAME.patch goes on top of the patch, or on a stock kernel, as its contracts say.
NAME.yaml is a scenario in which the module does something wrong, for faults
that no kernel has: its first step plants the fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness import oracles
from harness.host import given
from harness.host.workspace import data
from harness.kernel import patches, versions
from harness.model.contract import Contract
from harness.model.errors import UsageError
from harness.model.strict_yaml import offer

# The lines at the head of a mutant's file. Those without a default must be there.
_FIELDS = ("SPDX-License-Identifier", "Subject", "Kernels")
_HISTORY = ("Introduced-by", "Fixed-by")
_OPTIONAL = ("Expected-oracle", "Also-oracles", "Scenarios", "Configs", "Timeout", "Equivalent", "Contract", *_HISTORY)
_COMMIT = re.compile(r'[0-9a-f]{7,40} \("[^"]+"\) \(in v\d+\.\d+\)')


@dataclass(frozen=True)
class Mutant:
    """A fault with the oracle that must find it, or a rewrite without a fault.

    expected: the oracle that must find it; empty for an equivalent rewrite,
    which none may find. also: oracles that may speak beside it. scenarios: those
    that should see it; an equivalent rewrite that names none is tried with those
    of all others. kernels: the versions that the file is written for; it serves
    each of them, and the kernels between it and the next one that is served. timeout_s: as in
    `harness run --timeout`, for a mutant that hangs; 0 leaves it to the scenarios.
    configs: the fragments without which its lines are not built, or not reached.
    contracts: those whose good kernels it can be applied to, and is then judged by. history: the commits of Linux that
    brought the fault or ended it, where Linux really had it.
    """

    name: str
    path: Path
    summary: str
    expected: str
    also: Sequence[str]
    scenarios: Sequence[str]
    kernels: Sequence[str]
    timeout_s: float = 0
    contracts: Sequence[Contract] = (Contract.MAYFAIL,)
    history: Sequence[str] = ()
    configs: tuple[str, ...] = ()

    @property
    def base(self) -> tuple[Contract, tuple[str, ...]]:
        """What it breaks: the good kernel of a contract, with more fragments than others need."""
        return self.contract, self.configs

    @property
    def equivalent(self) -> bool:
        """It is another right way to write the patch."""
        return not self.expected

    @property
    def contract(self) -> Contract:
        """The one that it is tried by: the first."""
        return self.contracts[0]

    @property
    def in_module(self) -> bool:
        """The module is at fault, not the kernel."""
        return self.path.suffix == ".yaml"

    @cached_property
    def costs_headers(self) -> bool:
        """It changes a header, and so recompiles much of a kernel."""
        return b"\n+++ b/include/linux/mmu_notifier.h" in self.path.read_bytes()


def catalogue() -> dict[str, list[Mutant]]:
    """Every mutant by name, each with its ports; they are all equivalent rewrites, or none of them is."""
    found: dict[str, list[Mutant]] = {}
    for path in sorted(path for path in data("mutants").rglob("*") if path.suffix in (".patch", ".yaml")):
        found.setdefault(path.stem, []).append(load(path))
    return dict(sorted(found.items(), key=lambda item: (item[1][0].equivalent, item[0])))


def port(ports: Sequence[Mutant], version: str, contract: Contract = Contract.MAYFAIL) -> Mutant | None:
    """The file for a kernel, which is taken for the nearest one that is served. None: there is no port to it.

    contract: the one that the kernel keeps without the mutant.

    A file that was not tried on a kernel that is served may apply in another
    function there, and be another mutant.
    """
    served = patches.port(versions.PATCH, version)
    return next((file for file in ports if served in file.kernels and contract in file.contracts), None)


def choose(
    names: Sequence[str], version: str, contracts: Sequence[Contract] = tuple(Contract)
) -> tuple[list[Mutant], list[str]]:
    """The mutants that were named, none for all, as they are for a kernel; and the names that have no port to it.

    Each has one contract: the first of these that there is a file for.
    A name with a slash is a file of the user's own.
    Those that change a header come last: each recompiles much of a kernel, and
    so does the mutant after it.
    """
    known = catalogue()
    for name in names:
        if "/" in name:
            known[name] = [load(given.path(name))]
        elif name not in known:
            raise UsageError(f"unknown mutant {name!r}", offer(name, known, "harness list mutants"))
    chosen: list[Mutant] = []
    missing = []
    every = [name for name, ports in known.items() if any(set(contracts) & set(file.contracts) for file in ports)]
    for name in dict.fromkeys(names or every):
        files = ((contract, port(known[name], version, contract)) for contract in contracts)
        mutant = next((replace(file, contracts=(contract,)) for contract, file in files if file is not None), None)
        if mutant is None:
            missing.append(name)
            continue
        if twin := next((other for other in chosen if other.name == mutant.name), None):
            raise UsageError(f"two mutants are called {mutant.name!r}: {twin.path} and {mutant.path}", "rename one")
        chosen.append(mutant)
    return sorted(chosen, key=lambda mutant: mutant.costs_headers), missing


def scenarios(version: str, contract: Contract = Contract.MAYFAIL) -> list[str]:
    """What the faults are tried with on a kernel of a contract, by name."""
    ports = [port(files, version, contract) for files in catalogue().values()]
    faults = [
        mutant
        for mutant in ports
        if mutant is not None and not mutant.equivalent and not mutant.in_module and not mutant.configs
    ]
    return sorted({name for mutant in faults for name in mutant.scenarios})


def load(path: Path) -> Mutant:
    """Read the head of a mutant's file: `Key: value` lines up to the first empty one, in a scenario behind a '#'."""
    module = path.suffix == ".yaml"
    said: dict[str, str] = {}
    for number, line in enumerate(given.text("mutant", str(path)).splitlines(), 1):
        if not line or (module and not line.startswith("# ")):
            break
        key, colon, value = line.removeprefix("# " if module else "").partition(":")
        if not colon or key not in (*_FIELDS, *_OPTIONAL) or key in said:
            what = "is there twice" if key in said else "is no field of a mutant"
            raise UsageError(f"{path}:{number}: {key!r} {what}", offer(key, [*_FIELDS, *_OPTIONAL]))
        said[key] = value.strip()
    for key in _FIELDS:
        if not said.get(key):
            raise UsageError(f"{path}: a mutant needs a line '{key}: …'")
    expected = said.get("Expected-oracle", "")
    if (said.get("Equivalent") == "yes") == bool(expected):
        raise UsageError(f"{path}: needs one of 'Expected-oracle: NAME' and 'Equivalent: yes'")
    also = _words(said.get("Also-oracles", ""))
    for name in filter(None, (expected, *also)):
        if name not in oracles.catalogue():
            raise UsageError(f"{path}: unknown oracle {name!r}", offer(name, oracles.catalogue()))
    if expected and not module and not said.get("Scenarios"):
        raise UsageError(f"{path}: a mutant needs a line 'Scenarios: …' with those that should see it")
    return Mutant(
        name=path.stem,
        path=path,
        summary=said["Subject"],
        expected=expected,
        also=also,
        scenarios=(str(path),) if module else _words(said.get("Scenarios", "")),
        kernels=_words(said["Kernels"]),
        timeout_s=_seconds(path, said.get("Timeout", "0")),
        contracts=_contracts(path, said.get("Contract", Contract.MAYFAIL.value)),
        history=_history(path, said),
        configs=tuple(_words(said.get("Configs", ""))),
    )


def _contracts(path: Path, text: str) -> tuple[Contract, ...]:
    names = _words(text)
    if not names:
        raise UsageError(f"{path}: Contract names no contract", f"one of {', '.join(Contract)}, or both")
    for name in names:
        if name not in list(Contract):
            raise UsageError(f"{path}: unknown contract {name!r}", offer(name, list(Contract)))
    return tuple(Contract(name) for name in names)


def _history(path: Path, said: Mapping[str, str]) -> tuple[str, ...]:
    for key in _HISTORY:
        if key in said and not _COMMIT.fullmatch(said[key]):
            raise UsageError(f"{path}: {key} is {said[key]!r}, no commit", '12 hex digits, ("subject"), (in vX.Y)')
    return tuple(f"{key}: {said[key]}" for key in _HISTORY if key in said)


def _seconds(path: Path, text: str) -> float:
    if not text.isdecimal():
        raise UsageError(f"{path}: Timeout is {text!r}, no whole number of seconds")
    return float(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
