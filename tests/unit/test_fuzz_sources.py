# SPDX-License-Identifier: GPL-2.0-only
"""Whatever comes in at a door for sources and patches: our own errors come out, and no file outside.

fuzzing.py says how to search longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.host.progress import QUIET
from harness.kernel import patches, worktree
from harness.kernel.source import KernelSource, fetch
from harness.model.errors import HarnessError
from tests.unit.conftest import TOY, diff, git
from tests.unit.fuzzing import fuzz

# What leads out, what is no UTF-8, what is long, and what the toy kernel has: as a name, or as a part of one.
PARTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a",
        "mm",
        "toy",
        "Makefile",
        "rmap.c",
        ".git",
        "\udcff",
        "é",
        "x" * 300,
        "\n",
        "\t",
        "\x1b",
        "~root",
    ]
)
NAMES = st.builds("/".join, st.lists(PARTS, min_size=1, max_size=6))
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=4)
FITS = diff("mm/rmap.c", "start(0)", "start(1)").encode()
WORDS = st.sampled_from(
    [
        b"diff --git a/mm/rmap.c b/mm/rmap.c\n", b"--- a/mm/rmap.c\n", b"+++ b/../../escaped\n", b"--- /dev/null\n",
        b"new file mode 120000\n", b"@@ -0,0 +1 @@\n", b"+/tmp\n", b"rename from ", b'"a/\\377', b"From x\n", b"\n\n",
        b"Subject: x\n", b"Content-Transfer-Encoding: base64\n\n", b"GIT binary patch\nliteral 99999999\n", b"\xff\0",
        FITS,
    ]
)  # fmt: skip


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """A folder deep in another, which is empty but for it, and stays so."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as outer:
        inner = Path(outer) / "1/2/3/4/5"
        inner.mkdir(parents=True)
        yield inner
        seen = [path for path in Path(outer).rglob("*") if not path.is_relative_to(inner) and path not in inner.parents]
        assert seen == [], "written outside"


def used(spec: str, cache: Path) -> None:
    """Do with a source all that comes before make."""
    with contextlib.suppress(HarnessError):
        source = fetch(spec, cache)
        worktree.bring(worktree.place(cache, source.lineage), source, {}, worktree.wanted(source, {}), QUIET)
        fetch(spec, cache)


def bent(raw: bytes, edits: list[tuple[float, bytes]]) -> bytes:
    """Bytes with other bytes in some places; an empty edit cuts the rest off."""
    for where, text in edits:
        at = int(where * len(raw))
        raw = raw[:at] + text + raw[at + len(text) :] if text else raw[:at]
    return raw


@pytest.fixture(scope="module")
def tarball() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(TOY, "toy")
        tar.add(TOY / "Makefile", "toy/é" + "x" * 200)
    return raw.getvalue()


@fuzz()
@given(edits=EDITS, packed=st.booleans())
def test_any_bytes_for_a_tarball(edits, packed, tarball: bytes):
    raw = bent(zlib.compress(tarball, wbits=31) if packed else tarball, edits)
    with room() as folder:
        (folder / "x.tar").write_bytes(raw)
        used(str(folder / "x.tar"), folder / "cache")


KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
MEMBERS = st.lists(st.tuples(NAMES, st.sampled_from(KINDS), NAMES | st.just("{room}"), st.integers(0, 2)), max_size=6)


@fuzz()
@given(members=MEMBERS)
@example(members=[("toy/a", tarfile.SYMTYPE, "{room}/..", 0), ("toy/a/escaped", tarfile.REGTYPE, "", 1)])
@example(members=[("toy/a", tarfile.SYMTYPE, "", 0)])
@example(members=[("toy/a", tarfile.SYMTYPE, "x" * 5000, 0)])
def test_any_members_of_a_tarball(members):
    with room() as folder:
        with tarfile.open(folder / "x.tar", "w") as tar:
            tar.add(TOY, "toy")
            for name, kind, target, size in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target.format(room=folder)
                member.size = size if kind == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(b"x" * member.size))
        used(str(folder / "x.tar"), folder / "cache")


ENTRIES = st.lists(
    st.tuples(st.sampled_from([b"100644", b"100755", b"120000", b"40000", b"160000", b"7"]), NAMES), max_size=5
)


@fuzz()
@given(entries=ENTRIES, tail=st.binary(max_size=30))
@example(entries=[(b"120000", "x"), (b"40000", "x")], tail=b"")
def test_any_tree_of_a_repository(entries, tail, shared: Path):
    """Objects are written by hand: git itself would not."""
    blob = git(shared, "rev-parse", "HEAD:Makefile")

    def made(body: bytes) -> str:
        whole = b"tree %d\0" % len(body) + body
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = shared / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(whole))
        return name

    inner = made(b"100644 escaped\0" + bytes.fromhex(blob))
    top = git(shared, "ls-tree", "HEAD")
    body = b"".join(
        b"%s %s\0" % (mode.lstrip("0").encode(), name.encode()) + bytes.fromhex(named)
        for mode, named, name in ((line.split()[0], line.split()[2], line.split("\t")[1]) for line in top.splitlines())
    )
    for mode, name in entries:
        body += (
            mode
            + b" "
            + os.fsencode(name.replace("\0", ""))
            + b"\0"
            + bytes.fromhex(inner if mode == b"40000" else blob)
        )
    with room() as folder:
        used(f"git:{shared}@{made(body + tail)}", folder / "cache")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> KernelSource:
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(TOY, folder / "toy")
    return fetch(str(folder / "toy"), folder / "cache")


def applied(spec: str, source: KernelSource, cache: Path) -> None:
    with contextlib.suppress(HarnessError):
        done = patches.apply(patches.load([spec], source.version), source, cache)
        worktree.bring(cache / "place", source, done.files, worktree.wanted(source, done.files), QUIET)


@fuzz()
@given(words=st.lists(WORDS | st.binary(max_size=20), max_size=8), edits=EDITS)
def test_any_text_for_a_patch(words, edits, source: KernelSource):
    with room() as folder:
        for number, text in enumerate((b"".join(words), bent(FITS, edits))):
            (folder / f"{number}.patch").write_bytes(text)
            applied(str(folder / f"{number}.patch"), source, folder / "cache")


@fuzz()
@given(
    lines=st.lists(NAMES | st.sampled_from(["1.patch", "1.patch -p1", "1.patch -p0", "# x", "/etc/passwd"])), name=NAMES
)
def test_any_series(lines, name, source: KernelSource):
    """A folder with any list, and with a file or a folder of any name."""
    with room() as folder:
        series = folder / "series"
        series.mkdir()
        (series / "1.patch").write_bytes(FITS)
        with contextlib.suppress(OSError):
            (series / f"{name.replace('/', '_')}.patch").mkdir()
        applied(str(series), source, folder / "cache")
        (series / "series").write_bytes(os.fsencode("\n".join(lines)))
        applied(str(series), source, folder / "cache")


SPECS = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "git:", "debian:", "~", "/"]), NAMES, st.sampled_from(["", "@"]), NAMES
)


@fuzz()
@given(spec=SPECS | st.text(max_size=20))
def test_any_spec(spec, source: KernelSource):
    """Of a source, and of a patch; but for standard input, which is the test runner's."""
    with room() as folder, contextlib.chdir(folder):
        used(spec, folder / "cache")
        if spec != "-":
            applied(spec, source, folder / "cache")
