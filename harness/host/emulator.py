# SPDX-License-Identifier: GPL-2.0-only
"""Which QEMU runs the guests: the one in PATH, or the one that HARNESS_QEMU names.

That is a program, or a folder into which Debian's packages were unpacked. Such
a QEMU brings its own libraries and firmware, so one from a newer suite runs on
an older system, and nothing is installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.model.errors import UsageError

PROGRAM = "qemu-system-x86_64"
VARIABLE = "HARNESS_QEMU"

# Debian 12 has the C library and the loader in the latter.
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_LOADER = "ld-linux-x86-64.so.2"
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


@dataclass(frozen=True)
class Emulator:
    """A QEMU. words: how its command line begins. named: HARNESS_QEMU named it, and so it may be a script.

    root: the folder that its packages were unpacked into, if they were.
    """

    program: Path
    words: tuple[str, ...]
    named: bool = False
    root: Path | None = None

    @property
    def version(self) -> str:
        """Its version and that of its package, as it says them; takes 40 ms."""
        done = process.run([*self.words, "--version"], timeout_s=30)
        return done.stdout.partition("\n")[0].removeprefix("QEMU emulator version ")

    @property
    def identity(self) -> str:
        """A key that changes when this QEMU is replaced; which one is behind a script, only its version tells."""
        key = workspace.identity(self.program)
        with self.program.open("rb") as stream:
            script = self.named and stream.read(2) == b"#!"
        return f"{key} {self.version}" if script else key


def find(program: str = PROGRAM) -> Emulator:
    """A program in PATH; in the place of the usual one, what HARNESS_QEMU names.

    Raises LaunchError for a program that is not there, UsageError where HARNESS_QEMU names no QEMU.
    """
    place = os.environ.get(VARIABLE) if program == PROGRAM else None
    if place:
        return named(place)
    found = process.which(program)
    return Emulator(found, (str(found),))


def named(name: str) -> Emulator:
    """The QEMU at a path, as HARNESS_QEMU may have it. Raises UsageError where there is none."""
    place = Path(name).absolute()
    if place.is_dir():
        return unpacked(place)
    if not place.is_file() or not os.access(place, os.X_OK):
        raise UsageError(f"{VARIABLE}={name}: is no program", f"unset {VARIABLE}, or name a QEMU")
    return Emulator(place, (str(place),), named=True)


def unpacked(root: Path) -> Emulator:
    """The QEMU in a folder of unpacked packages, started by the loader that belongs to its libraries."""
    program, libraries = root / "usr/bin" / PROGRAM, [root / folder for folder in _LIBRARIES]
    loader = next((folder / _LOADER for folder in libraries if (folder / _LOADER).is_file()), None)
    if loader is None or not program.is_file():
        raise UsageError(
            f"{VARIABLE}={root}: there is no {program.name if loader else _LOADER} in it",
            "unpack qemu-system-x86 and all that it depends on, each with dpkg-deb --extract",
        )
    # The loader is the program that the kernel starts, and QEMU would look for its modules and firmware beside it.
    modules = f"QEMU_MODULE_DIR={libraries[0] / 'qemu'}"
    firmware = (word for folder in _FIRMWARE for word in ("-L", str(root / folder)))
    path = ":".join(map(str, libraries))
    return Emulator(program, ("env", modules, str(loader), "--library-path", path, str(program), *firmware), root=root)
