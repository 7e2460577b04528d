# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources in tarballs, Debian's packages among them: verified, unpacked once, shared by all runs."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File, Manifest
from harness.kernel.source import KernelSource, check
from harness.model.errors import LaunchError, MachineError, UsageError

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
        return manifests.parse((self.folder / "manifest").read_bytes())

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        return manifests.some((self.folder / "manifest").read_bytes(), paths)

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files behind entries of the manifest. Raises Damaged for a file that is not what was unpacked."""
        for path, entry in entries.items():
            file = manifests.read_file(self.folder / "tree" / path)
            if file is None or file.entry != entry:
                raise workspace.condemn(self.folder, f"tree/{path}")
            yield path, file


def debian(spec: str, version: str, cache: Path, progress: Progress) -> KernelSource:
    """The source in Debian's package linux-source-VERSION."""
    if not re.fullmatch(r"\d+\.\d+", version):
        raise UsageError(f"--source {spec}: {version!r} is no kernel series", "name it like debian:6.12")
    package = f"linux-source-{version}"
    path = Path(f"/usr/src/{package}.tar.xz")
    if not path.is_file():
        raise LaunchError(f"--source {spec}: {path} is missing", f"apt-get install {package}; make run does it")
    return _source(spec, path, cache, progress, lineage=f"debian-{version}", md5=_dpkg_md5(package, path))


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
    _extract(spec, path, inside, progress)
    top = [inside, *(entry for entry in inside.iterdir() if entry.is_dir())]
    root = next((folder for folder in top if (folder / "Makefile").is_file()), inside)
    root.rename(fresh / "tree")
    progress.say(f"{path.name}: hashing its files")
    manifest: Manifest = {}
    for name in manifests.walk(fresh / "tree"):
        file = manifests.read_file(f"{fresh}/tree/{name}")
        if file is not None:
            manifest[name] = file.entry
    (fresh / "manifest").write_bytes(manifests.dump(manifest))
    check(spec, Unpacked(fresh))


def _extract(spec: str, path: Path, inside: Path, progress: Progress) -> None:
    """Feed a tarball to tar, so that progress moves by the bytes that were read."""
    with path.open("rb") as stream, tempfile.TemporaryFile() as errors:
        head = stream.read(8)
        stream.seek(0)
        programs = [program for magic, program in _MAGIC.items() if head.startswith(magic)]
        program = [f"--use-compress-program={' '.join(programs[0])}"] if programs else []
        if programs:
            process.which(programs[0][0])
        argv: list[str | Path] = ["tar", "-x", *program, "--no-same-owner", "-C", inside, "-f", "-"]
        child = process.spawn(argv, stdin=-1, stdout=errors, stderr=errors)
        with process.running(child):
            assert child.stdin is not None
            total, done = path.stat().st_size, 0
            try:
                while chunk := stream.read(_CHUNK):
                    child.stdin.write(chunk)
                    done += len(chunk)
                    progress.advance(f"unpack {path.name}", done >> 20, total >> 20)
                    # tar goes on to the end with each file that has no room, for half a minute.
                    if b"No space left on device" in os.pread(errors.fileno(), _CHUNK, 0):
                        raise workspace.no_space(inside)
                child.stdin.close()
            except BrokenPipeError:
                pass  # tar's own words say why it ended.
            status = child.wait()
        if status:
            errors.seek(0)
            said = errors.read().decode("utf-8", errors="backslashreplace").strip()
            if "No space left on device" in said:
                raise workspace.no_space(inside)
            raise UsageError(
                f"--source {spec}: does not unpack: {said.splitlines()[0] if said else f'tar ended with {status}'}"
            )
