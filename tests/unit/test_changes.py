# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a patched source are the user's."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.kernel import changes, patches
from harness.kernel.changes import Changed
from harness.kernel.patches import Patch, PatchSeries
from harness.kernel.source import KernelSource, fetch
from harness.model.errors import UsageError
from tests.unit.conftest import git

RMAP = "mm/rmap.c"
LINES = st.lists(st.sampled_from([b"a", b"b", b"", b"}"]), max_size=12)


@pytest.fixture
def source(toy: Path, cache: Path) -> KernelSource:
    return fetch(str(toy), cache)


def edits(path: str, *texts: str, mine: Sequence[bool]) -> PatchSeries:
    """A series whose patches each turn one text of a file into the next; mine: which of them are the user's."""
    found = []
    for number, ((before, after), own) in enumerate(zip(itertools.pairwise(texts), mine, strict=True)):
        names = [f"a/{path}" if before else "/dev/null", f"b/{path}" if after else "/dev/null"]
        body = "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), names[0], names[1]))
        mode = "new file mode 100644\n" if not before else "deleted file mode 100644\n" if not after else ""
        text = f"diff --git a/{path} b/{path}\n{mode}{body}".encode()
        found.append(Patch(f"{number}", text, builtin=not own))
    return PatchSeries(("x",), tuple(found))


def changed(source: KernelSource, cache: Path, *texts: str, mine: Sequence[bool], path: str = RMAP) -> Changed:
    return changes.changed(edits(path, *texts, mine=mine), source, cache).get(path, Changed())


def test_only_lines_of_the_users_are_told_wherever_other_patches_move_them(source: KernelSource, cache: Path):
    before = (Path(source.spec) / RMAP).read_text()
    ours = before.replace("int try", "int ours;\nint try", 1)
    both = ours.replace("\treturn", "\tmine();\n\treturn")
    at = both.splitlines().index("\tmine();") + 1

    assert changed(source, cache, before, ours, both, mine=[False, True]) == Changed((at,))
    # The built-in patch on top of the user's.
    mine = before.replace("\treturn", "\tmine();\n\treturn")
    assert changed(source, cache, before, mine, both, mine=[True, False]) == Changed((at,))
    assert changed(source, cache, before, ours, mine=[False]) == Changed()


def test_a_series_is_followed_through_its_patches(source: KernelSource, cache: Path):
    """What a later patch takes away again is nobody's, and a line that it moves is where it moves it to."""
    before = (Path(source.spec) / RMAP).read_text()
    first = before.replace("\treturn", "\tone();\n\ttwo();\n\treturn")
    second = first.replace("\tone();\n", "").replace("int try", "\n\nint try", 1)

    lines = changed(source, cache, before, first, second, mine=[True, True])
    text = second.splitlines()

    assert [text[line - 1] for line in lines.added] == ["", "", "\ttwo();"]
    assert changed(source, cache, before, first, before, mine=[True, True]) == Changed()


def test_where_lines_were_only_deleted_the_next_one_is_told(source: KernelSource, cache: Path):
    before = (Path(source.spec) / RMAP).read_text()
    after = before.replace("#include <linux/mmu_notifier.h>\n", "")

    assert changed(source, cache, before, after, mine=[True]) == Changed(cut=(2,))
    assert changed(source, cache, before, after, mine=[False]) == Changed()


def test_a_new_file_is_the_users_and_what_makes_no_code_is_not_asked_about(source: KernelSource, cache: Path):
    assert changed(source, cache, "", "int n;\nint m;\n", mine=[True], path="mm/new.c") == Changed((1, 2))
    assert changed(source, cache, "", "words\n", mine=[True], path="Documentation/new.rst") == Changed()
    gone = (Path(source.spec) / RMAP).read_text()
    assert changed(source, cache, gone, "", mine=[True]) == Changed()


def test_a_file_that_is_too_long_is_told(source: KernelSource, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "LINES_LIMIT", 3)

    assert changed(source, cache, "", "int a;\n" * 4, mine=[True], path="mm/new.c").refused == "has 4 lines (limit 3)"


def test_what_changed_between_two_revisions_is_the_users_with_his_patches_on_top(repository: Path, cache: Path):
    old = fetch(f"git:{repository}@HEAD", cache)
    before = (repository / RMAP).read_text()
    committed = before.replace("\treturn", "\tcommitted();\n\treturn")
    (repository / RMAP).write_text(committed)
    (repository / "mm/new.c").write_text("int n;\n")
    (repository / "Makefile").write_text((repository / "Makefile").read_text() + "# words\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "two")
    new = fetch(f"git:{repository}@HEAD", cache)
    at = committed.splitlines().index("\tcommitted();") + 1

    assert changes.changed(PatchSeries(), new, cache, old) == {RMAP: Changed((at,)), "mm/new.c": Changed((1,))}
    patch = edits(RMAP, committed, committed.replace("int try", "int mine;\nint try", 1), mine=[True])
    assert changes.changed(patch, new, cache, old)[RMAP].added == (at - 4, at + 1)
    assert changes.changed(PatchSeries(), new, cache, new) == {}


def test_what_is_not_one_change_is_refused(repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "FILES_LIMIT", 0)
    old = fetch(f"git:{repository}@HEAD", cache)
    (repository / RMAP).write_text("int n;\n")

    with pytest.raises(UsageError, match=r"--changed-since git:.*: 1 source files of .* differ \(limit 0\)"):
        changes.changed(PatchSeries(), fetch(str(repository), cache), cache, old)


def test_what_is_edited_while_it_is_built_is_told(toy: Path, cache: Path):
    source = fetch(str(toy), cache)
    before = (toy / RMAP).read_text()
    patch = edits(RMAP, before, before.replace("\treturn", "\tmine();\n\treturn"), mine=[True])
    (toy / RMAP).write_text("\n" + before)

    assert changes.changed(patch, source, cache)[RMAP].refused == "was edited since its kernel was built"


@pytest.mark.usefixtures("variants")
def test_built_in_patches_are_not_the_users(tmp_path: Path):
    (tmp_path / "a.patch").write_text("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    mine = str(tmp_path / "a.patch")

    assert not patches.own([])
    assert not patches.own(["none"])
    assert not patches.own(["mayfail"])
    assert patches.own(["mayfail", mine])
    assert [patch.builtin for patch in patches.load(["mayfail", mine], "6.12.1").patches] == [True, False]
    assert changes.own(patches.load(["mayfail", mine], "6.12.1"))
    assert not changes.own(patches.load(["mayfail"], "6.12.1"))


@given(texts=st.lists(st.tuples(LINES, st.booleans()), min_size=1, max_size=4), pristine=LINES)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_not_the_users_was_there_before(texts: list[tuple[list[bytes], bool]], pristine: list[bytes]):
    """Without the user's lines, the last text is made of lines of the others, in their order."""
    text = changes._Text.pristine(b"\n".join(pristine))
    others = list(text.lines)
    for content, own in texts:
        text = text.becomes(b"\n".join(content), own=own)
        others = others if own else list(text.lines)

    assert len(text.lines) == len(text.added) == len(text.cut)
    left = iter(others)
    assert all(line in left for line, mine in zip(text.lines, text.added, strict=True) if not mine)
    if not any(own for _, own in texts):
        assert not any((*text.added, *text.cut))
