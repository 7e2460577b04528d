# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources in tarballs, Debian's packages among them: verified, unpacked once, shared by all runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from harness.host import below, process, workspace
from harness.host.below import Below, Refused
from harness.host.progress import Progress
from harness.kernel import apt
from harness.kernel import manifest as manifests
from harness.kernel.manifest import LINK, PLAIN, PROGRAM, File, Manifest
from harness.kernel.source import KernelSource, check
from harness.model.errors import HarnessError, MachineError, UsageError

# By content, because a name says nothing about a file that somebody renamed.
_MAGIC = {
    b"\xfd7zXZ\0": ("xz", "-T0"),  # Debian packs in blocks, which unpack in parallel.
    b"\x1f\x8b": ("gzip",),
    b"BZh": ("bzip2",),
    b"\x28\xb5\x2f\xfd": ("zstd",),
}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Unpacked:
    """A pristine tree in the cache, with the manifest that was made when it was unpacked."""

    folder: Path

    @property
    def linkable(self) -> Path | None:
        """The pristine tree: work trees link its files, and replace them but never rewrite them."""
        return self.folder / "tree"

    def manifest(self) -> Manifest:
        """Every file, as unpacked."""
        return manifests.load(self.folder / "manifest")

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        return manifests.some((self.folder / "manifest").read_bytes(), paths)

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files behind entries of the manifest. Raises Damaged for a file that is not what was unpacked."""
        with Below(self.folder / "tree") as tree:
            for path, entry in entries.items():
                file = manifests.read_file(tree, path)
                if file is None or not file.fits(entry):
                    raise workspace.condemn(self.folder, f"tree/{path}")
                yield path, file


def debian(spec: str, version: str, cache: Path, progress: Progress) -> KernelSource:
    """The source in Debian's package linux-source-VERSION: that which the host has installed, else the archive's."""
    if version == "latest":
        version = apt.offers(cache, progress).latest or version
        progress.say(f"{spec} is debian:{version}")
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,4}", version):
        raise UsageError(f"--source {spec}: {version!r} is no kernel series", "name it like debian:6.12, debian:latest")
    path = apt.installed(version)
    md5 = _dpkg_md5(f"linux-source-{version}", path)
    if not path.is_file():
        path, md5 = apt.fetch(spec, version, cache, progress), ""
    return _source(spec, path, cache, progress, lineage=f"debian-{version}", md5=md5)


def tarball(spec: str, path: Path, cache: Path, progress: Progress) -> KernelSource:
    """The source in a tarball of the user's."""
    return _source(spec, path, cache, progress, lineage="", md5="")


def _source(spec: str, path: Path, cache: Path, progress: Progress, lineage: str, md5: str) -> KernelSource:
    name = _identity(path, cache, progress, md5)
    folder = cache / "sources" / name
    if not workspace.whole(folder, progress, path.name):
        with workspace.lock(cache / "locks" / f"{name}.lock", progress, path.name):
            if not workspace.whole(folder, progress, path.name):
                with workspace.publishing(folder) as fresh:
                    _unpack(spec, path, fresh, progress)
    origin = Unpacked(folder)
    return KernelSource(spec, name, check(spec, origin), lineage or name, origin)


def _identity(path: Path, cache: Path, progress: Progress, md5: str) -> str:
    """The content's name: hashed and verified when the file is new, remembered while its size and time stay."""
    facts = path.stat()
    key = workspace.digest("sealed", str(path), str(facts.st_size), str(facts.st_mtime_ns), md5)
    seen = cache / "sources" / "seen" / key
    if known := workspace.recall(seen):
        return known.decode()
    progress.say(f"{path.name}: verifying")
    ours, theirs = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            ours.update(chunk)
            theirs.update(chunk)
    if md5 and theirs.hexdigest() != md5:
        raise MachineError(
            f"{path}: is damaged: its md5 is {theirs.hexdigest()}, dpkg has {md5}",
            f"apt-get install --reinstall {path.name.removesuffix('.tar.xz')}",
        )
    name = f"tar-{ours.hexdigest()[:20]}"
    workspace.remember(seen, name)
    return name


def _dpkg_md5(package: str, path: Path) -> str:
    """The file's md5 according to dpkg; empty when the file came some other way."""
    listing = Path(f"/var/lib/dpkg/info/{package}.md5sums")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            md5, _, name = line.partition("  ")
            if Path("/") / name == path:
                return md5
    return ""


def _unpack(spec: str, path: Path, fresh: Path, progress: Progress) -> None:
    """Unpack into `fresh`: the kernel as `tree`, and its `manifest`."""
    inside = fresh / "unpacked"
    inside.mkdir()
    with Below(inside) as door:
        try:
            everything = _extract(spec, path, door, progress)
        except Refused as error:
            raise UsageError(f"--source {spec}: {error.message.removeprefix(f'{inside}: ')}") from None
    if wrong := manifests.fault(everything):
        raise UsageError(f"--source {spec}: has {wrong}")
    tops = sorted({path.partition("/")[0] for path in everything if "/" in path})
    top = (
        "" if "Makefile" in everything else next((f"{name}/" for name in tops if f"{name}/Makefile" in everything), "")
    )
    (inside / top).rename(fresh / "tree")
    shutil.rmtree(inside, ignore_errors=True)
    manifest = {name.removeprefix(top): entry for name, entry in everything.items() if name.startswith(top)}
    (fresh / "manifest").write_bytes(manifests.dump(manifest))
    check(spec, Unpacked(fresh))


