# SPDX-License-Identifier: GPL-2.0-only
"""Patches: found, tried, and refused in words."""

from __future__ import annotations

import base64
import os
import quopri
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import given, workspace
from harness.kernel import patches, versions, worktree
from harness.kernel.manifest import PLAIN, PROGRAM, File
from harness.kernel.source import KernelSource, fetch
from harness.model.errors import PatchError, UsageError
from tests.unit.conftest import diff

FITS = diff("mm/rmap.c", "start(0)", "start(1)")

pytestmark = pytest.mark.usefixtures("variants")


@pytest.fixture
def source(toy: Path, cache: Path) -> KernelSource:
    return fetch(str(toy), cache)


def apply(source: KernelSource, cache: Path, *specs: str) -> patches.Patched:
    return patches.apply(patches.load(specs, source.version), source, cache)


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("version", "port"), [("6.1.9", "6.1"), ("6.6.1", "6.1"), ("6.12.1", "6.12"), ("7.0.0", "6.12")]
)
def test_a_port_serves_its_version_and_later_ones(version, port):
    """Up to the next port's folder."""
    assert patches.load(["mayfail"], version).patches[0].name.startswith(f"mayfail/{port}/")


def test_a_kernel_older_than_every_port_gets_the_oldest():
    """It is tried; whether it applies, git says."""
    assert patches.load(["mayfail"], "5.10.1").patches[0].name.startswith("mayfail/6.1/")


@pytest.mark.parametrize(
    ("version", "nearest"),
    [("5.10.1", "6.1"), ("6.2.0", "6.1"), ("6.11.9-rc1", "6.1"), ("6.13.0", "6.12"), ("99.0.0", "6.12")],
)
def test_a_kernel_that_nobody_has_tried_is_tried_with_a_warning(version: str, nearest: str):
    """The nearest one known is named; of one that is served nothing is said."""
    assert f"never tried here; the nearest that was is {nearest}:" in versions.untried(version)
    assert [versions.untried(f"{name}.7") for name in versions.served()] == [""] * len(versions.served())


def test_no_patch_changes_nothing(source: KernelSource, cache: Path):
    """`none` is a patch of its own kind, and goes with no other."""
    assert apply(source, cache, "none").files == {}
    with pytest.raises(UsageError, match="none beside mayfail"):
        patches.load(["none", "mayfail"], "6.12")


def test_the_result_is_what_is_named(source: KernelSource, cache: Path, tmp_path: Path):
    """Two texts with one result are one patch; the source stays as it is."""
    before = source.origin.manifest()
    plain = apply(source, cache, write(tmp_path, "a.patch", FITS))
    mail = apply(source, cache, write(tmp_path, "b.patch", f"Subject: why\n\nBecause.\n---\n{FITS}-- \n2.39\n"))

    assert plain.id == mail.id
    assert set(plain.files) == {"mm/rmap.c"}
    assert fetch(source.spec, cache).id == source.id
    assert source.origin.manifest() == before


def test_patches_stack_in_order(source: KernelSource, cache: Path, tmp_path: Path):
    """The second sees what the first made."""
    second = FITS.replace("start(1)", "start(7)").replace("start(0)", "start(1)")

    done = apply(source, cache, write(tmp_path, "1.patch", FITS), write(tmp_path, "2.diff", second))

    changed = done.files["mm/rmap.c"]
    assert changed is not None
    assert b"start(7)" in changed.content


def test_a_mailbox_holds_a_series(source: KernelSource, cache: Path, tmp_path: Path):
    """Mails are decoded and applied in order; a mail without a diff, such as a cover letter, is skipped."""
    head = "From {n} Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH {n}/2] x\n"
    second = base64.b64encode(f"why\n\n---\n{diff('mm/mmu_notifier.c', 'return flags', 'return 1 + flags')}".encode())
    box = (
        head.format(n=0) + "\nOnly words.\n\n"
        + head.format(n=1) + f"\nwhy\n\n---\n{FITS}--\n2.39\n\n"
        + head.format(n=2) + "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        + f"Content-Transfer-Encoding: base64\n\n{second.decode()}\n"
    )  # fmt: skip

    assert set(apply(source, cache, write(tmp_path, "t.mbox", box)).files) == {"mm/rmap.c", "mm/mmu_notifier.c"}


