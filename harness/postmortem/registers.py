# SPDX-License-Identifier: GPL-2.0-only
"""The registers of all vCPUs, as QEMU's "info registers -a" prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

COMMAND = "info registers -a"
# The name of their file in a scenario's folder, and the line in it between two looks.
FILE = "registers.txt"
BETWEEN = "===== after the dump =====\n"

_CPU = re.compile(r"^CPU#(\d+)", re.MULTILINE)
_RIP = re.compile(r"\bRIP=([0-9a-f]+)")
_CPL = re.compile(r"\bCPL=(\d)")
_HALTED = re.compile(r"\bHLT=1")
_CR4 = re.compile(r"\bCR4=([0-9a-f]+)")
# CR4.LA57: page tables of five levels.
_LA57 = 1 << 12


@dataclass(frozen=True)
class Registers:
    """Where one vCPU stands. halted: it waits for an interrupt, which QEMU does not tell under KVM."""

    cpu: int
    rip: int
    user: bool
    halted: bool
    five_levels: bool


def parse(text: str) -> list[Registers]:
    """Every vCPU in the text; one whose RIP is missing is left out."""
    starts = list(_CPU.finditer(text))
    found = []
    for start, end in zip(starts, [*(one.start() for one in starts[1:]), len(text)], strict=True):
        part = text[start.end() : end]
        rip, cpl, cr4 = _RIP.search(part), _CPL.search(part), _CR4.search(part)
        if rip:
            five = bool(cr4 and int(cr4[1], 16) & _LA57)
            user = bool(cpl and cpl[1] == "3")
            found.append(Registers(int(start[1]), int(rip[1], 16), user, bool(_HALTED.search(part)), five))
    return found


def read(folder: Path) -> tuple[list[Registers], list[Registers]]:
    """Both looks that were kept; empty where there were none."""
    try:
        first, _, second = (folder / FILE).read_text(encoding="utf-8").partition(BETWEEN)
    except FileNotFoundError:
        return [], []
    return parse(first), parse(second)