def _extract(spec: str, path: Path, door: Below, progress: Progress) -> Manifest:
    """Write the files of a tarball, all of them or none that stays, and name their content.

    Not by tar(1), which run as root also makes devices and set-user-ID programs.
    """
    with path.open("rb", buffering=0) as file, tempfile.TemporaryFile() as errors, contextlib.ExitStack() as stack:
        head = file.read(8)
        file.seek(0)
        programs = [program for magic, program in _MAGIC.items() if head.startswith(magic)]
        child = None
        stream: IO[bytes] = file
        if programs:
            child = stack.enter_context(
                process.running(process.spawn([*programs[0], "-dc"], stdin=file, stderr=errors))
            )
            assert child.stdout is not None
            stream = child.stdout
        try:
            manifest = _members(_Forward(spec, stream), door, lambda: _advance(file, path, progress))
        except HarnessError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise  # The disk's, not the tarball's.
            raise _damaged(spec, child, errors, error) from error
        except Exception as error:  # What tarfile raises for a hostile header is nowhere listed.
            raise _damaged(spec, child, errors, error) from error
        if child is not None and child.wait():
            raise _damaged(spec, child, errors, None)
    return manifest


def _members(stream: _Forward, door: Below, advance: Callable[[], None]) -> Manifest:
    """Write each member through the door."""
    manifest: Manifest = {}
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # It would keep them all.
            name = _plain(member.name)
            if ".git" in name.split("/") or not name:
                continue  # Git's own is no source, in a directory neither.
            if member.isdir():
                continue
            if len(manifest) >= manifests.FILES_LIMIT:
                raise stream.refused(f"more than {manifests.FILES_LIMIT} files (limit)")
            if member.issym():
                file = File(LINK, os.fsencode(member.linkname))
            elif member.islnk():
                other = manifests.read_file(door, _plain(member.linkname))
                if other is None:
                    raise stream.refused(
                        f"{below.shown(name)} is a hard link to {below.shown(member.linkname)}, which is not there"
                    )
                file = other
            elif member.isreg():
                if member.size > below.FILE_LIMIT:
                    raise stream.refused(
                        f"{below.shown(name)} has {member.size >> 20} MiB (limit {below.FILE_LIMIT >> 20} MiB)"
                    )
                source = tar.extractfile(member)
                assert source is not None
                file = File(PROGRAM if member.mode & stat.S_IXUSR else PLAIN, source.read())
                if len(file.content) != member.size:
                    raise stream.refused(f"{below.shown(name)} is cut at {len(file.content)} of {member.size} bytes")
            else:
                raise stream.refused(f"{below.shown(name)} is neither a file, a folder nor a link")
            stream.makes(len(file.content))
            manifests.write_file(door, name, file)
            manifest[name] = file.entry
            if len(manifest) % 500 == 0:
                advance()
    stream.end()
    return manifest


def _plain(name: str) -> str:
    """A member's name without what means nothing in it: ./a//b is a/b."""
    return "/" * name.startswith("/") + "/".join(part for part in name.split("/") if part not in ("", "."))


def _advance(file: IO[bytes], path: Path, progress: Progress) -> None:
    # The program that unpacks shares our file, and so our position in it.
    done = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    progress.advance(f"unpack {path.name}", done >> 20, path.stat().st_size >> 20)


def _damaged(
    spec: str, child: subprocess.Popen[bytes] | None, errors: IO[bytes], error: Exception | None
) -> UsageError:
    """Why a tarball does not unpack: by the program that unpacks it, else by what we found in it."""
    if child is not None:
        process.kill_group(child)
        errors.seek(0)
        said = errors.read(1000).decode("utf-8", errors="backslashreplace").strip()
        if said:
            return UsageError(f"--source {spec}: does not unpack: {said.splitlines()[0]}")
    return UsageError(f"--source {spec}: does not unpack: {error or 'it is damaged'}")


class _Forward:
    """A tarball's bytes as tarfile reads them: forward only, so never without end, and within limits."""

    def __init__(self, spec: str, stream: IO[bytes]) -> None:
        self._spec = spec
        self._stream = stream
        self._position = 0
        self._made = 0
        self._last = b""

    def makes(self, size: int) -> None:
        """Count a file of so many bytes: a hard link and a sparse file take less in a tarball. Raises UsageError."""
        self._made += size
        if self._made > manifests.BYTES_LIMIT:
            raise self.refused(f"more than {manifests.BYTES_LIMIT >> 30} GiB of files (limit)")

    def refused(self, why: str) -> UsageError:
        """The error for a tarball that is not taken."""
        return UsageError(f"--source {self._spec}: {why}", "tar --exclude-vcs leaves git's own files out")

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._position

    def seek(self, position: int) -> None:
        """Go forward."""
        if position < self._position:
            raise tarfile.ReadError(f"a header leads back from byte {self._position} to {position}")
        while position > self._position:
            if not self.read(min(position - self._position, _CHUNK)):
                raise tarfile.ReadError(f"is cut at byte {self._position}")

    def read(self, size: int) -> bytes:
        """Read, like a file. UsageError beyond the limits."""
        if not 0 <= size <= below.FILE_LIMIT:
            raise tarfile.ReadError(f"a header asks for {size} bytes (limit {below.FILE_LIMIT})")
        self._last = self._stream.read(size)
        self._position += len(self._last)
        if self._position > manifests.BYTES_LIMIT:
            raise self.refused(f"unpacks to more than {manifests.BYTES_LIMIT >> 20} MiB (limit)")
        return self._last

    def end(self) -> None:
        """Read what is behind the last member; tarfile takes a damaged header for the end, this does not."""
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"is damaged or cut at byte {self._position}")
        while self.read(_CHUNK):
            pass