def test_a_folder_holds_a_series(source: KernelSource, cache: Path, tmp_path: Path):
    """By name, or as its `series` file says."""
    folder = tmp_path / "s"
    folder.mkdir()
    write(folder, "0001-a.patch", FITS)
    write(folder, "0002-b.patch", diff("mm/mmu_notifier.c", "return flags", "return 1 + flags"))
    assert len(apply(source, cache, str(folder)).files) == 2

    write(folder, "series", "# first only\n0001-a.patch -p1\n")
    assert set(apply(source, cache, str(folder)).files) == {"mm/rmap.c"}


def test_new_deleted_moved_and_executable_files(source: KernelSource, cache: Path, tmp_path: Path):
    """Everything that git's diffs can say about a file."""
    text = (
        "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n"
        "--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+int n;\n"
        "diff --git a/lib/Kconfig b/lib/Kconfig2\nsimilarity index 100%\n"
        "rename from lib/Kconfig\nrename to lib/Kconfig2\n"
        "diff --git a/mm/rmap.c b/mm/rmap.c\nold mode 100644\nnew mode 100755\n"
    )

    files = apply(source, cache, write(tmp_path, "x.patch", text)).files

    assert set(files) == {"mm/new.c", "lib/Kconfig", "lib/Kconfig2", "mm/rmap.c"}
    assert files["lib/Kconfig"] is None
    moved = files["mm/rmap.c"]
    assert moved is not None
    assert moved.mode == PROGRAM


def test_a_hunk_that_fails_is_named(source: KernelSource, cache: Path, tmp_path: Path):
    """Patch, hunk, file, line and kernel; and nothing is left behind."""
    path = write(tmp_path, "bad.patch", diff("mm/rmap.c", "start(9)", "start(1)"))

    with pytest.raises(PatchError) as caught:
        apply(source, cache, path)

    assert f"{path}: does not apply" in caught.value.message
    assert "6.12.7" in caught.value.message
    assert "hunk 1 of mm/rmap.c is not found at line 3" in caught.value.message
    assert list((cache / "tmp").iterdir()) == []


def test_a_port_that_fails_names_the_nearest(source: KernelSource, cache: Path, variants: Path):
    """A built-in patch tells which ports there are."""
    (variants / "patches/mayfail/6.12/0001-mayfail.patch").write_text(diff("mm/rmap.c", "start(9)", "start(1)"))

    with pytest.raises(PatchError) as caught:
        apply(source, cache, "mayfail")

    assert "the nearest to 6.12.7 is mayfail/6.12" in caught.value.hint


def test_a_missing_file_is_named(source: KernelSource, cache: Path, tmp_path: Path):
    """A file that this kernel does not have is not called a hunk."""
    path = write(tmp_path, "x.patch", FITS.replace("mm/rmap.c", "mm/rmap2.c"))

    with pytest.raises(PatchError, match=r"mm/rmap2\.c is not in this source"):
        apply(source, cache, path)


def test_a_patch_that_is_in_the_source_says_so(toy: Path, cache: Path, tmp_path: Path):
    """The message for an applied patch differs from that for a patch that does not apply."""
    path = write(tmp_path, "x.patch", FITS)
    subprocess.run(["git", "apply", path], cwd=toy, check=True)

    with pytest.raises(PatchError, match="is already in this source"):
        apply(fetch(str(toy), cache), cache, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FITS.replace("mm/rmap.c", "../../etc/passwd"), "reaches out of the tree"),
        (FITS[: FITS.index("+\t")], "is damaged"),
        ("only words\n", "holds no diff"),
    ],
)
def test_what_is_no_patch_is_a_usage_error(text, said, source: KernelSource, cache: Path, tmp_path: Path):
    """Bad input is 129, not a kernel that bisect should skip."""
    with pytest.raises(UsageError, match=said):
        apply(source, cache, write(tmp_path, "x.patch", text))


