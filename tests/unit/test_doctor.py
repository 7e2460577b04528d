# SPDX-License-Identifier: GPL-2.0-only
"""What is missing, and how this system gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands import doctor
from harness.host import packages

MISSING = ("qemu-system-x86_64", "ld", "busybox")
DEBIAN = "sudo apt-get install busybox-static gcc qemu-system-x86"
FEDORA = "fedora: sudo dnf install busybox gcc qemu-system-x86-core"
ARCH = "arch: sudo pacman -S --needed busybox gcc qemu-system-x86"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("ID=debian\nVERSION_ID=12\n", [f"debian: {DEBIAN}"]),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', [f"ubuntu: {DEBIAN}"]),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", [f"ubuntu: {DEBIAN}"]),
        ("ID=fedora\n", [FEDORA]),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', [FEDORA]),
        ("ID=arch\n", [ARCH]),
        ("ID=manjaro\nID_LIKE=arch\n", [ARCH]),
        ('ID="opensuse-leap"\n', ["opensuse: sudo zypper install busybox-static gcc qemu-x86"]),
        # Of an unknown system, and where a file lies about it, the usual ones.
        ("ID=nixos\n", [f"debian: {DEBIAN}", f"ubuntu: {DEBIAN}", FEDORA, ARCH]),
        ("", [f"debian: {DEBIAN}", f"ubuntu: {DEBIAN}", FEDORA, ARCH]),
        ("ID='\n\x1b[31m=\nID_LIKE=\n", [f"debian: {DEBIAN}", f"ubuntu: {DEBIAN}", FEDORA, ARCH]),
    ],
)
def test_what_is_missing_has_the_name_of_the_system(text: str, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text(text)

    assert packages.commands(MISSING, path) == lines


def test_a_system_without_the_file_is_told_of_the_usual_ones(tmp_path: Path) -> None:
    assert [system.name for system in packages.systems(tmp_path / "none")] == list(packages.USUAL)


@pytest.mark.parametrize("name", [name for name, (_, needed) in doctor.TOOLS.items() if needed])
def test_each_tool_that_is_needed_has_a_package_on_each_system(name: str) -> None:
    for system in ("debian", "ubuntu", "fedora", "arch", "opensuse", "alpine"):
        row = packages._table()[packages._WITH.get(name, name)]
        assert row[packages._SYSTEMS[system].column] != "-"


def test_what_no_package_has_is_said_otherwise() -> None:
    found = {"accelerators": {}, "tools": {}, "sources": {}, "cache": "/c", "free_gib": 1.0}

    assert doctor.lines({**found, "missing": [], "install": []})[-1] == "nothing is missing"
    assert "--source DIR" in doctor.lines({**found, "missing": ["linux-source-6.12"], "install": []})[-1]
    said = doctor.lines({**found, "missing": ["make"], "install": ["debian: sudo apt-get install make"]})
    assert said[-3:] == ["missing: make", "to install it:", "  debian: sudo apt-get install make"]
