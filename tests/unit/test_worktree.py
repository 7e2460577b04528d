# SPDX-License-Identifier: GPL-2.0-only
"""The work tree moves by content."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.host import workspace
from harness.host.below import Below
from harness.host.progress import QUIET
from harness.kernel import worktree
from harness.kernel.manifest import PLAIN, File, read_file, walk
from harness.kernel.source import KernelSource, fetch
from tests.unit.conftest import Said, git, rot

PATCHED = File(PLAIN, b"int patched;\n")


def bring(cache: Path, source: KernelSource, overlay: worktree.Overlay) -> Path:
    manifest = worktree.wanted(source, overlay)
    return worktree.bring(worktree.place(cache, source.lineage), source, overlay, manifest, QUIET)


def holds(tree: Path) -> dict[str, str]:
    with Below(tree) as door:
        files = {path: read_file(door, path) for path in walk(tree)}
    return {path: file.entry for path, file in files.items() if file}


def times(tree: Path) -> dict[str, int]:
    return {path: (tree / path).lstat().st_mtime_ns for path in walk(tree)}


def test_only_what_differs_is_written(toy: Path, cache: Path):
    """There and back: the patched file is written twice, and no other file's time changes."""
    source = fetch(str(toy), cache)
    tree = bring(cache, source, {})
    before = times(tree)

    bring(cache, source, {"mm/rmap.c": PATCHED, "mm/new/new.c": PATCHED, "Kconfig": None})
    assert (tree / "mm/rmap.c").read_bytes() == PATCHED.content
    assert not (tree / "Kconfig").exists()
    bring(cache, source, {})

    after = times(tree)
    assert {path for path in before if before[path] != after[path]} == {"mm/rmap.c", "Kconfig"}
    assert holds(tree) == source.origin.manifest()
    assert not (tree / "mm/new").exists()


@pytest.mark.usefixtures("toy")
def test_a_pristine_tree_survives_its_patched_links(tmp_path: Path, cache: Path):
    """A work tree links the unpacked tarball's files, and patching cuts the link instead of writing through it."""
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", tmp_path, "toy"], check=True)
    source = fetch(str(tmp_path / "x.tar"), cache)

    tree = bring(cache, source, {})
    pristine = source.origin.linkable
    assert pristine is not None
    assert (tree / "mm/rmap.c").samefile(pristine / "mm/rmap.c")
    bring(cache, source, {"mm/rmap.c": PATCHED})

    assert b"start(0)" in (pristine / "mm/rmap.c").read_bytes()


def test_a_move_that_was_killed_is_finished(toy: Path, cache: Path):
    """The marker of a move that did not end makes the next move look at every file."""
    source = fetch(str(toy), cache)
    tree = bring(cache, source, {})
    (tree.parent / "moving").touch()
    (tree / "mm/rmap.c").write_text("half")
    (tree / "mm/left.c").write_text("over")

    bring(cache, source, {})

    assert holds(tree) == source.origin.manifest()
    assert not (tree.parent / "moving").exists()


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
def test_a_rotten_list_of_what_the_tree_holds_is_made_again(toy: Path, cache: Path, kind: str):
    """Every file is looked at; those that are right keep their time, so nothing is compiled for it."""
    source = fetch(str(toy), cache)
    tree = bring(cache, source, {})
    before = times(tree)
    rot(tree.parent / "manifest", kind)

    bring(cache, source, {})

    assert times(tree) == before
    # And the next time nobody looks.
    assert workspace.recall(tree.parent / "manifest") is not None


def test_a_first_filling_that_was_killed_starts_over(toy: Path, cache: Path):
    """Without a manifest neither files nor objects are believed."""
    source = fetch(str(toy), cache)
    tree = bring(cache, source, {})
    (tree.parent / "manifest").unlink()
    (tree.parent / "objects").mkdir()
    (tree / "mm/rmap.c").unlink()

    bring(cache, source, {})

    assert holds(tree) == source.origin.manifest()
    assert not (tree.parent / "objects").exists()


def test_a_revision_moves_only_what_it_changes(repository: Path, cache: Path):
    """A commit that changes one file changes one file's time; a header that a patch holds stays as it is."""
    first = fetch(f"git:{repository}@HEAD", cache)
    (repository / "mm/rmap.c").write_text("int other;\n")
    git(repository, "commit", "-qam", "other")
    overlay = {"include/linux/mmu_notifier.h": PATCHED}
    tree = bring(cache, first, overlay)
    before = times(tree)

    bring(cache, fetch(f"git:{repository}@HEAD", cache), overlay)

    assert {path for path, time in times(tree).items() if before[path] != time} == {"mm/rmap.c"}


def test_a_directory_edited_under_our_hands_is_noticed(toy: Path, cache: Path, said: Said):
    """A kernel is never built from a state that was not named; the tree is whole, so the next look costs little."""
    source = fetch(str(toy), cache, said)
    (toy / "mm/rmap.c").write_text("edited\n")
    (toy / "lib/Kconfig").unlink()

    with pytest.raises(worktree.Edited, match=r"lib/Kconfig and 1 more: not what it was"):
        bring(cache, source, {})

    tree = worktree.place(cache, source.lineage) / "tree"
    assert not (tree.parent / "moving").exists()
    before = times(tree)
    again = fetch(str(toy), cache, said)
    bring(cache, again, {})
    assert holds(tree) == again.origin.manifest()
    assert times(tree) == before
