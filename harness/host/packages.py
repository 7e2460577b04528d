# SPDX-License-Identifier: GPL-2.0-only
"""How to get a program that is missing: the package that has it, by the name that this system gives it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import workspace

# As in setup/packages.sh.
OS_RELEASE = Path("/etc/os-release")
# The system whose names are tried, by the words of ID and ID_LIKE, for those that are no system of ours themselves.
_LIKE = {"rhel": "fedora", "centos": "fedora", "manjaro": "arch", "suse": "opensuse", "sles": "opensuse"}
# What a system that nobody knows is told: how these do it.
USUAL = ("debian", "ubuntu", "fedora", "arch")
# A program that comes with the package of another one.
_WITH = {"ld": "gcc"}
_WORD = re.compile(r"[a-z0-9._+-]{1,64}")


@dataclass(frozen=True)
class System:
    """A Linux distribution: its column in setup/packages.tsv, and the command that installs."""

    name: str
    column: str
    install: str


_SYSTEMS = {
    name: System(name, column, install)
    for name, column, install in (
        ("debian", "debian", "apt-get install"),
        ("ubuntu", "debian", "apt-get install"),
        ("fedora", "fedora", "dnf install"),
        ("arch", "arch", "pacman -S --needed"),
        ("opensuse", "opensuse", "zypper install"),
        ("alpine", "alpine", "apk add"),
    )
}


def systems(os_release: Path | None = None) -> Sequence[System]:
    """The system that /etc/os-release names, or else every usual one. os_release: read in its place."""
    path = os_release or Path(os.environ.get("HARNESS_OS_RELEASE", OS_RELEASE))
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    said: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name in ("ID", "ID_LIKE"):
            try:
                said[name] = " ".join(shlex.split(value))
            except ValueError:
                continue
    for word in f"{said.get('ID', '')} {said.get('ID_LIKE', '')}".lower().split():
        known = _LIKE.get(word, word.partition("-")[0])
        if known in _SYSTEMS:
            return [_SYSTEMS[known]]
    return [_SYSTEMS[name] for name in USUAL]


def commands(missing: Collection[str], os_release: Path | None = None) -> list[str]:
    """How to install what is missing, a line for each system that it may be: programs, or rows of the table."""
    rows = _table()
    lines = []
    for system in systems(os_release):
        found = (rows.get(_WITH.get(name, name), {}).get(system.column, "-") for name in missing)
        names = sorted({name for name in found if name != "-" and _WORD.fullmatch(name.lower())})
        if names:
            lines.append(f"{system.name}: sudo {system.install} {' '.join(names)}")
    return lines


def _table() -> Mapping[str, Mapping[str, str]]:
    """Program, and tool → system → package, as setup/packages.tsv has them."""
    path = workspace.data("setup") / "packages.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if line.startswith("# need\t")).removeprefix("# ").split("\t")
    found: dict[str, Mapping[str, str]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            row = dict(zip(head, line.split("\t"), strict=True))
            found[row["tool"]] = found[row["probe"]] = row
    return found
