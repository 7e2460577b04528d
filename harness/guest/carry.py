# SPDX-License-Identifier: GPL-2.0-only
"""What is carried into a guest and out of it: files, folders, modules. A guest sees nothing else of the host."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness.guest.agent import GuestResult
from harness.guest.console import clean
from harness.guest.machine import Machine
from harness.model.errors import UsageError, unreadable

# A guest keeps its files in memory, of which the usual one has 512 MiB.
LIMIT_BYTES = 64 << 20
LIMIT_FILES = 10_000
SHARE = "/share"


def put(machine: Machine, source: Path, there: str, timeout_s: float = 30.0) -> str:
    """Copy a file of ours to a path in the guest, or into a folder there if it ends with "/"; returns the path."""
    content = _content(source)
    path = str(PurePosixPath(there) / source.name) if there.endswith("/") else there
    make_folder(machine, path, timeout_s)
    machine.agent.write_file(path, content, timeout_s)
    if os.access(source, os.X_OK):
        demand(machine.run("chmod", "755", path, timeout_s=timeout_s))
    return path


def share(machine: Machine, folder: Path, there: str = SHARE, timeout_s: float = 60.0) -> None:
    """Copy a folder of ours, as it is now, to a place of its own in the guest, where nothing can be changed.

    A link stays a link, whatever it names here. What is neither a file, a folder nor a link is left out.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", "name one whose content is to be in the guest")
    packed = _packed(folder)
    machine.run("mkdir", "-p", there, timeout_s=timeout_s)
    for argv, given in (
        (("mount", "-t", "tmpfs", "-o", "mode=0755", "share", there), b""),
        (("tar", "-x", "-C", there), packed),
        (("mount", "-o", "remount,ro", there), b""),
    ):
        demand(machine.run(*argv, timeout_s=timeout_s, stdin=given))


def load(machine: Machine, module: Path, *parameters: str, timeout_s: float = 30.0) -> None:
    """Copy a module's file into the guest and load it. Raises OSError with the guest's words."""
    path = put(machine, module, "/tmp/", timeout_s)  # noqa: S108 - of the guest
    demand(machine.run("insmod", path, *parameters, timeout_s=timeout_s))


def make_folder(machine: Machine, path: str, timeout_s: float) -> None:
    """Make the folder that a file in the guest is to be in."""
    parent = str(PurePosixPath(path).parent)
    if parent not in ("/", "/tmp", "/root", "."):  # noqa: S108 - of the guest
        demand(machine.run("mkdir", "-p", parent, timeout_s=timeout_s))


def demand(done: GuestResult) -> GuestResult:
    """Raises OSError for a command of the guest that failed."""
    if done.status:
        said = clean(done.stderr).strip() or f"status {done.status}"
        raise OSError(0, f"in the guest: {said}", done.command)
    return done


def _content(source: Path) -> bytes:
    try:
        size = source.stat().st_size
        if not source.is_file():
            raise UsageError(f"{source}: not a file")
        if size > LIMIT_BYTES:
            raise UsageError(f"{source}: {size} bytes (limit {LIMIT_BYTES}): a guest keeps files in its memory")
        return source.read_bytes()
    except OSError as error:
        raise unreadable(error, f"{source}: cannot be read: {error.strerror}", "name a file of this machine") from None


def _packed(folder: Path) -> bytes:
    """The folder as a tar archive, of files that belong to the guest's root."""
    packed = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for count, path in enumerate(_walk(folder), 1):
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(folder)))
            total += entry.size
            if count > LIMIT_FILES or total > LIMIT_BYTES:
                raise UsageError(
                    f"{folder}: more than {LIMIT_FILES} files or {LIMIT_BYTES >> 20} MiB (limit): "
                    "a guest keeps files in its memory",
                    "name a smaller folder",
                )
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            if not entry.isreg():
                archive.addfile(entry)
                continue
            content = _content(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _walk(folder: Path) -> Iterator[Path]:
    """Files, folders and links below a folder, without following any link, in the order of their names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(error, f"{folder}: cannot be read: {error.strerror}") from None
    for entry in entries:
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            yield Path(entry.path)
        if stat.S_ISDIR(mode):
            yield from _walk(Path(entry.path))
