# SPDX-License-Identifier: GPL-2.0-only
"""What is carried into a guest: the files of a folder and nothing that its links lead to; a user's modules."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import cast

import pytest
from elftools.elf.elffile import ELFFile

from harness.guest import carry
from harness.guest.agent import GuestResult
from harness.kernel import modules
from harness.kernel.build import KernelBuild
from harness.model.errors import UsageError


def packed(folder: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(carry._packed(folder))) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


def test_a_folder_is_packed_without_what_its_links_lead_to(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    folder = tmp_path / "own"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x" * 5000)
    (folder / "link").symlink_to(secret)
    (folder / "up").symlink_to("../secret/key")
    os.mkfifo(folder / "pipe")

    found = packed(folder)

    assert set(found) == {"deep", "deep/file", "link", "up"}
    assert found["link"].issym()
    assert found["up"].issym()
    assert (found["deep/file"].size, found["deep/file"].uid, found["deep/file"].uname) == (5000, 0, "root")
    assert b"of the host" not in carry._packed(folder)


@pytest.mark.parametrize(("limit", "value"), [("LIMIT_FILES", 2), ("LIMIT_BYTES", 3000)])
def test_what_a_guest_has_no_room_for_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    for name in "abc":
        (tmp_path / name).write_text("x" * 2000)
    monkeypatch.setattr(carry, limit, value)

    with pytest.raises(UsageError, match=r"limit.*name a smaller folder"):
        carry._packed(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "folder"])
def test_what_is_no_file_is_not_carried(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError, match=name):
        carry._content(tmp_path / name)


def test_a_module_is_what_its_author_wrote(tmp_path: Path) -> None:
    """What make left behind, and what is hidden, is not; nor what a link to a folder leads to."""
    for name in ("Kbuild", "a.c", "include/a.h", "a.mod.c", "a.ko", ".a.o.cmd", ".git/config", "Module.symvers"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "linked").symlink_to("/etc")

    assert [str(path.relative_to(tmp_path)) for path in modules._tree(tmp_path)] == ["Kbuild", "a.c", "include/a.h"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.c"], r"holds no module: no Makefile and no Kbuild \(echo 'obj-m := NAME\.o' > "),
        (["Kbuild", "a.c", "b.c", "c.c"], r"more than 3 files or 32 MiB \(limit\)"),
    ],
)
def test_a_folder_that_is_no_module_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], words: str
) -> None:
    monkeypatch.setattr(modules, "FILES_LIMIT", 3)
    for name in files:
        (tmp_path / name).write_text("x")

    with pytest.raises(UsageError, match=words):
        modules._tree(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        modules._tree(tmp_path / "Kbuild")


def test_only_modules_below_the_folder_are_taken(tmp_path: Path) -> None:
    """Whatever a Makefile wrote into modules.order."""
    folder = tmp_path / "module"
    folder.mkdir()
    for path in (folder / "a.ko", tmp_path / "other.ko"):
        path.write_text("x")
    (folder / "modules.order").write_text(f"a.o\n{folder}/a.o\n{tmp_path}/other.o\nmissing.o\n")

    assert modules._listed(folder / "modules.order") == [folder / "a.ko"] * 2


def test_a_file_without_module_information_depends_on_nothing() -> None:
    with Path("/proc/self/exe").open("rb") as stream:
        assert ELFFile(stream).get_section_by_name(".modinfo") is None
    assert modules.depends(Path("/proc/self/exe")) == []


def test_a_module_that_cannot_be_read_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := a.o\n")

    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", "a.c")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=r"a\.c: cannot be read: Permission denied"):
        modules.out_of_tree(tmp_path, cast(KernelBuild, None), tmp_path)


def test_what_a_guest_says_of_a_failure_is_safe_to_print() -> None:
    with pytest.raises(OSError, match=r"no \\x1b\[1m") as raised:
        carry.demand(GuestResult(("false",), 1, b"", b"no \x1b[1m"))

    assert raised.value.filename == "false"
