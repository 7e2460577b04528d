# SPDX-License-Identifier: GPL-2.0-only
"""A user's own source directory, edited or not: only read, and named by its content at every call."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.host import below, git, workspace
from harness.host.below import Below
from harness.host.progress import Progress
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File, Manifest
from harness.kernel.source import KernelSource, check
from harness.model.errors import MachineError, UsageError

# Repositories inside the source; a kernel has none, a developer may have a few drivers of his own.
_REPOSITORIES_LIMIT = 100

# A file that was changed this shortly before we read it may change again within
# the same tick of the file system's clock, and its facts would not show it (git
# calls such entries racily clean). Such a file is read again next time.
_RACY_NS = 100_000_000

# What a build in the source leaves there, as git's exclude patterns. make would find
# any of it before the files of the object tree (the kernel's Makefile sets VPATH).
_PRODUCTS = (
    *("*.o", "*.o.*", "*.ko", "*.a", "*.so", "*.mod", "*.mod.c", "*.lex.c", "*.tab.[ch]", ".*.cmd", ".*.d", ".tmp_*"),
    *("modules.order", "modules.builtin*", "Module.symvers", "/vmlinux*", "/System.map", "/.version", "/.config*"),
    *("/include/config/", "/include/generated/", "/arch/*/include/generated/", "/.vmlinux*", "/.missing-syscalls.d"),
)
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class Snapshot:
    """What a directory held when it was listed."""

    root: Path
    entries: Manifest = field(repr=False)

    @property
    def linkable(self) -> Path | None:
        """The user's files are edited in place, so they are never linked."""
        return None

    def manifest(self) -> Manifest:
        """Every file that is source: neither git's own nor a product of a build."""
        return dict(self.entries)

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        return {path: self.entries[path] for path in paths if path in self.entries}

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files as they are now; a caller that needs them as listed compares the entries."""
        with Below(self.root) as door:
            for path in entries:
                file = manifests.read_file(door, path)
                if file is not None:
                    yield path, file


def state(spec: str, root: Path, cache: Path, progress: Progress) -> KernelSource:
    """The source in a directory, as it is now."""
    root = root.resolve()
    lineage = f"dir-{workspace.digest(str(root))}"
    # Checked before 85,000 files of somebody's home folder are read.
    if not (root / "Makefile").is_file() or not (root / "Kconfig").is_file():
        raise UsageError(f"--source {spec}: is no kernel source: it has no Makefile and Kconfig")
    memory = cache / "sources" / f"{lineage}.known"
    with workspace.lock(cache / "locks" / f"{lineage}.known.lock", progress, spec):
        entries = _entries(spec, root, _listing(spec, root, cache), memory, progress)
    if wrong := manifests.fault(entries):
        raise UsageError(f"--source {spec}: has {wrong}")
    origin = Snapshot(root, entries)
    return KernelSource(spec, f"dir-{workspace.digest(manifests.dump(entries))}", check(spec, origin), lineage, origin)


def _listing(spec: str, root: Path, cache: Path) -> list[str]:
    """The files that are source: in a git checkout what is tracked or not ignored, elsewhere what no build makes.

    A repository inside, which git lists as a folder, is listed in the same way.
    """
    found: list[str] = []
    pending = [""]
    while pending:
        inside = pending.pop()
        for path in _listed(spec, root / inside, cache):
            if path.endswith("/"):
                if wrong := below.fault(path.rstrip("/")):
                    raise UsageError(f"--source {spec}: has {below.shown(path)}, which {wrong}")
                pending.append(f"{inside}{path}")
            else:
                found.append(f"{inside}{path}")
        if len(pending) > _REPOSITORIES_LIMIT:
            raise UsageError(f"--source {spec}: has {len(pending)} repositories in it (limit {_REPOSITORIES_LIMIT})")
    return found


def _listed(spec: str, root: Path, cache: Path) -> list[str]:
    # A repository's core.worktree must not have another folder listed.
    words: list[str | Path] = [f"--work-tree={root}", "ls-files", "-z", "--others"]
    if (root / ".git").exists():
        words += ["--cached", "--exclude-standard"]
    else:
        # Not by .gitignore: Debian's own source package ignores everything at the top.
        empty = cache / "sources" / "empty.git"
        if not workspace.whole(empty):
            _init(empty)
        words = [f"--git-dir={empty}", *words, *(f"--exclude={pattern}" for pattern in _PRODUCTS)]
    answer = git.run(words, cwd=root, GIT_CEILING_DIRECTORIES=os.fspath(root.parent))
    if answer.status:
        raise UsageError(f"--source {spec}: cannot be listed: {answer.reason}")
    return answer.records


def _init(empty: Path) -> None:
    """Make an empty repository: `git ls-files` needs one to look at a folder that is not a repository."""
    with workspace.lock(empty.with_name("empty.git.lock")):
        if not workspace.whole(empty):
            with workspace.publishing(empty) as fresh:
                answer = git.run(["init", "-q", "--bare", fresh])
                if answer.status:
                    raise MachineError(f"git init: {answer.reason}")


def _entries(spec: str, root: Path, paths: list[str], memory: Path, progress: Progress) -> Manifest:
    """Name the content of each file; a file whose size, times and inode are as remembered is not read again."""
    known = _remembered(memory)
    now = time.time_ns()
    entries: Manifest = {}
    facts: dict[str, str] = {}
    read = 0
    with Below(root) as door:
        for path in paths:
            if wrong := below.fault(path):
                raise UsageError(f"--source {spec}: has {below.shown(path)}, which {wrong}")
            found = door.stat(path)
            if found is None:
                continue  # Deleted by the user, or behind a link by now, but still in git's index.
            fact = f"{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}.{found.st_ino}"
            before = known.get(path)
            if before is not None and before[0] == fact:
                entries[path] = before[1]
            elif stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
                if found.st_size > below.FILE_LIMIT:
                    raise UsageError(
                        f"--source {spec}: {path} has {found.st_size >> 20} MiB (limit {below.FILE_LIMIT >> 20} MiB)",
                        "no file of a kernel is so large: move it away, or let git ignore it",
                    )
                file = manifests.read_file(door, path)
                if file is None:
                    continue
                # A program that a build left, such as scripts/basic/fixdep: no kernel's source holds programs.
                entries[path] = "" if file.content.startswith(_ELF) else file.entry
                read += 1
                if read % 1000 == 0:
                    progress.advance(f"read {root.name}", len(entries), len(paths))
            else:
                continue
            if now - max(found.st_mtime_ns, found.st_ctime_ns) > _RACY_NS:
                facts[path] = fact
    if read or len(known) != len(facts):
        lines = (f"{fact}\t{entries[path]}\t{path}\0" for path, fact in facts.items())
        workspace.remember(memory, os.fsencode("".join(lines)))
    return {path: entry for path, entry in entries.items() if entry}


def _remembered(memory: Path) -> dict[str, tuple[str, str]]:
    """Facts and entry by path, as the last call left them; nothing when there was no call or the file is damaged."""
    records = os.fsdecode(workspace.recall(memory) or b"").split("\0")
    return {path: (fact, entry) for fact, entry, path in (line.split("\t", 2) for line in records if line)}
