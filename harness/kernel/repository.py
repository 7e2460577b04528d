# SPDX-License-Identifier: GPL-2.0-only
"""A revision of a git repository, read from its objects: checkout, index, refs and hooks are never touched.

Nothing is written into the user's repository, not even a worktree entry, and
no checkout is made by git: the harness's own work tree moves by content, so
that a patched header keeps its time when a bisection step does not change it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host import below, git, given, process, workspace
from harness.kernel import manifest as manifests
from harness.kernel.manifest import LINK, PLAIN, PROGRAM, File, Manifest
from harness.kernel.source import KernelSource, check
from harness.model.errors import MachineError, UsageError

_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# More names than that are not given to git as arguments.
_ARGUMENTS = 1000


@dataclass(frozen=True)
class Tree:
    """A tree object of a repository."""

    git_dir: Path
    tree: str

    @property
    def linkable(self) -> Path | None:
        """Objects are packed; nothing to link."""
        return None

    def manifest(self) -> Manifest:
        """Every file of the tree; submodules are left out, a kernel has none."""
        manifest = self._entries(["-r", self.tree])
        if wrong := manifests.fault(manifest):
            raise UsageError(f"{self.git_dir}: the tree {self.tree[:12]} has {wrong}")
        return manifest

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        if len(paths) > _ARGUMENTS:
            everything = self.manifest()
            return {path: everything[path] for path in paths if path in everything}
        return self._entries(["--full-tree", self.tree, "--", *paths]) if paths else {}

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files behind entries, streamed through one git cat-file."""
        with tempfile.TemporaryFile() as names, tempfile.TemporaryFile() as errors:
            names.write("".join(f"{entry.split()[1]}\n" for entry in entries.values()).encode())
            names.seek(0)
            words = [f"--git-dir={self.git_dir}", "cat-file", "--batch", "--buffer"]
            child = git.spawn(words, stdin=names, stderr=errors)
            with process.running(child):
                assert child.stdout is not None
                total = 0
                for path, entry in entries.items():
                    head = child.stdout.readline().split()
                    if len(head) != 3:
                        errors.seek(0)
                        said = b" ".join(head).decode() or errors.read().decode(errors="backslashreplace").strip()
                        raise MachineError(
                            f"{self.git_dir}: cannot read {path}: {said}",
                            "git fsck tells what is damaged; git fetch --refetch --no-filter completes a partial clone",
                        )
                    size = int(head[2])
                    total += size
                    self._bound(path, size, below.FILE_LIMIT)
                    self._bound("its files", total, manifests.BYTES_LIMIT)
                    content = child.stdout.read(size)
                    child.stdout.read(1)
                    yield path, File(entry.split()[0], content)

    def _bound(self, what: str, size: int, limit: int) -> None:
        if size > limit:
            raise UsageError(
                f"{self.git_dir}: the tree {self.tree[:12]}: {what}: {size >> 20} MiB (limit {limit >> 20} MiB)"
            )

    def _entries(self, words: list[str]) -> Manifest:
        answer = git.run([f"--git-dir={self.git_dir}", "ls-tree", "-z", *words])
        if answer.cut:
            raise UsageError(f"{self.git_dir}: the tree {self.tree[:12]}: {answer.reason} (limit)")
        if answer.status:
            raise MachineError(f"{self.git_dir}: cannot list {self.tree}: {answer.reason}")
        manifest: Manifest = {}
        for record in answer.records:
            head, path = record.split("\t", 1)
            mode, kind, blob = head.split()
            if path in manifest:
                raise UsageError(f"{self.git_dir}: the tree {self.tree[:12]} has {below.shown(path)} twice")
            if kind == "blob":
                manifest[path] = f"{_canonical(int(mode, 8))} {blob}"
        return manifest


def revision(spec: str, rest: str) -> KernelSource:
    """The source at PATH@REV. Unknown repositories and revisions are UsageErrors that name them."""
    found = files(spec, rest)
    return dataclasses.replace(found, version=check(spec, found.origin))


def files(spec: str, rest: str) -> KernelSource:
    """The same of any repository, without a version: it need not hold a kernel."""
    path, rev = _split(spec, rest)
    git_dir = located(f"--source {spec}", path)
    named = git.run(["rev-parse", "--verify", "--end-of-options", f"{rev}^{{tree}}"], cwd=path)
    tree = os.fsdecode(named.output).strip()
    if named.status or not _OBJECT.fullmatch(tree):
        raise UsageError(
            f"--source {spec}: {path} has no revision {rev!r}", f"git -C {path} log --oneline shows those it has"
        )
    lineage = f"git-{workspace.digest(str(git_dir.resolve()))}"
    return KernelSource(spec, f"git-{tree}", "", lineage, Tree(git_dir, tree), commit=_commit(path, rev))


def _commit(path: Path, rev: str) -> str:
    """The name of a commit, and the first line of its message; empty for a revision that is a tree."""
    named = git.run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"], cwd=path)
    name = os.fsdecode(named.output).strip()
    if named.status or not _OBJECT.fullmatch(name):
        return ""
    said = git.run(["cat-file", "commit", name], cwd=path)
    _, _, message = said.output.partition(b"\n\n")
    subject = message.partition(b"\n")[0].decode("utf-8", "replace").strip()
    return f"{name[:12]} {subject}".rstrip()


def located(named: str, path: Path) -> Path:
    """The repository that a folder is in. UsageError, which begins with the option as it was named, when in none."""
    found = git.run(["rev-parse", "--path-format=absolute", "--git-common-dir"], cwd=path)
    if "not a git repository" in found.errors:
        raise UsageError(f"{named}: {path} is no git repository")
    if "dubious ownership" in found.errors:
        raise UsageError(
            f"{named}: {path} belongs to another user, so git does not read it",
            f"git config --global --add safe.directory {path}",
        )
    if found.status:
        raise UsageError(f"{named}: {path}: {found.reason}")
    return Path(os.fsdecode(found.output).removesuffix("\n"))


def _canonical(mode: int) -> str:
    """The mode of a file as git takes it: trees of old repositories hold others, such as 100664."""
    if stat.S_ISLNK(mode):
        return LINK
    return PROGRAM if mode & stat.S_IXUSR else PLAIN


def _split(spec: str, rest: str) -> tuple[Path, str]:
    """PATH and REV; both may hold an @, so the first @ after a directory that exists divides them."""
    for position, letter in enumerate(rest):
        if letter == "@" and given.is_folder(folder := rest[:position] or "."):
            rev = rest[position + 1 :]
            if rev and not rev.startswith("-"):
                return given.path(folder), rev
            break
    example = "write git:PATH@REV, for example git:.@HEAD"
    path, _, rev = rest.partition("@")
    if not rev or rev.startswith("-"):
        raise UsageError(f"--source {spec}: names no revision", example)
    raise UsageError(f"--source {spec}: {path} is no directory", example)
