# SPDX-License-Identifier: GPL-2.0-only
"""A swap disk that swapon(2) takes as it is: the signature is written here, so the guest needs no mkswap."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import IO

from harness.host.workspace import no_space, space
from harness.model.errors import MachineError

_PAGE = 4096
_MAGIC = b"SWAPSPACE2"
# union swap_header (include/linux/swap.h): 1024 bytes for a boot loader, then version and the last page's number.
_INFO = struct.Struct("<II")
_INFO_AT = 1024


def header(size_mib: int) -> bytes:
    """The first page of a swap area that has no bad pages, no label and no UUID."""
    pages = (size_mib << 20) // _PAGE
    if pages < 10:
        raise MachineError(f"swap of {size_mib} MiB: too small")
    page = bytearray(_PAGE)
    _INFO.pack_into(page, _INFO_AT, 1, pages - 1)
    page[-len(_MAGIC) :] = _MAGIC
    return bytes(page)


def disk(size_mib: int, folder: Path) -> IO[bytes]:
    """A sparse swap disk without a name: it vanishes with the last process that holds it, kill -9 included.

    Raises OutOfSpace where it could not grow to its size; another writer may still fill the disk later.
    """
    free_mib = shutil.disk_usage(folder).free >> 20
    if free_mib < size_mib:
        raise no_space(folder, f"a guest's swap disk needs up to {size_mib} MiB")
    with space(folder):
        stream = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the caller's to close
        stream.truncate(size_mib << 20)
        stream.write(header(size_mib))
    return stream
