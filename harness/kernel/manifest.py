# SPDX-License-Identifier: GPL-2.0-only
"""What a tree of files holds: for each path its mode and the name of its content, as git names them.

Git's own names cost nothing where the source is a repository, and make trees
of every origin comparable: two files are the same when their entries are.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# path → "MODE BLOB", mode one of the three below. A plain dict of plain strings:
# a kernel has 85,000 entries, and this one loads in 0.1 s.
Manifest = dict[str, str]

PLAIN, PROGRAM, LINK = "100644", "100755", "120000"


@dataclass(frozen=True)
class File:
    """A file's mode and content; of a symbolic link the content is its target."""

    mode: str
    content: bytes

    @property
    def entry(self) -> str:
        """What a manifest says of this file."""
        head = b"blob %d\0" % len(self.content)
        return f"{self.mode} {hashlib.sha1(head + self.content, usedforsecurity=False).hexdigest()}"


def read_file(path: Path | str) -> File | None:
    """A file as it is on disk, links not followed; None when there is no file."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return File(LINK, os.fsencode(Path(path).readlink()))
        if not stat.S_ISREG(mode):
            return None
        with open(path, "rb") as stream:  # noqa: PTH123 - called 85,000 times with strings; Path() would double the time
            return File(PROGRAM if mode & stat.S_IXUSR else PLAIN, stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_file(path: Path, file: File) -> None:
    """Put a file in place under a new inode, so that a hard link elsewhere keeps its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if file.mode == LINK:
        path.symlink_to(os.fsdecode(file.content))
        return
    path.write_bytes(file.content)
    path.chmod(0o755 if file.mode == PROGRAM else 0o644)


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


def parse(raw: bytes) -> Manifest:
    """The manifest that `dump` wrote."""
    manifest: Manifest = {}
    for record in os.fsdecode(raw).split("\0"):
        if record:
            entry, path = record.split("\t", 1)
            manifest[path] = entry
    return manifest
