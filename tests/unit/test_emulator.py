# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.host import emulator, process
from harness.model.errors import LaunchError, UsageError

LOADER = "ld-linux-x86-64.so.2"


def script(path: Path, says: str) -> Path:
    """A program that says something, whatever it is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def unpacked(root: Path, libraries: str) -> Path:
    """A folder of unpacked packages, whose loader tells how it is called and in which environment."""
    script(root / "usr/bin" / emulator.PROGRAM, "QEMU")
    loader = script(root / libraries / LOADER, "")
    loader.write_text('#!/bin/sh\necho "$QEMU_MODULE_DIR" "$@"\n', encoding="utf-8")
    return root


def test_the_qemu_in_path_is_used_where_no_other_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = script(tmp_path / emulator.PROGRAM, "QEMU emulator version 7.2.22 (Debian 1:7.2)")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    monkeypatch.delenv(emulator.VARIABLE, raising=False)
    found = emulator.find()
    monkeypatch.setenv(emulator.VARIABLE, "")

    assert (found.program, found.words) == (installed, (str(installed),))
    assert found.version == "7.2.22 (Debian 1:7.2)"
    assert emulator.find() == found


def test_a_program_that_is_named_is_used_and_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = script(tmp_path / "a qemu", "QEMU emulator version 11.1")
    monkeypatch.setenv(emulator.VARIABLE, str(named))

    assert emulator.find().words == (str(named),)
    assert emulator.find("sh").program == process.which("sh")


def test_a_script_is_another_qemu_when_the_one_behind_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = tmp_path / "version"
    named = script(tmp_path / "qemu", "")
    named.write_text(f"#!/bin/sh\ncat '{behind}'\n", encoding="utf-8")
    monkeypatch.setenv(emulator.VARIABLE, str(named))
    keys = []
    for version in ("10.0", "10.0", "11.1"):
        behind.write_text(f"QEMU emulator version {version}\n", encoding="ascii")
        keys.append(emulator.find().identity)

    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("libraries", ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"])
def test_unpacked_packages_bring_loader_libraries_modules_and_firmware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libraries: str
) -> None:
    root = unpacked(tmp_path / "an unpacked QEMU", libraries)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(emulator.VARIABLE, root.name)

    found = emulator.find()
    said = process.run([*found.words, "-machine", "pc"], timeout_s=10).stdout

    usual, old = root / "usr/lib/x86_64-linux-gnu", root / "lib/x86_64-linux-gnu"
    assert found.program == root / "usr/bin" / emulator.PROGRAM
    assert said.strip() == (
        f"{usual / 'qemu'} --library-path {usual}:{old} {found.program} "
        f"-L {root / 'usr/share/qemu'} -L {root / 'usr/share/seabios'} -machine pc"
    )


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (f"usr/bin/{emulator.PROGRAM}", f"there is no {emulator.PROGRAM} in it"),
        (f"usr/lib/x86_64-linux-gnu/{LOADER}", f"there is no {LOADER} in it"),
    ],
)
def test_a_folder_without_a_qemu_of_its_own_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    root = unpacked(tmp_path / "root", "usr/lib/x86_64-linux-gnu")
    (root / missing).unlink()
    monkeypatch.setenv(emulator.VARIABLE, str(root))

    with pytest.raises(UsageError, match=said) as caught:
        emulator.find()
    assert "dpkg-deb --extract" in caught.value.hint


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_file_that_is_no_program_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None
) -> None:
    named = tmp_path / "qemu"
    if mode is not None:
        named.touch(mode)
    monkeypatch.setenv(emulator.VARIABLE, str(named))

    with pytest.raises(UsageError, match="is no program"):
        emulator.find()


def test_no_qemu_at_all_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LaunchError, match="not found in PATH"):
        emulator.find("qemu-that-is-not-there")
