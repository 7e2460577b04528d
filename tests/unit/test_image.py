# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from harness.guest import cpio, image, programs, swap
from harness.model.errors import MachineError
from tests.unit.conftest import Said, rot


def read(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Path → (mode, content), by the format's own rules."""
    entries: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + 110 + fields[11]
        start += -start % 4
        if name == "TRAILER!!!":
            return entries
        entries[name] = (fields[1], archive[start : start + fields[6]])
        at = start + fields[6]
        at += -at % 4


def test_the_archive_is_what_cpio_unpacks(tmp_path: Path):
    archive = cpio.archive(
        [
            cpio.file("b/run", b"#!/bin/sh\n", 0o755),
            cpio.folder("b"),
            cpio.link("b/link", "run"),
            cpio.file("odd", b"12345"),
        ]
    )

    subprocess.run(["cpio", "--extract", "--quiet"], input=archive, cwd=tmp_path, check=True)

    assert (tmp_path / "b/run").read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE((tmp_path / "b/run").stat().st_mode) == 0o755
    assert (tmp_path / "b/link").readlink() == Path("run")
    assert (tmp_path / "odd").read_bytes() == b"12345"


def test_the_order_of_entries_does_not_matter():
    entries = [cpio.file("z", b"1"), cpio.folder("a"), cpio.file("a/b", b"2")]

    assert cpio.archive(entries) == cpio.archive(reversed(entries))


def test_the_image_has_what_a_guest_needs(tmp_path: Path):
    module = tmp_path / "first.ko"
    module.write_bytes(b"module")

    made = image.assemble(tmp_path / "cache", [module])

    entries = read(made.path.read_bytes())
    assert entries["init"][1].startswith(b"\x7fELF")
    assert entries["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox")
    assert entries["modules/00-first.ko"][1] == b"module"
    assert stat.S_ISCHR(entries["dev/console"][0])
    # Each machine has its own keys: harness/guest/keys.py.
    assert not [path for path in entries if path.startswith(("root/.ssh/", "etc/dropbear/"))]
    needed = image._needed(Path(shutil.which("dropbear", path="/usr/sbin:/usr/bin") or ""))
    assert all(f"lib/{name}" in entries for name in needed[1])


def test_the_same_parts_are_not_assembled_twice(tmp_path: Path):
    """A second call finds the file of the first call; without the file it makes the same bytes again."""
    first = image.assemble(tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert image.assemble(tmp_path).path.stat().st_mtime_ns == stamp
    before = first.path.read_bytes()
    first.path.unlink()

    again = image.assemble(tmp_path)

    assert again.key == first.key
    assert again.path.read_bytes() == before


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
def test_a_rotten_image_or_program_is_made_again(tmp_path: Path, kind: str, said: Said):
    """Each from its own parts: the rotten program does not get into an image."""
    first = image.assemble(tmp_path)
    good = first.path.read_bytes()
    rot(first.path, kind)
    assert image.assemble(tmp_path, progress=said).path.read_bytes() == good
    assert said.lines == [
        "guest image: initrd.cpio in the cache is damaged; making it again",
        "assembling the guest image",
    ]

    rot(first.init, kind)
    second = image.assemble(tmp_path, progress=said)

    assert (second.key, second.path.read_bytes()) == (first.key, good)
    assert said.lines[2:] == [
        "init: init in the cache is damaged; making it again",
        "compiling init for the guest",
    ]
    assert second.init.stat().st_mode & 0o111


def test_another_module_makes_another_image(tmp_path: Path):
    module = tmp_path / "m.ko"
    module.write_bytes(b"1")
    first = image.assemble(tmp_path, [module]).key
    module.write_bytes(b"2")

    assert image.assemble(tmp_path, [module]).key != first


def test_a_program_that_does_not_compile_says_where(tmp_path: Path):
    source = tmp_path / "bad.c"
    source.write_text("int main(void) { return nonsense; }\n", encoding="utf-8")

    with pytest.raises(MachineError, match=r"bad\.c:1:\d+: error: .*nonsense"):
        programs.compiled("bad", [source], tmp_path / "cache")


def test_a_changed_header_compiles_again(tmp_path: Path):
    (tmp_path / "value.h").write_text("#define VALUE 1\n", encoding="utf-8")
    source = tmp_path / "p.c"
    source.write_text('#include "value.h"\nint main(void) { return VALUE; }\n', encoding="utf-8")
    first = programs.compiled("p", [source], tmp_path / "cache")
    (tmp_path / "value.h").write_text("#define VALUE 2\n", encoding="utf-8")

    assert programs.compiled("p", [source], tmp_path / "cache") != first


def test_the_swap_header_is_the_one_that_mkswap_writes(tmp_path: Path):
    """It is equal byte for byte, except for the random UUID and the label."""
    path = tmp_path / "swap"
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["busybox", "mkswap", path], capture_output=True, check=True)
    made = bytearray(path.read_bytes()[:4096])
    made[1024 + 12 : 1024 + 44] = bytes(32)

    assert swap.header(16) == bytes(made)


def test_a_swap_disk_has_no_name(tmp_path: Path):
    with swap.disk(64, tmp_path) as disk:
        disk.seek(0, 2)
        assert disk.tell() == 64 << 20
        assert list(tmp_path.iterdir()) == []
