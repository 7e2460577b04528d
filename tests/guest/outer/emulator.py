# SPDX-License-Identifier: GPL-2.0-only
"""A QEMU whose emulated SVM can be relied on, for the outer machine: this host's, or a newer one from Debian's archive.

QEMU 7.2 loses interrupts there: one outer machine in 16 stood still for ever.
Debian 12 has a newer QEMU among its backports, which runs with the libraries
that the installed QEMU needs; 12 MB, fetched once, and 82 MB unpacked.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.guest import qemu
from harness.host import process, workspace
from harness.model.errors import LaunchError
from tests.guest.outer import packages

_OLDEST = 10
_PACKAGES = ("qemu-system-x86", "qemu-system-data", "seabios")


@dataclass(frozen=True)
class Emulator:
    """A program, and the folders with its firmware; no folders for an installed program."""

    program: Path
    firmware: tuple[Path, ...] = ()

    @property
    def words(self) -> list[str]:
        """The beginning of its command line."""
        return [str(self.program), *(word for folder in self.firmware for word in ("-L", str(folder)))]


def find(cache: Path) -> Emulator:
    """The host's QEMU if it is new enough, else a cached one, fetched when it is not there. Raises LaunchError."""
    installed = process.which(qemu.PROGRAM)
    if _version(installed) >= _OLDEST:
        return Emulator(installed)
    place = cache / "tests" / "emulator"
    with workspace.lock(place.with_suffix(".lock")):
        if not (place / "root").exists():
            with packages.shelf(place, "backports") as archive:
                root = archive.unpack(*_PACKAGES)
                with workspace.publishing(place / "root") as fresh:
                    for part in ("bin/qemu-system-x86_64", "share/qemu", "share/seabios", "lib"):
                        _take(root / "usr" / part, fresh / part)
    found = Emulator(place / "root/bin/qemu-system-x86_64", (place / "root/share/qemu", place / "root/share/seabios"))
    if _version(found.program) < _OLDEST:
        raise LaunchError(f"{found.program}: is older than QEMU {_OLDEST}", f"rm -r {place}")
    return found


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)


def _version(program: Path) -> int:
    said = process.run([program, "--version"], timeout_s=30).stdout
    match = re.search(r"version (\d+)\.", said)
    return int(match[1]) if match else 0
