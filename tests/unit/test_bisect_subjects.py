# SPDX-License-Identifier: GPL-2.0-only
"""Which patch, and which option: the toy kernel is built for each state. Ports and fixes are chosen per source."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.bisect import engine, expected, history, subjects
from harness.bisect.commands import CommandTest
from harness.bisect.engine import Answer, Bisection
from harness.bisect.journal import Journal
from harness.bisect.kernels import fitting
from harness.bisect.search import Cost
from harness.bisect.subjects import Subject
from harness.host.progress import QUIET
from harness.kernel import content, source
from harness.model.errors import PatchError, UsageError
from harness.model.instrument import Instrument
from harness.postmortem import examine
from harness.run.pipeline import KernelRequest
from tests.unit.conftest import TOY, committed, diff, git

Search = Callable[..., Answer]


@pytest.fixture
def search(tmp_path: Path, cache: Path, variants: Path, monkeypatch) -> Search:  # noqa: ARG001 - its folders count
    """Search a subject with a command."""
    # The toy kernel has no types that a post-mortem could read.
    monkeypatch.setattr(examine, "types", lambda *_: None)

    def call(subject: Subject, command: str, fixes: Sequence[str] = ()) -> Answer:
        test = CommandTest(command, tmp_path / "tree", Instrument(), tuple(fixes), cache, QUIET)
        return Bisection(subject, test, Journal(tmp_path / "journal"), tmp_path, QUIET).run()

    return call


def test_the_patch_of_a_series_that_fails_is_named(tmp_path: Path, toy: Path, search: Search) -> None:
    """The second patch does not compile, which the third one repairs; the fourth is to blame."""
    mine = committed(Path(shutil.copytree(toy, tmp_path / "mine")))
    edits = (("rmap", "int a;"), ("rmap", "int b"), ("rmap", ";"), ("mmu_notifier", "int culprit;"), ("rmap", "int c;"))
    for name, text in edits:
        with (mine / "mm" / f"{name}.c").open("a") as stream:
            stream.write(f"{text}\n")
        git(mine, "commit", "-qam", f"{name} {text}")
    git(mine, "format-patch", "-q", "-o", str(tmp_path / "series"), "HEAD~5")
    subject = subjects.series(
        str(tmp_path / "series"), KernelRequest(str(toy), ("none",)), "6.12.7", tmp_path / "state"
    )

    answer = search(subject, "! nm $HARNESS_VMLINUX | grep -q culprit")

    assert answer.first_bad == "0004-mmu_notifier-int-culprit.patch"
    assert answer.verified is True
    assert "gone on the bad end without this patch" in answer.proof


def test_the_option_that_fails_is_named(tmp_path: Path, toy: Path, search: Search, variants: Path) -> None:  # noqa: ARG001
    good, bad = tmp_path / "good.config", tmp_path / "bad.config"
    good.write_text("CONFIG_SWAP=y\n")
    bad.write_text("CONFIG_SWAP=y\nCONFIG_ZRAM=y\n")
    kernel = KernelRequest(str(toy), ("none",))
    subject = subjects.options(str(good), str(bad), kernel, "6.12.7", tmp_path / "state")

    answer = search(subject, "! grep -q CONFIG_ZRAM=y $HARNESS_CONFIG")

    assert answer.first_bad == "CONFIG_ZRAM"
    assert subject.title("CONFIG_ZRAM") == "CONFIG_ZRAM: n → y"
    with pytest.raises(UsageError, match="no option differs"):
        subjects.options(str(good), str(good), kernel, "6.12.7", tmp_path / "state")


def test_a_commit_that_does_not_build_is_skipped_and_told_with_its_reason(
    tmp_path: Path,
    toy: Path,
    search: Search,
    variants: Path,  # noqa: ARG001
) -> None:
    """The second of five commits breaks the build, the fourth one repairs it, and the third is to blame."""
    committed(toy)
    names = [git(toy, "rev-parse", "HEAD")]
    for text in ("int broken", "int broken\nint culprit;", "int culprit;", "int culprit;\nint more;"):
        (toy / "mm" / "rmap.c").write_text((TOY / "mm" / "rmap.c").read_text() + text + "\n")
        git(toy, "commit", "-qam", text.replace("\n", " "))
        names.append(git(toy, "rev-parse", "HEAD"))
    found = history.read(str(toy), names[0], names[-1])
    subject = subjects.Commits(found, KernelRequest(patches=("none",)), tmp_path / "state")

    answer = search(subject, "! nm $HARNESS_VMLINUX | grep -q culprit")

    assert list(answer.candidates) == names[1:4]
    assert set(answer.narrow) == set(names[1:3])
    assert all("mm/rmap.c" in why for why in answer.narrow.values())


def test_kernels_side_by_side_are_built_in_work_trees_of_their_own(
    tmp_path: Path,
    toy: Path,
    cache: Path,
    variants: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    committed(toy)
    names = [git(toy, "rev-parse", "HEAD")]
    for number in range(12):
        with (toy / "mm" / "rmap.c").open("a") as stream:
            stream.write(f"int {'culprit' if number == 7 else f'number{number}'};\n")
        git(toy, "commit", "-qam", f"{number}")
        names.append(git(toy, "rev-parse", "HEAD"))
    found = history.read(str(toy), names[0], names[-1])
    subject = subjects.Commits(found, KernelRequest(patches=("none",)), tmp_path / "state")
    test = CommandTest(
        "! nm $HARNESS_VMLINUX | grep -q culprit", tmp_path / "tree", Instrument(), (), cache, QUIET, jobs=8
    )
    # In threads, because another process would know nothing of this test's folders. A work tree more costs nothing.
    monkeypatch.setattr(engine, "lane", lambda test, *_: contextlib.nullcontext(test))
    monkeypatch.setattr(expected, "_COLD", Cost())
    monkeypatch.setattr(examine, "types", lambda *_: None)
    journal = Journal(tmp_path / "journal")

    answer = Bisection(subject, test, journal, tmp_path, QUIET, lanes=8, cpus=64).run()

    assert answer.first_bad == names[8]
    assert max(entry.lanes for entry in journal.entries) > 1
    trees = {path.name.rpartition("-")[2] for path in (cache / "trees").iterdir() if (path / "objects").exists()}
    assert "lane1" in trees
    # Each kernel is that of its commit, whichever tree it was built in.
    for step in answer.steps:
        assert (step.verdict == "bad") == (step.name in names[8:]), step


def test_each_source_gets_the_port_that_applies_and_a_patch_that_is_there_is_left_out(
    toy: Path, cache: Path, variants: Path
) -> None:
    kernel = source.fetch(str(toy), cache)
    assert fitting(("mayfail",), (), kernel, cache) == ("mayfail",)

    # The port of 6.12 does not fit any more, that of 6.1 does.
    rmap = toy / "mm" / "rmap.c"
    rmap.write_text(rmap.read_text().replace("start(0)", "start(9)"))
    other = diff("mm/rmap.c", "start(0)", "start(2)").replace("start(0)", "start(9)")
    (variants / "patches/mayfail/6.1/0001-mayfail.patch").write_text(other)
    assert fitting(("mayfail",), (), source.fetch(str(toy), cache), cache) == (str(variants / "patches/mayfail/6.1"),)

    rmap.write_text(rmap.read_text().replace("start(9)", "start(2)"))
    assert fitting(("mayfail",), (), source.fetch(str(toy), cache), cache) == ("none",)

    rmap.write_text(rmap.read_text().replace("start(2)", "start(7)"))
    with pytest.raises(PatchError):
        fitting(("mayfail",), (), source.fetch(str(toy), cache), cache)


def test_a_fix_is_applied_where_it_applies(toy: Path, tmp_path: Path, cache: Path, variants: Path) -> None:  # noqa: ARG001
    fix = tmp_path / "fix.patch"
    fix.write_text(diff("mm/rmap.c", "start(0)", "start(4)"))
    kernel = source.fetch(str(toy), cache)

    assert fitting(("none",), (str(fix),), kernel, cache) == (str(fix),)

    (toy / "mm" / "rmap.c").write_text("int other;\n")
    assert fitting(("none",), (str(fix),), source.fetch(str(toy), cache), cache) == ("none",)


def test_an_image_is_what_is_loaded(tmp_path: Path) -> None:
    def built(text: str, *options: str) -> str:
        made, written = tmp_path / "made", tmp_path / "mine.c"
        written.write_text(text)
        argv = ["gcc", "-nostdlib", "-static", "-O1", "-Wl,--build-id=sha1", *options, "-o", str(made), str(written)]
        subprocess.run(argv, check=True, cwd=tmp_path)
        return content.digest(made)

    plain = built("int _start(void) { return 1; }\n")

    # Debug information and the build ID differ.
    assert built("\n/* why */\nint _start(void) { return 1; }\n", "-g") == plain
    assert built("int _start(void) { return 2; }\n") != plain


def test_the_files_that_differ_are_the_cost(tmp_path: Path, toy: Path) -> None:
    committed(toy)
    first = git(toy, "rev-parse", "HEAD")
    (toy / "mm" / "rmap.c").write_text("int x;\n")
    git(toy, "commit", "-qam", "one file")
    second = git(toy, "rev-parse", "HEAD")
    header = next((toy / "include").rglob("*.h"))
    header.write_text("int y;\n")
    git(toy, "commit", "-qam", "a header")
    third = git(toy, "rev-parse", "HEAD")
    subject = subjects.Commits(history.read(str(toy), first, third), KernelRequest(), tmp_path)

    costs = [subject.cost(first, other).seconds(2) for other in (first, second, third)]
    assert 0 == costs[0] < costs[1] < costs[2]
