# SPDX-License-Identifier: GPL-2.0-only
"""What a tree of files holds: for each path its mode and the name of its content, as git names them.

Git's own names cost nothing where the source is a repository, and make trees
of every origin comparable: two files are the same when their entries are.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host import below
from harness.host.below import Below
from harness.model.errors import MachineError

# path → "MODE BLOB", mode one of the three below. A plain dict of plain strings:
# a kernel has 85,000 entries, and this one loads in 0.1 s.
Manifest = dict[str, str]

PLAIN, PROGRAM, LINK = "100644", "100755", "120000"
_SHA1_LENGTH = len("100644 ") + 40


# Whether any name is not plain, at a fifth of the cost of looking at each.
_SUSPECT = re.compile(r"[\t/](?:\.{0,2}|\.git)[/\0]")
# Linux 6.12 has 85,000 files, and 1.5 GiB of them.
FILES_LIMIT, BYTES_LIMIT = 200_000, 3 << 30


@dataclass(frozen=True)
class File:
    """A file's mode and content; of a symbolic link the content is its target."""

    mode: str
    content: bytes

    @property
    def entry(self) -> str:
        """What a manifest says of this file."""
        return self._named(hashlib.sha1)

    def entry_like(self, other: str) -> str:
        """This file's entry in the object format of another entry: a repository may use SHA-256."""
        return self._named(hashlib.sha256) if len(other) > _SHA1_LENGTH else self.entry

    def fits(self, entry: str) -> bool:
        """Whether an entry is this file's; one of an earlier version has a link's target as pathlib writes it."""
        if self.entry == entry:
            return True
        tidy = os.fsencode(Path(os.fsdecode(self.content)))
        return self.mode == LINK and File(LINK, tidy).entry == entry

    def _named(self, algorithm: Callable[..., hashlib._Hash]) -> str:
        head = b"blob %d\0" % len(self.content)
        return f"{self.mode} {algorithm(head + self.content, usedforsecurity=False).hexdigest()}"


def read_file(root: Below, path: str) -> File | None:
    """A file as it is on disk, links not followed; None when there is no file."""
    found = root.stat(path)
    try:
        if found is None:
            return None
        if stat.S_ISLNK(found.st_mode):
            return File(LINK, root.read_link(path))
        if stat.S_ISREG(found.st_mode):
            return File(PROGRAM if found.st_mode & stat.S_IXUSR else PLAIN, root.read(path))
    except (FileNotFoundError, NotADirectoryError):
        pass  # It went while we looked.
    return None


def write_file(root: Below, path: str, file: File) -> None:
    """Put a file in place, in the place of what was there."""
    if file.mode == LINK:
        root.symlink(path, file.content)
    else:
        root.write(path, file.content, 0o755 if file.mode == PROGRAM else 0o644)


def fault(manifest: Manifest) -> str:
    """Why these files cannot lie in one folder, in words; empty when they can.

    A name must be a plain relative path (harness/host/below.py says why), and
    what one name calls a file another must not call a folder.
    """
    if len(manifest) > FILES_LIMIT:
        return f"{len(manifest)} files (limit {FILES_LIMIT})"
    folders: set[str] = set()
    for path in manifest:
        if wrong := below.fault(path):
            return f"{below.shown(path)}, which {wrong}"
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    both = min((folder for folder in folders if folder in manifest), default="")
    return f"{below.shown(both)} as a file and as a folder" if both else ""


def walk(root: Path) -> Iterator[str]:
    """Every file and link below a folder, as relative paths."""
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(root / folder) as found:
            for item in found:
                path = f"{folder}/{item.name}" if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    yield path


def dump(manifest: Manifest) -> bytes:
    """A manifest as bytes, sorted, in the form of `git ls-tree -z` without the type."""
    return b"".join(os.fsencode(f"{manifest[path]}\t{path}\0") for path in sorted(manifest))


def some(raw: bytes, paths: list[str]) -> Manifest:
    """The entries of those of `paths` that are in what `dump` wrote: 0.1 s cheaper than all of them."""
    found: Manifest = {}
    # Records lie between zeros, and so does the first.
    raw = b"\0" + raw
    for path in paths:
        end = raw.find(b"\t" + os.fsencode(path) + b"\0")
        # A path may contain a tab, and end like another one after it.
        while end >= 0 and (start := raw.rfind(b"\0", 0, end) + 1) and b"\t" in raw[start:end]:
            end = raw.find(b"\t" + os.fsencode(path) + b"\0", end + 1)
        if end >= 0:
            found[path] = os.fsdecode(raw[start:end])
    return found


def load(path: Path) -> Manifest:
    """The manifest that `dump` made, from a file. Raises MachineError for one that cannot be its work."""
    return parse(path.read_bytes(), path)


def parse(raw: bytes, path: Path) -> Manifest:
    """The same from bytes. path: the file that they come from, for the error."""
    manifest: Manifest = {}
    text = os.fsdecode(raw)
    suspect = _SUSPECT.search(text) is not None
    for record in text.split("\0"):
        if record:
            entry, tab, name = record.partition("\t")
            if not tab or (suspect and below.fault(name)):
                raise MachineError(
                    f"{path}: is damaged: {below.shown(record)}", f"rm -r {path.parent}; it is made anew"
                )
            manifest[name] = entry
    return manifest