def test_an_unknown_name_offers_the_nearest():
    """A typing error costs one look."""
    with pytest.raises(UsageError) as caught:
        patches.load(["mayfial"], "6.12")

    assert "mayfail" in caught.value.hint


def test_a_repository_around_the_cache_does_not_matter(repository: Path, tmp_path: Path):
    """A plain git apply silently skips files outside the enclosing repository's folder; ours has no such repository."""
    cache = repository / "cache"
    source = fetch(f"git:{repository}@HEAD", cache)

    assert set(apply(source, cache, write(tmp_path, "x.patch", FITS)).files) == {"mm/rmap.c"}


def test_the_kernels_that_are_served_are_those_with_a_port() -> None:
    """One more folder is one more kernel: in --help, doctor, list, and for the tests."""
    folders = sorted(path.name for path in workspace.data("patches").glob("mayfail/*/"))

    assert sorted(versions.served()) == folders
    assert versions.sources()[0] == versions.DEFAULT
    assert sorted(versions.sources()) == [f"debian:{name}" for name in folders]


def test_set_up_installs_the_source_of_the_default_kernel() -> None:
    """Those that this Debian does not have are fetched when they are asked for."""
    listed = (workspace.ROOT / "setup" / "packages.tsv").read_text()

    assert f"\tlinux-source-{versions.DEFAULT.removeprefix('debian:')}\t" in listed


def test_a_patch_does_not_write_through_a_link(source: KernelSource, cache: Path, tmp_path: Path):
    """A series makes a folder a link to elsewhere, and then changes a file in it."""
    (tmp_path / "elsewhere").mkdir()
    link = (
        "diff --git a/mm b/mm\nnew file mode 120000\n--- /dev/null\n+++ b/mm\n@@ -0,0 +1 @@\n"
        f"+{tmp_path}/elsewhere\n\\ No newline at end of file\n"
    )
    series = (write(tmp_path, "1.patch", link), write(tmp_path, "2.patch", FITS))

    with pytest.raises(UsageError, match=r"2\.patch: reaches out of the tree: mm/rmap\.c is behind a link"):
        apply(source, cache, *series)
    assert list((tmp_path / "elsewhere").iterdir()) == []

    alone = apply(source, cache, series[0])
    with pytest.raises(PatchError, match="'mm' as a file and as a folder"):
        worktree.wanted(source, alone.files)


@pytest.mark.parametrize("name", [".git/config", "mm/../../x", "/etc/passwd"])
def test_a_name_that_no_source_has_is_refused(name, source: KernelSource, cache: Path, tmp_path: Path):
    text = f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n"

    with pytest.raises(UsageError, match="reaches out of the tree"):
        apply(source, cache, write(tmp_path, "x.patch", text))


@pytest.mark.parametrize("quoted", [False, True])
def test_a_patched_path_need_not_be_utf8(quoted, toy: Path, cache: Path, tmp_path: Path):
    """As git quotes it, or plain."""
    name = b"mm/Kconfig.\xff"
    (toy / os.fsdecode(name)).write_text("a\n")
    spelled = b'"%s/mm/Kconfig.\\377"' if quoted else b"%s/" + name
    old, new = spelled % b"a", spelled % b"b"
    text = b"diff --git %s %s\n--- %s\n+++ %s\n@@ -1 +1 @@\n-a\n+b\n" % (old, new, old, new)
    (tmp_path / "x.patch").write_bytes(text)

    done = apply(fetch(str(toy), cache), cache, str(tmp_path / "x.patch"))

    assert done.files == {os.fsdecode(name): File(PLAIN, b"b\n")}


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_mail_by_itself_is_decoded(encoding, ends, source: KernelSource, cache: Path, tmp_path: Path):
    """As a mail program saves it: headers, but no line with From that a mailbox has."""
    body = f"why = because\n\n---\n{FITS}"
    if encoding == "base64":
        body = base64.encodebytes(body.encode()).decode()
    elif encoding == "quoted-printable":
        body = quopri.encodestring(body.encode()).decode()
    head = (
        "Received: from x\n\tby y\nFrom: A <a@example.org>\nSubject: [PATCH] x\nMIME-Version: 1.0\n"
        f"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: {encoding}\n\n"
    )
    (tmp_path / "x.eml").write_bytes((head + body).replace("\n", ends).encode())

    assert set(apply(source, cache, str(tmp_path / "x.eml")).files) == {"mm/rmap.c"}


