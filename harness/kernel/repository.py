# SPDX-License-Identifier: GPL-2.0-only
"""A revision of a git repository, read from its objects: checkout, index, refs and hooks are never touched.

Nothing is written into the user's repository, not even a worktree entry, and
no checkout is made by git: the harness's own work tree moves by content, so
that a patched header keeps its time when a bisection step does not change it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.kernel.manifest import LINK, PLAIN, PROGRAM, File, Manifest
from harness.kernel.source import KernelSource, check
from harness.model.errors import MachineError, UsageError

_TIMEOUT_S = 300
_MODES = (PLAIN, PROGRAM, LINK)


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
        return self._entries(["-r", self.tree])

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        return self._entries(["--full-tree", self.tree, "--", *paths]) if paths else {}

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files behind entries, streamed through one git cat-file."""
        with tempfile.TemporaryFile() as names, tempfile.TemporaryFile() as errors:
            names.write("".join(f"{entry.split()[1]}\n" for entry in entries.values()).encode())
            names.seek(0)
            argv = ["git", f"--git-dir={self.git_dir}", "cat-file", "--batch", "--buffer"]
            child = process.spawn(argv, env=_environment(), stdin=names, stderr=errors)
            with process.running(child):
                assert child.stdout is not None
                for path, entry in entries.items():
                    head = child.stdout.readline().split()
                    if len(head) != 3:
                        errors.seek(0)
                        said = b" ".join(head).decode() or errors.read().decode(errors="backslashreplace").strip()
                        raise MachineError(
                            f"{self.git_dir}: cannot read {path}: {said}", "git fsck tells what is damaged"
                        )
                    content = child.stdout.read(int(head[2]))
                    child.stdout.read(1)
                    yield path, File(entry.split()[0], content)

    def _entries(self, words: list[str]) -> Manifest:
        done = _git(self.git_dir, "ls-tree", "-z", *words)
        if done.status:
            raise MachineError(f"{self.git_dir}: cannot list {self.tree}: {done.stderr.strip()}")
        manifest: Manifest = {}
        for record in done.stdout.split("\0"):
            if record:
                head, path = record.split("\t", 1)
                mode, _, blob = head.split()
                if mode in _MODES:
                    manifest[path] = f"{mode} {blob}"
        return manifest


def revision(spec: str, rest: str) -> KernelSource:
    """The source at PATH@REV. Unknown repositories and revisions are UsageErrors that name them."""
    path, rev = _split(spec, rest)
    done = process.run(
        ["git", "-C", path, "rev-parse", "--path-format=absolute", "--git-common-dir", f"{rev}^{{tree}}"],
        timeout_s=_TIMEOUT_S,
        env=_environment(),
    )
    if done.status:
        said = done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"git ended with {done.status}"
        if "not a git repository" in said:
            raise UsageError(f"--source {spec}: {path} is no git repository")
        if "dubious ownership" in said:
            raise UsageError(
                f"--source {spec}: {path} belongs to another user, so git does not read it",
                f"git config --global --add safe.directory {path}",
            )
        raise UsageError(
            f"--source {spec}: {path} has no revision {rev!r}", f"git -C {path} log --oneline shows those it has"
        )
    common, tree = done.stdout.splitlines()
    origin = Tree(Path(common), tree)
    lineage = f"git-{workspace.digest(str(Path(common).resolve()))}"
    return KernelSource(spec, f"git-{tree}", check(spec, origin), lineage, origin)


def _split(spec: str, rest: str) -> tuple[Path, str]:
    """PATH and REV; both may hold an @, so the first @ after a directory that exists divides them."""
    for position, letter in enumerate(rest):
        folder, rev = Path(rest[:position] or ".").expanduser().absolute(), rest[position + 1 :]
        if letter == "@" and folder.is_dir():
            if rev and not rev.startswith("-"):
                return folder, rev
            break
    example = "write git:PATH@REV, for example git:.@HEAD"
    path, _, rev = rest.partition("@")
    if not rev or rev.startswith("-"):
        raise UsageError(f"--source {spec}: names no revision", example)
    raise UsageError(f"--source {spec}: {path} is no directory", example)


def _git(git_dir: Path, *words: str) -> process.Completed:
    return process.run(["git", f"--git-dir={git_dir}", *words], timeout_s=_TIMEOUT_S, env=_environment())


def _environment() -> dict[str, str]:
    """The environment of git: no GIT_DIR of a `git bisect run` around us, and no refresh of the index."""
    return process.environment(GIT_OPTIONAL_LOCKS="0")
