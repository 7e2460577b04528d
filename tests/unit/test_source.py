# SPDX-License-Identifier: GPL-2.0-only
"""Sources of every kind."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host import workspace
from harness.kernel import manifest, patches, worktree
from harness.kernel import manifest as manifests
from harness.kernel.manifest import PLAIN, File
from harness.kernel.source import fetch, kernel_version, series
from harness.model.errors import HarnessError, LaunchError, UsageError
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


def test_a_host_that_cannot_ask_debian_is_not_the_users_mistake(cache: Path, monkeypatch):
    """The hint is what goes without."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(LaunchError, match="this host has no apt") as caught:
        fetch("debian:2.4", cache)

    assert "--source TARBALL" in caught.value.hint


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


def test_a_revision_tells_its_commit(repository: Path, cache: Path):
    """Name and subject; a tree by itself is no commit."""
    head, tree = (git(repository, "rev-parse", rev) for rev in ("HEAD", "HEAD^{tree}"))
    subject = git(repository, "log", "-1", "--format=%s")
    git(repository, "tag", "-a", "-m", "a tag", "v6.12.8")

    told = [fetch(f"git:{repository}@{rev}", cache).commit for rev in ("HEAD", "v6.12.8", tree)]

    assert told == [f"{head[:12]} {subject}"] * 2 + [""]


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


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("~nosuch/x", "no such file"),
        ("git:~root/x@HEAD", "is no directory"),
        ("git:~nosuch@HEAD", "is no directory"),
        ("x" * 300, "file name too long"),
        ("git:" + "x" * 300 + "@HEAD", "is no directory"),
        ("nul\0here", "has a NUL"),
        ("git:.@HE\0AD", "has a NUL"),
        ("{tmp}/fifo", "neither a directory nor a file"),
        ("/dev/zero", "neither a directory nor a file"),
        ("{tmp}/loop", "too many levels"),
    ],
)
def test_what_cannot_be_a_source_is_said_in_words(spec, said, tmp_path: Path, cache: Path):
    """And not by an exception of Python's."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=said):
        fetch(spec.format(tmp=tmp_path), cache)


@pytest.mark.parametrize(
    "rev", ["HEAD..HEAD", "^HEAD", "HEAD^@", "HEAD HEAD", "HEAD:Makefile", "--all", "HEAD~99", ":/x"]
)
def test_what_names_no_single_tree_is_no_revision(rev, shared: Path, cache: Path):
    with pytest.raises(UsageError, match="revision"):
        fetch(f"git:{shared}@{rev}", cache)


def brought(spec: str, cache: Path) -> Path:
    """The work tree of a source."""
    source = fetch(spec, cache)
    return worktree.bring(worktree.place(cache, source.lineage), source, {}, worktree.wanted(source, {}), Said())


def hang_in(repository: Path, entries: list[tuple[bytes, bytes, str]]) -> str:
    """HEAD's tree with more entries, which git itself would not make: mode, name, object."""
    top = subprocess.run(["git", "cat-file", "tree", "HEAD^{tree}"], cwd=repository, check=True, capture_output=True)
    return raw_tree(repository, entries, top.stdout)


def raw_tree(repository: Path, entries: list[tuple[bytes, bytes, str]], before: bytes = b"") -> str:
    body = before + b"".join(mode + b" " + name + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries)
    whole = b"tree %d\0" % len(body) + body
    name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    path = repository / ".git/objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    return name


