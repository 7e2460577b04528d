# SPDX-License-Identifier: GPL-2.0-only
"""Nothing is reached but what is below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host import below
from harness.host.below import Below, Refused

OUTSIDE = ["../x", "/x", "a/../../x", "a/..", ".", "", "a//x", "a/", "a/./x", ".git/config", "a/.git", "x\0y"]
LONG = ["x" * 256, "é" * 128, "d/" * 500 + "xx"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a link that leads to another folder, which holds one file."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "away").symlink_to("../elsewhere")
    return root


@pytest.mark.parametrize("name", [*OUTSIDE, *LONG])
def test_a_name_that_leads_out_is_refused(name: str, root: Path):
    """Whatever is done with it; and the reason is in words."""
    assert below.fault(name)
    with Below(root) as door, Below(root) as other:
        for act in (
            lambda: door.stat(name),
            lambda: door.read(name),
            lambda: door.write(name, b"", 0o644),
            lambda: door.symlink(name, b"x"),
            lambda: door.link(name, other),
            lambda: door.remove(name),
        ):
            with pytest.raises(Refused):
                act()


@pytest.mark.parametrize(
    "name", ["a", "a/b.c", ".gitignore", "..a", "a...", "x" * 255, "é" * 127, "\udcff/\udcfe", "a\nb"]
)
def test_a_plain_name_is_taken(name: str, root: Path):
    """A name that is not UTF-8 among them."""
    assert below.fault(name) == ""
    with Below(root) as door:
        door.write(name, b"one", 0o755)
        door.write(name, b"two", 0o644)

        found = door.stat(name)
        assert found is not None
        assert found.st_mode & 0o777 == 0o644
        assert door.read(name) == b"two"
        door.remove(name)
    assert names(root) == ["away"]


def test_a_link_is_never_followed(root: Path):
    """Neither to write, nor to read, nor to delete."""
    with Below(root) as door:
        for act in (lambda: door.write("away/x", b"", 0o644), lambda: door.symlink("away/x/y", b"z")):
            with pytest.raises(Refused, match="behind a link or a file"):
                act()
        assert door.stat("away/secret") is None
        door.remove("away/secret")
        door.write("away", b"a file now", 0o644)

    assert names(root.parent / "elsewhere") == ["secret"]
    assert (root / "away").read_text() == "a file now"


@pytest.mark.parametrize("target", [b"", b"x" * 4096, b"a\0b"])
def test_a_link_has_a_target_that_a_link_can_have(root: Path, target: bytes):
    with Below(root) as door:
        door.symlink("longest", b"x" * 4095)
        with pytest.raises(Refused, match=f"is a link to what is no path: {len(target)} bytes"):
            door.symlink("mine", target)


def test_a_hard_link_keeps_its_content(root: Path, tmp_path: Path):
    """A file that is put in the place of a link is another file."""
    (tmp_path / "elsewhere/a").mkdir()
    (tmp_path / "elsewhere/a/b").write_text("pristine")
    with Below(tmp_path / "elsewhere") as origin, Below(root) as door:
        door.link("a/b", origin)
        assert door.read("a/b") == b"pristine"
        door.write("a/b", b"patched", 0o644)

    assert (tmp_path / "elsewhere/a/b").read_text() == "pristine"


def test_the_folders_that_a_file_leaves_empty_go_too(root: Path):
    with Below(root) as door:
        door.write("a/b/c", b"", 0o644)
        door.write("a/d", b"", 0o644)
        door.remove("a/b/c")
        assert names(root / "a") == ["d"]
        door.write("a/b/c", b"again", 0o644)
        door.remove("a/b/c")
        door.remove("a/d")
        door.remove("a/d")
    assert names(root) == ["away"]


def test_a_folder_is_not_replaced_by_a_file(root: Path):
    with Below(root) as door:
        door.write("a/b", b"", 0o644)
        with pytest.raises(Refused, match="'a' is a folder"):
            door.write("a", b"", 0o644)


def test_no_descriptor_is_left_open(root: Path):
    before = len(names(Path("/proc/self/fd")))
    with Below(root) as door:
        door.write("a/b/c", b"", 0o644)
        with pytest.raises(Refused):
            door.write("a/b/c/d/e", b"", 0o644)
        with pytest.raises(Refused):
            door.write("away/b", b"", 0o644)
    assert len(names(Path("/proc/self/fd"))) == before
