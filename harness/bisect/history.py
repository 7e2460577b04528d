# SPDX-License-Identifier: GPL-2.0-only
"""The commits between two revisions, and what is known of each; the repository is only read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.bisect.search import Space, ancestry
from harness.host import git, given
from harness.kernel import repository
from harness.model.errors import MachineError, UsageError

# For each commit, a bit for each commit in its history: 110 MB.
COMMITS_LIMIT = 30_000
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color")


@dataclass(frozen=True)
class Commit:
    """What a commit says of itself."""

    sha: str
    parents: Sequence[str]
    author: str
    date: str
    subject: str
    body: str = ""

    @property
    def short(self) -> str:
        """As a Fixes: line and people name it."""
        return f'{self.sha[:12]} ("{self.subject}")'


@dataclass(frozen=True)
class History:
    """The commits of `bad` that `good` lacks; the candidates among them are those that touch `paths`, or all.

    bases: where good and bad have parted, when good is not an ancestor of bad.
    """

    folder: Path
    git_dir: Path
    good: str
    bad: str
    bases: Sequence[str]
    paths: Sequence[str]
    space: Space = field(repr=False)

    def commit(self, sha: str) -> Commit:
        """Read a commit; its text is what its author wrote, and may hold anything."""
        answer = _asked(self.git_dir, "cat-file", "commit", sha)
        head, _, text = answer.decode("utf-8", errors="backslashreplace").partition("\n\n")
        parents = re.findall(r"^parent (\w+)$", head, re.MULTILINE)
        author = re.search(r"^author (.*) (-?\d{1,12}) [+-]\d{4}$", head, re.MULTILINE)
        subject, _, body = text.strip("\n").partition("\n")
        return Commit(sha, parents, author[1] if author else "", author[2] if author else "", subject, body.strip())

    def parent(self, sha: str) -> str:
        """The first parent of a commit."""
        parents = self.commit(sha).parents
        if not parents:
            raise MachineError(f"{self.git_dir}: {sha} has no parent")
        return parents[0]

    def stat(self, sha: str) -> str:
        """What a commit changes, a line for each file."""
        words = ("diff-tree", "--stat=100", *_PLAIN, self.parent(sha), sha)
        return _asked(self.git_dir, *words).decode("utf-8", errors="backslashreplace").rstrip("\n")

    def reverse(self, sha: str) -> bytes:
        """The diff that takes a commit back; that of a merge takes back all that came in with it."""
        words = ("diff-tree", "-p", "-R", "--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", *_PLAIN)
        return _asked(self.git_dir, *words, self.parent(sha), sha)

    def changed(self, one: str, other: str) -> list[str]:
        """The files that differ between two commits."""
        answer = _asked(self.git_dir, "diff-tree", "-r", "-z", "--name-only", *_PLAIN, one, other)
        return [os.fsdecode(name) for name in answer.split(b"\0") if name]


def read(tree: str, good: str, bad: str, paths: Sequence[str] = ()) -> History:
    """The history between two revisions of the repository in a folder.

    Raises UsageError for a revision that does not exist, for one that does not
    lead to the other, and for more commits than can be held.
    """
    if not given.is_folder(tree):
        raise UsageError(f"--tree {tree}: is no directory")
    folder = given.path(tree)
    git_dir = repository.located(f"--tree {tree}", folder)
    first, last = (_revision(folder, option, name) for option, name in (("--good", good), ("--bad", bad)))
    bases = _lines(_asked(git_dir, "merge-base", "--all", first, last, fine=(0, 1)))
    if not bases:
        raise UsageError(f"--good {good} --bad {bad}: have no history in common")
    if last in bases:
        hint = (
            "the order is --good OLD --bad NEW; a failure that went away is searched with --test and a negated command"
        )
        raise UsageError(
            f"--bad {bad}: is in the history of --good {good}"
            if first != last
            else "--good and --bad: are the same commit",
            hint,
        )
    count = int(_asked(git_dir, "rev-list", "--count", last, f"^{first}"))
    if count > COMMITS_LIMIT:
        raise UsageError(
            f"--good {good} --bad {bad}: {count} commits between them (limit {COMMITS_LIMIT})",
            "try a release between the two by hand, and name the half that changes",
        )
    order, parents = [], {}
    for line in _lines(_asked(git_dir, "rev-list", "--topo-order", "--reverse", "--parents", last, f"^{first}")):
        sha, *before = line.split()
        order.append(sha)
        parents[sha] = before
    candidates = order
    if paths:
        touching = set(_lines(_asked(git_dir, "rev-list", "--full-history", last, f"^{first}", "--", *paths)))
        candidates = [sha for sha in order if sha in touching]
        if not candidates:
            raise UsageError(f"-- {' '.join(paths)}: no commit between --good and --bad touches them")
    holds = ancestry(order, parents, candidates)
    states = candidates if candidates[-1] == last else [*candidates, last]
    space = Space(tuple(candidates), tuple(states), tuple(holds[sha] for sha in states))
    parted = [base for base in bases if base != first]
    return History(folder, git_dir, first, last, parted, tuple(paths), space)


def _revision(folder: Path, option: str, name: str) -> str:
    answer = git.run(["rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"], cwd=folder)
    sha = os.fsdecode(answer.output).strip()
    if answer.status or not _OBJECT.fullmatch(sha):
        raise UsageError(
            f"{option} {name}: {folder} has no such revision", f"git -C {folder} log --oneline shows those it has"
        )
    return sha


def _asked(git_dir: Path, *words: str, fine: Sequence[int] = (0,)) -> bytes:
    answer = git.run([f"--git-dir={git_dir}", *words])
    if answer.cut or answer.status not in fine:
        raise MachineError(f"{git_dir}: git {words[0]}: {answer.reason}", "git fsck tells what is damaged")
    return answer.output


def _lines(output: bytes) -> list[str]:
    return output.decode("ascii").splitlines()
