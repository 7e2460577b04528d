# SPDX-License-Identifier: GPL-2.0-only
"""Sources of every kind."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host import workspace
from harness.kernel import manifest as manifests
from harness.kernel import patches, worktree
from harness.kernel.source import fetch, kernel_version, series
from harness.model.errors import LaunchError, UsageError
from tests.unit.conftest import Said, git, rot


@pytest.mark.parametrize(
    ("makefile", "version"),
    [
        ("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n", "6.12.117"),
        ("VERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\nNAME = Baby\n", "6.13.0-rc2"),
        ("all:\n\techo VERSION\n", None),
    ],
)
def test_a_makefile_tells_the_version(makefile, version):
    """The head of the Makefile spells the version, and a Makefile of another project has none."""
    assert kernel_version(makefile) == version


def test_series_orders_by_number():
    """6.9 is older than 6.12."""
    assert series("6.9.1") < series("6.12")


def test_a_directory_is_named_by_its_content(toy: Path, cache: Path):
    """The same content is the same source, whatever its times; an edit makes another source."""
    first = fetch(str(toy), cache)
    os.utime(toy / "mm/rmap.c", ns=(1, 1))
    assert fetch(str(toy), cache).id == first.id

    (toy / "mm/rmap.c").write_text("int x;\n")
    second = fetch(str(toy), cache)

    assert second.id != first.id
    assert second.lineage == first.lineage
    assert second.version == "6.12.7"


def test_an_edit_of_equal_size_and_time_is_seen(toy: Path, cache: Path):
    """An editor that keeps size and modification time still cannot hide an edit."""
    target = toy / "mm/rmap.c"
    facts = target.stat()
    first = fetch(str(toy), cache)
    target.write_text(target.read_text().replace("start(0)", "start(1)"))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert fetch(str(toy), cache).id != first.id


def test_what_a_build_leaves_is_no_source(toy: Path, cache: Path):
    """Objects, configuration and programs of a build in the directory change nothing."""
    first = fetch(str(toy), cache)
    (toy / "mm/rmap.o").write_bytes(b"\x7fELF")
    (toy / ".config").write_text("CONFIG_SWAP=y\n")
    (toy / "vmlinux").write_bytes(b"x")
    (toy / "include/config").mkdir()
    (toy / "include/config/auto.conf").write_text("")
    (toy / "scripts/kconfig/conf").write_bytes(b"\x7fELF program")

    assert fetch(str(toy), cache).id == first.id


def test_a_checkout_and_its_directory_are_the_same_kernel(repository: Path, cache: Path):
    """A file that git ignores is no source; a new file that is not ignored is."""
    first = fetch(str(repository), cache)
    (repository / ".git/info/exclude").write_text("notes.txt\n")
    (repository / "notes.txt").write_text("x")
    assert fetch(str(repository), cache).id == first.id

    (repository / "mm/new.c").write_text("int y;\n")
    assert fetch(str(repository), cache).id != first.id


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("/nonexistent", "no such file"),
        ("debian:six", "no kernel series"),
        ("git:.@", "names no revision"),
        ("git:/nonexistent@HEAD", "no directory"),
        ("{tmp}", "no kernel source"),
        ("git:{tmp}@HEAD", "no git repository"),
    ],
)
def test_what_is_no_source_is_a_usage_error(spec, said, tmp_path: Path, cache: Path):
    """One clear line, and exit 129."""
    with pytest.raises(UsageError, match=said):
        fetch(spec.format(tmp=tmp_path), cache)


def test_a_missing_package_is_the_machines_fault(cache: Path):
    """The hint is the command that installs it."""
    with pytest.raises(LaunchError) as caught:
        fetch("debian:2.4", cache)

    assert "apt-get install linux-source-2.4" in caught.value.hint


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.usefixtures("toy")
def test_a_tarball_is_unpacked_once(suffix, tmp_path: Path, cache: Path, said: Said):
    """Whatever compresses it; the second call says and does nothing."""
    tarball = tmp_path / f"linux.{suffix}"
    subprocess.run(["tar", "-caf", tarball, "-C", tmp_path, "toy"], check=True)

    first = fetch(str(tarball), cache, said)
    assert said.lines
    again = Said()
    second = fetch(str(tarball), cache, again)

    assert first.id == second.id
    assert not again.lines
    assert dict(second.origin.manifest()).keys() >= {"Makefile", "mm/rmap.c"}


@pytest.fixture
def tarball(toy: Path, tmp_path: Path) -> Path:
    """The toy kernel packed."""
    packed = tmp_path / "linux.tar.gz"
    subprocess.run(["tar", "-caf", packed, "-C", toy.parent, toy.name], check=True)
    return packed


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
@pytest.mark.parametrize("name", ["manifest", "digests"])
def test_a_rotten_manifest_is_made_again(tarball: Path, cache: Path, said: Said, name: str, kind: str):
    """With the tree that it is of."""
    first = fetch(str(tarball), cache)
    manifest = first.origin.manifest()
    rot(cache / "sources" / first.id / name, kind)

    again = fetch(str(tarball), cache, said)

    assert (again.id, again.origin.manifest()) == (first.id, manifest)
    assert said.lines[0] == "linux.tar.gz: manifest in the cache is damaged; making it again"


@pytest.mark.usefixtures("variants")
def test_a_rotten_file_of_a_tree_is_no_bad_patch_and_no_bad_kernel(tarball: Path, cache: Path, said: Said):
    """It is noticed when a patch touches it, and when a work tree is filled; then the tree is unpacked again."""
    first = fetch(str(tarball), cache)
    series = patches.load(["mayfail"], first.version)
    touched, other = (cache / "sources" / first.id / "tree" / name for name in ("mm/rmap.c", "mm/mmu_notifier.c"))
    good = touched.read_bytes(), other.read_bytes()
    rot(touched)

    with pytest.raises(workspace.Damaged, match=r"tree/mm/rmap.c in the cache is damaged"):
        patches.apply(series, first, cache)
    again = fetch(str(tarball), cache, said)
    assert patches.apply(series, again, cache).files
    rot(other)
    with pytest.raises(workspace.Damaged, match=r"tree/mm/mmu_notifier.c in the cache is damaged"):
        worktree.bring(cache / "w", again, {}, again.origin.manifest(), said)

    fetch(str(tarball), cache)
    assert good == (touched.read_bytes(), other.read_bytes())


@given(
    names=st.sets(st.text(st.sampled_from("ab/\t\n "), min_size=1, max_size=4), min_size=1, max_size=6),
    asked=st.lists(st.text(st.sampled_from("ab/\t\n "), min_size=1, max_size=4), max_size=6),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_some_entries_are_those_of_the_whole_manifest(names: set[str], asked: list[str]):
    manifest = {name: f"100644 {hashlib.sha256(name.encode()).hexdigest()[:40]}" for name in names}
    raw = manifests.dump(manifest)
    wanted = [*asked, *names]

    assert manifests.some(raw, wanted) == {path: manifest[path] for path in wanted if path in manifest}
    assert manifests.parse(raw) == manifest


def test_a_tarball_of_something_else_leaves_nothing(tmp_path: Path, cache: Path):
    """A tarball that is no kernel is refused, and not kept unpacked."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/Makefile").write_text("all:\n")
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", tmp_path, "x"], check=True)

    with pytest.raises(UsageError, match="no kernel source"):
        fetch(str(tmp_path / "x.tar"), cache)
    assert [path.name for path in (cache / "sources").iterdir()] == ["seen"]


