# SPDX-License-Identifier: GPL-2.0-only
"""Whatever a user names as a file, what is wrong with it is one line and exit code 129."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.kernel import config
from harness.model import strict_yaml
from harness.model.errors import MachineError, UsageError
from harness.variants import mutants

READERS = [
    pytest.param(lambda path: config.load([path]), id="config"),
    pytest.param(lambda path: mutants.choose([path], "6.12"), id="mutant"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file for each fault."""
    (tmp_path / "binary").write_bytes(b"\x7fELF\xd0\xff")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / os.fsdecode(b"\xff\x1b[31m")).write_bytes(b"\xff")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "name",
    [
        "none", "binary", "folder", "dangling", "circle", "binary/below", "x" * 300, "nul\0",
        os.fsdecode(b"\xff\x1b[31m"), os.fsdecode(b"\xfe"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_usage(folder: Path, read: Callable[[str], object], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(f"{folder}/{name}")

    assert str(folder) in caught.value.message


@pytest.mark.parametrize("read", READERS)
def test_a_user_that_does_not_exist_is_usage(read: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match="~nosuch/x: no such file or directory"):
        read("~nosuch/x")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mine.confg", "did you mean {folder}/mine.config?"),
        ("xyzzy", "ls {folder}"),
        ("none/below/mine.config", "{folder} is as far as the path leads"),
        ("dangling", ""),
    ],
)
def test_a_path_that_leads_to_nothing_comes_with_what_to_type(
    folder: Path, read: Callable[[str], object], name: str, hint: str
) -> None:
    (folder / "mine.config").write_text("CONFIG_X=y\n")

    with pytest.raises(UsageError) as caught:
        read(f"{folder}/{name}")

    assert caught.value.hint == hint.format(folder=folder)


@pytest.mark.parametrize("read", READERS)
def test_what_never_ends_is_usage(read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.host.given.FILE_LIMIT", 1 << 20)

    with pytest.raises(UsageError, match=r"/dev/zero: holds more than 1 MiB \(limit\)"):
        read("/dev/zero")


@pytest.mark.parametrize("read", [*READERS, pytest.param(lambda path: strict_yaml.load(Path(path)), id="yaml")])
def test_a_disk_that_fails_is_no_mistake_of_the_user(
    read: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.yaml").write_text("x: y")

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)

    with pytest.raises(MachineError, match="nput/output error"):
        read(f"{tmp_path}/x.yaml")