@pytest.mark.parametrize(
    "name", [b"..", b"../escaped", b"{tmp}/escaped", b".git", b".", b"", b"a/../../escaped", b"twice", b"x" * 300]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_tree_that_leads_out_is_refused(name, inside, shared: Path, cache: Path, tmp_path: Path):
    """Before a file of it is written, whether the bad name is a file's or a folder's."""
    name = name.replace(b"{tmp}", os.fsencode(tmp_path))
    blob = git(shared, "rev-parse", "HEAD:Makefile")
    entry = (b"40000", name, raw_tree(shared, [(b"100644", b"escaped", blob)])) if inside else (b"100644", name, blob)
    more = [(b"120000", b"twice", blob)] if name == b"twice" else []
    tree = hang_in(shared, [*more, entry])

    with pytest.raises(HarnessError):
        brought(f"git:{shared}@{tree}", cache)
    assert not list(tmp_path.rglob("escaped"))


def test_a_tree_without_end_is_cut_short(shared: Path, cache: Path):
    """Ten folders that each hold ten times the next: a gigabyte of names in eleven objects."""
    tree = raw_tree(shared, [(b"100644", b"file", git(shared, "rev-parse", "HEAD:Makefile"))])
    for _ in range(10):
        tree = raw_tree(shared, [(b"40000", b"%020d" % number, tree) for number in range(10)])
    source = fetch(f"git:{shared}@{hang_in(shared, [(b'40000', b'zzz', tree)])}", cache)

    with pytest.raises(UsageError, match="more than 64 MiB of names"):
        source.origin.manifest()


def test_modes_of_old_trees_are_those_of_git(shared: Path, cache: Path):
    """A file with the mode 100664 is a file, not left out."""
    tree = hang_in(shared, [(b"100664", b"zz", git(shared, "rev-parse", "HEAD:Makefile"))])

    assert fetch(f"git:{shared}@{tree}", cache).origin.manifest()["zz"].startswith("100644 ")


def test_a_repository_of_sha256_serves(toy: Path, cache: Path):
    """Its files are compared by its own kind of name; as a directory it is like any other."""
    git(toy, "init", "-q", "--object-format=sha256")
    git(toy, "add", ".")
    git(toy, "commit", "-qm", "toy")
    source = fetch(f"git:{toy}@HEAD", cache)
    place = worktree.place(cache, source.lineage)
    overlay = {"mm/rmap.c": File(PLAIN, b"int patched;\n")}
    tree = worktree.bring(place, source, overlay, worktree.wanted(source, overlay), Said())
    before = (tree / "Makefile").stat().st_mtime_ns
    (place / "moving").touch()

    worktree.bring(place, source, {}, worktree.wanted(source, {}), Said())

    assert (tree / "mm/rmap.c").read_bytes() == (toy / "mm/rmap.c").read_bytes()
    assert (tree / "Makefile").stat().st_mtime_ns == before
    assert fetch(str(toy), cache).version == "6.12.7"


@pytest.mark.parametrize("kind", ["directory", "git", "tarball"])
def test_names_that_are_no_utf8_are_taken(kind, repository: Path, cache: Path):
    """Of a file, of a folder, of the source itself; nothing is left out."""
    root = Path(os.fsdecode(os.fsencode(repository.parent) + b"/r\xff"))
    repository.rename(root)
    strange = os.fsdecode(b"mm/Kconfig.\xff")
    (root / strange).write_text("config X\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "strange")
    subprocess.run(["tar", "-cf", f"{root}.tar", "--exclude=.git", "-C", root.parent, root.name], check=True)
    spec = {"directory": str(root), "git": f"git:{root}@HEAD", "tarball": f"{root}.tar"}[kind]

    assert (brought(spec, cache) / strange).read_text() == "config X\n"


def test_a_repository_inside_a_directory_is_listed_too(repository: Path, cache: Path):
    """A developer's own driver, which git lists as a folder only."""
    inner = repository / "drivers/mine"
    inner.mkdir(parents=True)
    (inner / "mine.c").write_text("")
    git(inner, "init", "-q")

    files = fetch(str(repository), cache).origin.manifest()

    assert "drivers/mine/mine.c" in files
    assert not [path for path in files if ".git/" in path]


def test_what_is_behind_a_link_is_not_read(repository: Path, cache: Path, tmp_path: Path):
    """A folder of the index that its owner replaced by a link: the link is source, what it leads to is not."""
    (repository / "mm").rename(tmp_path / "elsewhere")
    (repository / "mm").symlink_to(tmp_path / "elsewhere")

    source = fetch(str(repository), cache)
    worktree.bring(worktree.place(cache, source.lineage), source, {}, worktree.wanted(source, {}), Said())

    assert source.origin.manifest()["mm"].startswith("120000 ")
    assert not [path for path in source.origin.manifest() if path.startswith("mm/")]


def test_a_file_that_no_kernel_has_is_refused_by_its_size(toy: Path, cache: Path):
    with (toy / "vmcore").open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(UsageError, match=r"vmcore has 1048576 MiB \(limit 256 MiB\)"):
        fetch(str(toy), cache)


def pack(tarball: Path, toy: Path, *members: tuple[str, dict[str, Any]]) -> str:
    """The toy kernel in a tarball, with members behind it that tar(1) would not make."""
    with tarfile.open(tarball, "w") as tar:
        tar.add(toy, "toy")
        for name, facts in members:
            member = tarfile.TarInfo(name)
            for key, value in facts.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return str(tarball)


LINKED = {"type": tarfile.SYMTYPE}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../escaped", {})], r"'../escaped' has the component '\.\.'"),
        ([("toy/../../escaped", {})], "has the component"),
        ([("{tmp}/escaped", {})], "is absolute"),
        ([("toy/away", LINKED | {"linkname": "{tmp}"}), ("toy/away/escaped", {})], "is behind a link"),
        ([("toy/mm", LINKED | {"linkname": "{tmp}"}), ("toy/mm/escaped", {})], "is a folder"),
        ([("toy/Makefile/escaped", {})], "is behind a link or a file"),
        ([("toy/escaped", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})], "is absolute"),
        ([("toy/escaped", {"type": tarfile.LNKTYPE, "linkname": "toy/none"})], "hard link to 'toy/none'"),
        ([("toy/escaped", {"type": tarfile.FIFOTYPE})], "neither a file, a folder nor a link"),
        ([("toy/escaped", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})], "neither a file"),
        ([("d/" * 2000 + "escaped", {})], r"has 4007 bytes \(limit 1000\)"),
        ([("toy/" + "x" * 300, {})], r"component of 300 bytes \(limit 255\)"),
    ],
)
def test_a_tarball_that_leads_out_is_refused(members, said, toy: Path, cache: Path, tmp_path: Path):
    """With the member's name, and nothing of it stays."""
    for _, facts in members:
        if "linkname" in facts:
            facts["linkname"] = facts["linkname"].format(tmp=tmp_path)
    filled = [(name.format(tmp=tmp_path), facts) for name, facts in members]
    with pytest.raises(UsageError, match=said):
        fetch(pack(tmp_path / "x.tar", toy, *filled), cache)

    assert not list(tmp_path.rglob("escaped"))
    assert [path.name for path in (cache / "sources").iterdir()] == ["seen"]


