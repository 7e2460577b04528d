# SPDX-License-Identifier: GPL-2.0-only
"""What a guest is made of: memory, CPUs, swap, board, kernel parameters. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Board(StrEnum):
    """QEMU's machine types on which our PVH kernels boot."""

    PC = "pc"
    Q35 = "q35"
    MICROVM = "microvm"


@dataclass(frozen=True)
class MachineShape:
    """A machine to boot. Two machines of one shape differ in nothing that a guest can see.

    memory_mib: RAM. cpus: virtual CPUs. swap_mib: size of the swap disk, 0 for
    none. cmdline: kernel parameters after the harness's own, so that they win.
    """

    memory_mib: int = 512
    cpus: int = 2
    swap_mib: int = 256
    cmdline: Sequence[str] = ()
    board: Board = Board.PC

    def with_cmdline(self, *parameters: str) -> MachineShape:
        """The same machine with more kernel parameters."""
        return replace(self, cmdline=(*self.cmdline, *parameters))
