# SPDX-License-Identifier: GPL-2.0-only
"""QEMUs of Debian's suites, unpacked with all that they need: 40 MB to fetch, once, and 180 MB in the cache.

The outer machine gets one whose emulated SVM can be relied on. QEMU 7.2 loses
interrupts there: one outer machine in 16 stood still for ever.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.host import emulator, workspace
from harness.host.emulator import Emulator
from tests.guest.outer import packages

_OLDEST = 10
_NEWER = "bookworm-backports"
_PACKAGE = "qemu-system-x86"
_PARTS = (
    f"usr/bin/{emulator.PROGRAM}",
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/share/qemu",
    "usr/share/seabios",
)


def find(cache: Path) -> Emulator:
    """The QEMU that the tests run with if it is new enough, else a newer one. Raises LaunchError."""
    usual = emulator.find()
    if int(usual.version.partition(".")[0]) >= _OLDEST:
        return usual
    return emulator.unpacked(fetch(_NEWER, cache))


def fetch(suite: str, cache: Path) -> Path:
    """A folder with the QEMU of a suite of Debian, for HARNESS_QEMU; what was fetched once stays."""
    place = cache / "tests" / "qemu" / suite
    with workspace.lock(place.with_suffix(".lock")):
        if not place.exists():
            with packages.shelf(place.parent, suite) as archive:
                root = archive.unpack_all(_PACKAGE)
                with workspace.publishing(place) as fresh:
                    for part in _PARTS:
                        _take(root / part, fresh / part)
    return place


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)
