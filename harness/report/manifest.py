# SPDX-License-Identifier: GPL-2.0-only
"""manifest.json: the digest of each file that a run is judged from, so that a rotten file is no fault of a kernel.

It is written last: a run that was killed has none, nor has a run of an earlier
version, and both are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.host.workspace import write_atomic
from harness.model import begun, documents, files
from harness.model.errors import MachineError, UsageError
from harness.report.text import one_line

NAME = "manifest.json"
SCHEMA = 1
# In a scenario's folder: what it is judged, decoded, repeated and done again from.
EVIDENCE = ("scenario.yaml", "record.json", "console.log", "postmortem.txt", "tape.json", "tape.gz")
# Of all scenarios together; tape.json has digests of these two.
_SHARED = ("kernel/vmlinux", "kernel/initrd.cpio")

Digests = Mapping[str, str]


def evidence(folder: Path, scenarios: Iterable[str]) -> Iterator[str]:
    """The files of a run that are to be trusted, as paths below it.

    Raises UsageError when one, or a folder that it is in, is a link, a pipe or the like.
    """
    places = [begun.NAME, *(f"{name}/{file}" for name in scenarios for file in EVIDENCE)]
    places += [f"events/{name}.bin" for name in scenarios]
    places += [f"kernel/modules/{path.name}" for path in sorted((folder / "kernel" / "modules").glob("*.ko"))]
    for place in places:
        if _is_there(folder, place):
            yield place
    for place in _SHARED:
        _is_there(folder, place)


def read(folder: Path) -> Digests | None:
    """The manifest of a run, None when it has none. Raises MachineError for one that is damaged."""
    if not _is_there(folder, NAME):
        return None
    try:
        digests: Digests = documents.read(folder / NAME, "manifest")["files"]
    except (OSError, ValueError) as fault:
        raise MachineError(f"{folder / NAME}: is damaged: {fault}", "copy the run again") from None
    return digests


def write(folder: Path, digests: Digests) -> None:
    """Write the manifest of a run."""
    document = {"schema": SCHEMA, "files": dict(sorted(digests.items()))}
    write_atomic(folder / NAME, json.dumps(document, indent=1) + "\n")


def digest(content: bytes) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(content).hexdigest()


def digests(folder: Path, scenarios: Iterable[str]) -> dict[str, str]:
    """The digests of the evidence()."""
    found = {}
    for place in evidence(folder, list(scenarios)):
        with (folder / place).open("rb") as stream:
            found[place] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def compare(folder: Path, listed: Digests, found: Digests) -> None:
    """Raise MachineError for the first file that is not as it was when the run ended."""
    for place in sorted({*listed, *found}):
        if place not in found:
            fault = "is missing"
        elif place not in listed:
            fault = f"is not listed in {NAME}"
        elif listed[place] != found[place]:
            fault = f"its SHA-256 is not the one in {NAME}"
        else:
            continue
        raise MachineError(f"{folder / place}: is damaged: {fault}", "copy the run again")


def doubts(folder: Path) -> Iterator[str]:
    """What to tell of a run without a manifest."""
    if not (folder / NAME).exists():
        yield f"{'unverified':12} {one_line(str(folder))}: has no {NAME}; a damaged file would not be noticed"


def _is_there(folder: Path, place: str) -> bool:
    try:
        return files.is_below(folder, place)
    except files.NotRegular as fault:
        raise UsageError(f"{fault.filename}: {fault.strerror}", "name a folder that harness run wrote") from None