@pytest.mark.parametrize(
    "head",
    [
        "Index: mm/rmap.c\n=====\n",
        "Description: why\n more\nFrom: A <a@example.org>\n\n",
        "From: nobody\n",
        "Fro: x\r\n" * 60 + "From: y\n",
    ],
)
def test_a_patch_with_words_before_it_is_no_mail(head, source: KernelSource, cache: Path, tmp_path: Path):
    """Quilt's and Debian's own headers are like a mail's."""
    assert set(apply(source, cache, write(tmp_path, "x.patch", head + FITS)).files) == {"mm/rmap.c"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("~nosuch/x.patch", "no such file"),
        ("x" * 300 + ".patch", "file name too long"),
        ("nul\0.patch", "has a NUL"),
        ("{tmp}/folder", r"1\.patch: is a directory"),
        ("{tmp}/listed", r"\\xff|no such file"),
        ("{tmp}/outward", "has the component"),
        ("{tmp}/loop.patch", "too many levels"),
        ("/dev/zero", "holds more than 256 MiB"),
        ("/dev/null", "holds no diff"),
    ],
)
def test_what_cannot_be_a_patch_is_said_in_words(spec, said, source: KernelSource, cache: Path, tmp_path: Path):
    """And not by an exception of Python's."""
    (tmp_path / "folder/1.patch").mkdir(parents=True)
    for folder, line in (("listed", b"1\xff.patch\n"), ("outward", b"../x.patch\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "series").write_bytes(line)
    (tmp_path / "loop.patch").symlink_to("loop.patch")

    with pytest.raises(UsageError, match=said):
        apply(source, cache, spec.format(tmp=tmp_path))


def test_a_series_lists_names_that_are_no_utf8(source: KernelSource, cache: Path, tmp_path: Path):
    (tmp_path / os.fsdecode(b"1\xff.patch")).write_text(FITS)
    (tmp_path / "series").write_bytes(b"1\xff.patch # caf\xe9\n")

    assert set(apply(source, cache, str(tmp_path)).files) == {"mm/rmap.c"}


@pytest.fixture
def forgotten() -> Iterator[None]:
    """No pipe that another test read is remembered."""
    given._piped.cache_clear()
    yield
    given._piped.cache_clear()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("spec", ["-", "/dev/fd/{pipe}", "fifo"])
def test_a_pipe_is_read_once(spec, source: KernelSource, cache: Path, tmp_path: Path, monkeypatch):
    """Standard input, what a shell puts for <(…), and a named pipe; asked for again, it is what it was."""
    reader, writer = os.pipe()
    os.write(writer, FITS.encode())
    os.close(writer)
    if spec == "fifo":
        os.mkfifo(tmp_path / "fifo")
        spec = str(tmp_path / "fifo")
        thread = threading.Thread(target=(tmp_path / "fifo").write_text, args=(FITS,))
        thread.start()
    monkeypatch.setattr(given, "STANDARD_INPUT_FD", reader)
    try:
        for _ in range(2):
            assert set(apply(source, cache, spec.format(pipe=reader)).files) == {"mm/rmap.c"}
    finally:
        os.close(reader)


@pytest.mark.usefixtures("forgotten")
def test_a_pipe_into_which_nobody_writes_is_given_up(source: KernelSource, cache: Path, tmp_path: Path, monkeypatch):
    os.mkfifo(tmp_path / "x.patch")
    monkeypatch.setattr(given, "_SILENCE_S", 0.05)

    with pytest.raises(UsageError, match=r"nobody has written into it for .* \(limit 0\.05 s\)"):
        apply(source, cache, str(tmp_path / "x.patch"))
