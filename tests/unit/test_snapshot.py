# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.guest import snapshot
from harness.guest.machine import Machine
from harness.host.workspace import digest_sparse

MIB = 1 << 20


def sparse(path: Path, *written: tuple[int, bytes]) -> Path:
    """A file of 8 MiB, a hole where nothing was written."""
    with path.open("wb") as stream:
        stream.truncate(8 * MIB)
        for at, data in written:
            os.pwrite(stream.fileno(), data, at)
    return path


def test_a_hole_that_became_zeros_is_no_change(tmp_path: Path):
    """As on tmpfs, where a clone's first read of a page in a hole makes it zeros."""
    before = sparse(tmp_path / "before", (3 * MIB, b"word"))
    after = sparse(tmp_path / "after", (3 * MIB, b"word"), (MIB, bytes(4096)), (3 * MIB + 4, bytes(100_000)))

    assert after.stat().st_blocks > before.stat().st_blocks
    assert digest_sparse(after) == digest_sparse(before)


def test_every_byte_its_place_and_the_size_count(tmp_path: Path):
    base = digest_sparse(sparse(tmp_path / "file", (3 * MIB, b"word")))

    assert digest_sparse(sparse(tmp_path / "file", (3 * MIB, b"ward"))) != base
    assert digest_sparse(sparse(tmp_path / "file", (3 * MIB + 1, b"word"))) != base
    assert digest_sparse(sparse(tmp_path / "file", (5 * MIB, b"word"))) != base
    assert digest_sparse(sparse(tmp_path / "file", (3 * MIB, b"word"), (8 * MIB - 1, b"."))) != base
    os.truncate(sparse(tmp_path / "file", (3 * MIB, b"word")), 9 * MIB)
    assert digest_sparse(tmp_path / "file") != base


@pytest.mark.parametrize(
    ("major", "minor", "uri"), [(7, 2, "fd:state"), (8, 1, "fd:state"), (11, 1, "file:/dev/fdset/7")]
)
def test_a_qemu_is_told_of_the_devices_state_in_a_way_that_it_knows(
    tmp_path: Path, major: int, minor: int, uri: str
) -> None:
    lends: list[object] = []

    def lend_file(descriptor: int) -> str:
        lends.append(descriptor)
        return "/dev/fdset/7"

    monitor = SimpleNamespace(
        execute=lambda command: {"qemu": {"major": major, "minor": minor, "micro": 3}, "command": command},
        lend=lambda *words: lends.append(words),
        lend_file=lend_file,
    )

    with (tmp_path / "state").open("wb") as state:
        assert snapshot._uri(cast(Machine, SimpleNamespace(monitor=monitor)), state) == uri
    assert len(lends) == 1
