# SPDX-License-Identifier: GPL-2.0-only
"""A cache on a disk that is full: an error of the machine, and nothing half-written that is found later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.commands import doctor
from harness.guest import image
from harness.host.progress import QUIET
from harness.kernel.source import fetch
from harness.model.errors import OutOfSpace
from tests.unit.conftest import TOY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs mount(2)")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    mounted = subprocess.run(argv, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def entries(disk: Path) -> list[Path]:
    return [
        path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock" and path.parent.name != "seen"
    ]


def test_no_room_for_a_source(disk: Path, tmp_path: Path):
    tarball = tmp_path / "linux.tar.gz"
    (tmp_path / "toy").symlink_to(TOY)
    subprocess.run(["tar", "-chaf", tarball, "-C", tmp_path, "toy"], check=True)

    with pytest.raises(OutOfSpace, match=r"no space left \(0 MiB free\)"):
        fetch(str(tarball), disk)

    assert entries(disk) == []


def test_no_room_for_a_program(disk: Path):
    with pytest.raises(OutOfSpace, match="no space left"):
        image.assemble(disk)

    assert entries(disk) == []


def test_no_room_for_what_doctor_finds_out(disk: Path):
    (disk / "full").write_bytes(bytes(28 << 10))

    with pytest.raises(OutOfSpace, match="no space left"):
        doctor.document(disk, QUIET)

    assert entries(disk) == [disk / "full"]