def test_what_a_tarball_may_hold(toy: Path, cache: Path, tmp_path: Path):
    """Hard links are files of their own, rights are those of a source, and git's own files are left out."""
    spec = pack(
        tmp_path / "x.tar",
        toy,
        ("./toy//mm/./setuid", {"mode": 0o6777, "size": 3}),
        ("toy/mm/hard", {"type": tarfile.LNKTYPE, "linkname": "toy/mm/rmap.c"}),
        ("toy/mm/dangling", LINKED | {"linkname": "/nonexistent"}),
        ("toy/.git/config", {}),
    )
    source = fetch(spec, cache)
    tree = source.origin.linkable
    assert tree is not None

    assert (tree / "mm/setuid").stat().st_mode & 0o7777 == 0o755
    assert (tree / "mm/hard").read_bytes() == (toy / "mm/rmap.c").read_bytes()
    assert (tree / "mm/hard").stat().st_nlink == 1
    assert (tree / "mm/dangling").is_symlink()
    assert set(source.origin.manifest()) >= {"mm/setuid", "mm/hard", "mm/dangling"}
    assert not (tree / ".git").exists()


def test_a_link_at_the_top_is_not_taken_for_the_kernel(toy: Path, cache: Path, tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("linux")
        member.type, member.linkname = tarfile.SYMTYPE, str(toy)
        tar.addfile(member)

    with pytest.raises(UsageError, match="no kernel source"):
        fetch(str(tmp_path / "x.tar"), cache)


@pytest.mark.parametrize(("limit", "said"), [("BYTES_LIMIT", "more than 1 MiB"), ("FILES_LIMIT", "more than 20 files")])
def test_a_tarball_that_unpacks_without_end_is_stopped(
    limit, said, toy: Path, cache: Path, tmp_path: Path, monkeypatch
):
    """At a number, which the error tells."""
    monkeypatch.setattr(manifest, limit, {"BYTES_LIMIT": 1 << 20, "FILES_LIMIT": 20}[limit])
    many: list[tuple[str, dict[str, Any]]] = [(f"toy/zero{number}", {"size": 100_000}) for number in range(20)]
    pack(tmp_path / "x.tar", toy, *many)
    subprocess.run(["gzip", tmp_path / "x.tar"], check=True)

    with pytest.raises(UsageError, match=said):
        fetch(str(tmp_path / "x.tar.gz"), cache)
    assert [path.name for path in (cache / "sources").iterdir()] == ["seen"]


def test_hard_links_count_as_the_files_that_they_become(toy: Path, cache: Path, tmp_path: Path, monkeypatch):
    """A link takes 512 bytes in the tarball."""
    monkeypatch.setattr(manifest, "BYTES_LIMIT", 1 << 20)
    links: list[tuple[str, dict[str, Any]]] = [
        (f"toy/link{number}", {"type": tarfile.LNKTYPE, "linkname": "toy/zero"}) for number in range(20)
    ]
    pack(tmp_path / "x.tar", toy, ("toy/zero", {"size": 100_000}), *links)

    with pytest.raises(UsageError, match="of files"):
        fetch(str(tmp_path / "x.tar"), cache)


@pytest.mark.parametrize("where", [512 * 9 + 3, -10240])
def test_a_damaged_tarball_is_not_half_a_kernel(where, toy: Path, cache: Path, tmp_path: Path):
    """A damaged header in the middle is no end, nor is a cut between two members."""
    raw = bytearray(Path(pack(tmp_path / "x.tar", toy)).read_bytes())
    if where < 0:
        end = raw.rstrip(b"\0")
        raw = raw[: (len(end) + 511) // 512 * 512]
    else:
        raw[where] ^= 0xFF
    (tmp_path / "x.tar").write_bytes(raw)

    with pytest.raises(UsageError, match="does not unpack"):
        fetch(str(tmp_path / "x.tar"), cache)


@pytest.mark.parametrize("line", ["VERSION = 6\x1b[2J", "VERSION = " + "9" * 5000, "EXTRAVERSION = $(shell id)"])
def test_a_makefile_that_spells_no_version(line, toy: Path, cache: Path):
    """Neither control characters nor numbers that Python refuses to read."""
    name = line.split(" ")[0]
    lines = [line if row.startswith(f"{name} =") else row for row in (toy / "Makefile").read_text().splitlines()]
    (toy / "Makefile").write_text("\n".join(lines))

    with pytest.raises(UsageError, match="no VERSION and PATCHLEVEL"):
        fetch(str(toy), cache)


def test_a_tree_that_an_earlier_version_unpacked_is_not_damaged(toy: Path, cache: Path, tmp_path: Path):
    """It named a link by its target as pathlib writes it; Debian's 6.1 has a link to ../.././../x."""
    link: tuple[str, dict[str, Any]] = ("toy/link", {"type": tarfile.SYMTYPE, "linkname": "a/.//./b"})
    source = fetch(pack(tmp_path / "x.tar", toy, link), cache)
    (folder,) = (cache / "sources").glob("tar-*")
    names = manifests.load(folder / "manifest")
    names["link"] = File("120000", b"a/b").entry
    (folder / "manifest").write_bytes(manifests.dump(names))

    assert dict(source.origin.read({"link": names["link"]})) == {"link": File("120000", b"a/.//./b")}
    with pytest.raises(workspace.Damaged):
        dict(source.origin.read({"link": File("120000", b"a/c").entry}))
