# SPDX-License-Identifier: GPL-2.0-only
"""One file = one way to get the patch or the module wrong, or to write the patch otherwise.

NAME.patch goes on top of the patch. NAME.yaml is a scenario in which the module
does something wrong, for faults that no kernel has: its first step plants the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness import oracles
from harness.host import given
from harness.host.workspace import data
from harness.kernel import patches, versions
from harness.model.errors import UsageError
from harness.model.strict_yaml import offer

# The lines at the head of a mutant's file. Those without a default must be there.
_FIELDS = ("SPDX-License-Identifier", "Subject", "Kernels")
_OPTIONAL = ("Expected-oracle", "Also-oracles", "Scenarios", "Timeout", "Equivalent")


@dataclass(frozen=True)
class Mutant:
    """A fault with the oracle that must find it, or a rewrite without a fault.

    expected: the oracle that must find it; empty for an equivalent rewrite,
    which none may find. also: oracles that may speak beside it. scenarios: those
    that should see it; an equivalent rewrite that names none is tried with those
    of all others. kernels: the versions that the file is written for; it serves
    each of them, and the kernels between it and the next one that is served. timeout_s: as in
    `harness run --timeout`, for a mutant that hangs; 0 leaves it to the scenarios.
    """

    name: str
    path: Path
    summary: str
    expected: str
    also: Sequence[str]
    scenarios: Sequence[str]
    kernels: Sequence[str]
    timeout_s: float = 0

    @property
    def equivalent(self) -> bool:
        """It is another right way to write the patch."""
        return not self.expected

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


def port(ports: Sequence[Mutant], version: str) -> Mutant | None:
    """The file for a kernel, which is taken for the nearest one that is served. None: there is no port to it.

    A file that was not tried on a kernel that is served may apply in another
    function there, and be another mutant.
    """
    served = patches.port(versions.PATCH, version)
    return next((mutant for mutant in ports if served in mutant.kernels), None)


def choose(names: Sequence[str], version: str) -> tuple[list[Mutant], list[str]]:
    """The mutants that were named, none for all, as they are for a kernel; and the names that have no port to it.

    A name with a slash is a file of the user's own.
    Those that change a header come last: each recompiles much of a kernel, and
    so does the mutant after it.
    """
    known = catalogue()
    for name in names:
        if "/" in name:
            known[name] = [load(given.path(name))]
        elif name not in known:
            raise UsageError(f"unknown mutant {name!r}", offer(name, known))
    ports = {name: port(known[name], version) for name in names or known}
    chosen = [mutant for mutant in ports.values() if mutant is not None]
    for number, mutant in enumerate(chosen):
        if twin := next((other for other in chosen[:number] if other.name == mutant.name), None):
            raise UsageError(f"two mutants are called {mutant.name!r}: {twin.path} and {mutant.path}", "rename one")
    return sorted(chosen, key=lambda mutant: mutant.costs_headers), [name for name in ports if ports[name] is None]


def scenarios(version: str) -> list[str]:
    """What the faults of the patch are tried with on a kernel, by name."""
    ports = [port(files, version) for files in catalogue().values()]
    faults = [mutant for mutant in ports if mutant is not None and not mutant.equivalent and not mutant.in_module]
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
    )


def _seconds(path: Path, text: str) -> float:
    if not text.isdecimal():
        raise UsageError(f"{path}: Timeout is {text!r}, no whole number of seconds")
    return float(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
