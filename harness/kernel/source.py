# SPDX-License-Identifier: GPL-2.0-only
"""A kernel source by its spec: a Debian package, a tarball, a directory, or a revision of a git repository."""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.host import given
from harness.host.progress import QUIET, Progress
from harness.kernel.manifest import File, Manifest
from harness.model.errors import UsageError

FORMS = "a source is debian:VERSION, debian:latest, a directory, a tarball or git:PATH@REV; harness list sources"

# Without these no configuration is possible; a directory that lacks one is not a kernel.
MARKS = ("Makefile", "Kconfig", "scripts/kconfig/merge_config.sh")

_NUMBERS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){2}")
_EXTRA = re.compile(r"[A-Za-z0-9._+~-]{0,64}")


class Origin(Protocol):
    """Where the files of a source come from. Reading never changes it."""

    @property
    def linkable(self) -> Path | None:
        """A folder of ours whose files may be hard-linked into a work tree, if there is one."""

    def manifest(self) -> Manifest:
        """Every file of the source."""

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist; cheaper than all of them."""

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files behind entries of this source, in any order."""


@dataclass(frozen=True)
class KernelSource:
    """One state of a kernel's source.

    id names the content: same id, same files. version is what its Makefile
    says, such as 6.12.117. lineage names the work tree that this source shares with
    its earlier and later states.
    """

    spec: str
    id: str
    version: str
    lineage: str
    # Of a revision that is a commit: its name, and the first line of its message.
    commit: str = dataclasses.field(default="", compare=False, kw_only=True)
    origin: Origin = dataclasses.field(compare=False, repr=False)

    def in_lane(self, number: int) -> KernelSource:
        """The same, in another work tree for each number but 0, so that several states are built side by side."""
        return dataclasses.replace(self, lineage=f"{self.lineage}-lane{number}") if number else self


def fetch(spec: str, cache: Path, progress: Progress = QUIET) -> KernelSource:
    """Find a source, unpack it at the first use, and name its content.

    Raises UsageError for what is not a kernel source, LaunchError for a Debian
    package that is neither installed nor to be had from Debian's archive.
    """
    # These modules import KernelSource, so they cannot be imported before it exists.
    from harness.kernel import archive, directory, repository

    if "\0" in spec:
        raise UsageError(f"--source {spec!r}: has a NUL", FORMS)
    kind, colon, rest = spec.partition(":")
    if colon and kind == "built":
        raise UsageError(f"--built {rest}: is built already, and this needs a source", "name its source with --source")
    if colon and kind == "debian":
        return archive.debian(spec, rest, cache, progress)
    if colon and kind == "git":
        return repository.revision(spec, rest)
    path, mode = given.path(spec), given.kind("--source", spec, FORMS)
    if stat.S_ISDIR(mode):
        return directory.state(spec, path, cache, progress)
    if stat.S_ISREG(mode):
        return archive.tarball(spec, path, cache, progress)
    raise UsageError(f"--source {spec}: is neither a directory nor a file", FORMS)


def check(spec: str, origin: Origin) -> str:
    """The version of a kernel source, or UsageError when it is none."""
    entries = origin.some(list(MARKS))
    for mark in MARKS:
        if mark not in entries:
            raise UsageError(f"--source {spec}: is no kernel source: it has no {mark}", FORMS)
    found = dict(origin.read({"Makefile": entries["Makefile"]}))
    version = kernel_version(found["Makefile"].content.decode("utf-8", errors="replace")) if found else None
    if version is None:
        raise UsageError(f"--source {spec}: is no kernel source: its Makefile has no VERSION and PATCHLEVEL", FORMS)
    return version


def kernel_version(makefile: str) -> str | None:
    """The version that the head of a kernel's Makefile spells: 6.12.117, 6.13.0-rc2."""
    said = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)", makefile, re.MULTILINE))
    version = f"{said.get('VERSION')}.{said.get('PATCHLEVEL')}.{said.get('SUBLEVEL') or '0'}"
    extra = said.get("EXTRAVERSION", "")
    return version + extra if _NUMBERS.fullmatch(version) and _EXTRA.fullmatch(extra) else None


def series(version: str) -> tuple[int, int]:
    """The part of a version that decides which port of a patch fits: (6, 12)."""
    found = re.match(r"([0-9]{1,6})\.([0-9]{1,6})(?![0-9])", version)
    if found is None:
        raise UsageError(f"{version!r}: is no kernel version", "a version begins like 6.12")
    return int(found[1]), int(found[2])
