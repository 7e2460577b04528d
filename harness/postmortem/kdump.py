# SPDX-License-Identifier: GPL-2.0-only
"""A memory dump of QEMU made readable: its kdump files are flattened, and say nothing about the kernel."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from harness.model.errors import MachineError

# The dump's name in a scenario's folder, and the name of the text about it.
DUMP, TEXT = "memory.kdump", "postmortem.txt"

_FLAT = b"makedumpfile\0"
_FLAT_HEADER_BYTES = 4096
_FLAT_RECORD = struct.Struct(">qq")
# struct disk_dump_header: a signature of 8 bytes, a version of 4, then struct new_utsname.
_UTSNAME_OFFSET = 12
_UTSNAME_FIELD_BYTES = 65


def assemble(flat: Path, target: Path, release: str) -> None:
    """Write the kdump file that a flattened one describes.

    release: of the kernel. QEMU 7.2 fills in only the machine field, and
    libkdumpfile 0.5 takes no name from a header that lacks one. Raises
    MachineError for a file that is not a flattened kdump.
    """
    with flat.open("rb") as source, target.open("wb") as out:
        if not source.read(_FLAT_HEADER_BYTES).startswith(_FLAT):
            raise MachineError(f"{flat}: no flattened kdump file")
        for offset, size in iter(lambda: _record(source, flat), (-1, -1)):
            out.seek(offset)
            out.write(source.read(size))
        out.seek(_UTSNAME_OFFSET)
        for name in ("Linux", "(none)", release, "#1", "x86_64", "(none)"):
            out.write(name.encode()[: _UTSNAME_FIELD_BYTES - 1].ljust(_UTSNAME_FIELD_BYTES, b"\0"))


def _record(source: BinaryIO, flat: Path) -> tuple[int, int]:
    raw = source.read(_FLAT_RECORD.size)
    if len(raw) < _FLAT_RECORD.size:
        raise MachineError(f"{flat}: ends without its end mark")
    offset, size = _FLAT_RECORD.unpack(raw)
    return (offset, size) if offset >= 0 else (-1, -1)