@pytest.mark.usefixtures("toy")
def test_a_cut_tarball_is_a_usage_error(tmp_path: Path, cache: Path):
    """What tar says is in the error."""
    subprocess.run(["tar", "-cJf", tmp_path / "x.tar.xz", "-C", tmp_path, "toy"], check=True)
    whole = (tmp_path / "x.tar.xz").read_bytes()
    (tmp_path / "x.tar.xz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(UsageError, match="does not unpack"):
        fetch(str(tmp_path / "x.tar.xz"), cache)


def test_a_revision_is_named_by_its_tree(repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """HEAD, a tag and a path that holds an @ name the same tree; git's own variables do not leak in."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_WORK_TREE", "/nonexistent")
    git(repository, "tag", "v6.12.7")
    twin = repository.with_name("a@b")
    twin.symlink_to(repository)

    ids = {fetch(f"git:{path}@{rev}", cache).id for path in (repository, twin) for rev in ("HEAD", "v6.12.7", "main")}

    assert ids == {f"git-{git(repository, 'rev-parse', 'HEAD^{tree}')}"}


def test_a_bare_repository_serves(repository: Path, tmp_path: Path, cache: Path):
    """No checkout is needed."""
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")

    source = fetch(f"git:{tmp_path / 'bare.git'}@HEAD", cache)

    assert source.version == "6.12.7"
    assert {path for path, _ in source.origin.read(source.origin.manifest())} == set(source.origin.manifest())


def test_an_unknown_revision_is_named(repository: Path, cache: Path):
    """The error says which revision, and of which repository."""
    with pytest.raises(UsageError, match="no revision 'v9'"):
        fetch(f"git:{repository}@v9", cache)


def test_a_repository_is_only_read(repository: Path, cache: Path):
    """Not a byte below .git changes, and a dirty checkout stays as it is."""
    (repository / "mm/rmap.c").write_text("edited\n")
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")}

    source = fetch(f"git:{repository}@HEAD", cache)
    files = dict(source.origin.read(source.origin.manifest()))

    assert b"start(0)" in files["mm/rmap.c"].content
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} == before
