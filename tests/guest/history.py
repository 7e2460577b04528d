# SPDX-License-Identifier: GPL-2.0-only
"""A kernel history in a git repository: real files, a port of MAYFAIL on them, and a dozen commits in mm/."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host.workspace import cache_dir
from harness.kernel import patches, source
from harness.kernel.manifest import File

SOURCE = "debian:6.12"
# Files that none of our configurations compiles: four fifths of a kernel's bytes. Kconfig files and Makefiles stay.
_LEFT_OUT = re.compile(
    r"(Documentation|samples|sound|arch/(?!x86/)[^/]+|drivers/(gpu|media|net/(ethernet|wireless)|infiniband|staging)|tools/(perf|testing))/"
    r".*\.(c|h|S|dts|dtsi|dtso|rst|json|yaml|txt)"
)
_BRANCH = "refs/heads/topic"


@dataclass(frozen=True)
class Edit:
    """A commit that replaces the first `old` of a file by `new`."""

    subject: str
    path: str
    old: str
    new: str


# Bisection tries the sixth of twelve commits first.
BROKEN = "mm/fadvise: name the last byte"
CULPRIT = "mm/rmap: no flags for the range"
EDITS = (
    Edit("mm/msync: an error is an int or longer", "mm/msync.c", "\tint error = -EINVAL;", "\tlong error = -EINVAL;"),
    Edit("mm/mincore: count in an int", "mm/mincore.c", "\tunsigned char present = 0;", "\tunsigned int present = 0;"),
    Edit("mm/page_io: reword", "mm/page_io.c", '"Read-error on swap-device\\n"', '"Read error on a swap device\\n"'),
    Edit("mm/swapfile: reword", "mm/swapfile.c", '"Unable to find swap-space signature\\n"', '"No signature\\n"'),
    Edit("mm/mprotect: drop a const", "mm/mprotect.c", "\tconst bool rier = ", "\tbool rier = "),
    Edit(BROKEN, "mm/fadvise.c", "\tloff_t endbyte;", "\tloff_t last;"),
    Edit("mm/fadvise: call it endbyte again", "mm/fadvise.c", "\tloff_t last;", "\tloff_t endbyte;"),
    Edit("mm/mremap: drop an initial value", "mm/mremap.c", "\tunsigned long ret = -EINVAL;", "\tlong ret = -EINVAL;"),
    Edit(CULPRIT, "mm/rmap.c", "MMU_NOTIFIER_RANGE_MAYFAIL, vma->vm_mm,", "0, vma->vm_mm,"),
    Edit("mm/madvise: say which descriptor", "mm/madvise.c", "\t\treturn -EBADF;", "\t\treturn -EBADF; /* mm's */"),
    Edit("mm/dmapool: reword", "mm/dmapool.c", '"%s %s busy\\n"', '"%s %s is busy\\n"'),
    Edit("mm/fadvise: reword", "mm/fadvise.c", "no bad return value, but ignore advice", "advice is ignored"),
)


@dataclass(frozen=True)
class History:
    """A repository, its good and its bad commit, and all commits between them by subject."""

    folder: Path
    good: str
    bad: str
    commits: dict[str, str]


def git(folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """What git printed; the settings of the user who runs the tests do not count."""
    isolated = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", folder, *words],
        env=(env or dict(os.environ)) | isolated,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(words)}: {done.returncode}\n{done.stdout}"
    return done.stdout


def make(folder: Path, edits: Sequence[Edit] = EDITS, spec: str = SOURCE, *, port: bool = True) -> History:
    """Make the repository of a source, with a port of MAYFAIL on it or without.

    One stream into git: so 60,000 files cost seconds, and none lies in the checkout.
    Every byte is fixed, dates included: the kernels are the same each time,
    and those that were built are found in the store.
    """
    folder.mkdir()
    git(folder, "init", "--quiet", f"--initial-branch={_BRANCH.rpartition('/')[2]}")
    for setting in ("core.compression=0", "core.fsync=none", "fastimport.unpackLimit=0", "gc.auto=0"):
        git(folder, "config", *setting.split("="))
    with subprocess.Popen(["git", "-C", folder, "fast-import", "--quiet", "--depth=0"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.writelines(_stream(edits, spec, port))
    assert child.returncode == 0
    # The checkout has mm/ and the files at the top: nothing looks at the rest.
    git(folder, "sparse-checkout", "set", "--cone", "mm")
    git(folder, "checkout", "--quiet", "--force", "topic")
    newest_first = git(folder, "log", "--format=%H %s").splitlines()
    commits = {subject: sha for sha, _, subject in (line.partition(" ") for line in newest_first)}
    shas = [line.split()[0] for line in newest_first]
    return History(folder, good=shas[len(edits)], bad=shas[0], commits=commits)


def _stream(edits: Sequence[Edit], spec: str, port: bool) -> Iterator[bytes]:
    """The history as git fast-import reads it."""
    kernel = source.fetch(spec, cache_dir())
    series = patches.load(["mayfail"] if port else ["none"], kernel.version)
    entries = {path: entry for path, entry in kernel.origin.manifest().items() if not _LEFT_OUT.fullmatch(path)}
    now: dict[str, File] = {}
    edited = {edit.path for edit in edits}
    yield _commit(f"Linux {kernel.version}", 0)
    for path, file in kernel.origin.read(entries):
        yield _file(path, file)
        if path in edited:
            now[path] = file
    if port:
        yield _commit("mm/mmu_notifier: Mark up direct reclaim paths with MAYFAIL", 1)
    for path, patched in patches.apply(series, kernel, cache_dir()).files.items():
        assert patched is not None, path
        yield _file(path, patched)
        now[path] = patched
    for number, edit in enumerate(edits, 2):
        before = now[edit.path].content
        assert edit.old.encode() in before, edit
        now[edit.path] = File(now[edit.path].mode, before.replace(edit.old.encode(), edit.new.encode(), 1))
        yield _commit(edit.subject, number)
        yield _file(edit.path, now[edit.path])


def _commit(subject: str, number: int) -> bytes:
    return (
        f"commit {_BRANCH}\ncommitter A Developer <dev@example.org> {1_600_000_000 + number} +0000\n"
        f"data {len(subject.encode())}\n{subject}\n"
    ).encode()


def _file(path: str, file: File) -> bytes:
    return b"M %s inline %s\ndata %d\n%s\n" % (file.mode.encode(), os.fsencode(path), len(file.content), file.content)
