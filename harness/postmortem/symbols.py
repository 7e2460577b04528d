# SPDX-License-Identifier: GPL-2.0-only
"""Names of kernel addresses: System.map for the kernel, what the kernel itself keeps for its modules."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path

# An address further behind a symbol than this is not in it.
_FAR_BYTES = 1 << 20


class Symbols:
    """Addresses to names as %pS prints them, and names to addresses."""

    def __init__(self, table: Iterable[tuple[int, str, str]]) -> None:
        """table: address, name, module; the kernel's own symbols have no module."""
        self._table = sorted(set(table))
        self._addresses = [entry[0] for entry in self._table]
        self.addresses: Mapping[str, int] = {name: address for address, name, module in self._table if not module}

    def plus(self, table: Iterable[tuple[int, str, str]]) -> Symbols:
        """These symbols and more."""
        return Symbols([*self._table, *table])

    def find(self, address: int) -> tuple[str, int, int, str] | None:
        """Name, offset into it, size and module of what is at an address. The size is up to the next symbol."""
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > _FAR_BYTES:
            return None
        start = self._addresses[index]
        # The first of several names for one address; a name that marks an end is not where anything begins.
        first = bisect.bisect_left(self._addresses, start)
        after = bisect.bisect_right(self._addresses, start)
        size = self._addresses[after] - start if after < len(self._addresses) else 0
        size = size if size <= _FAR_BYTES else 0
        _, name, module = self._table[first]
        return name, address - start, size, module

    def name(self, address: int, *, called: bool = False) -> str:
        """An address as the kernel prints it; called: it is where a call returns to."""
        found = self.find(address - 1 if called else address)
        if found is None:
            return f"{address:#x}"
        name, offset, size, module = found
        return f"{name}+{offset + called:#x}/{size:#x}" + (f" [{module}]" if module else "")

    def function(self, address: int) -> str:
        """The bare name of the function that a call returns into, empty when there is none."""
        found = self.find(address - 1)
        return found[0].partition(".")[0] if found else ""


def read(system_map: Path) -> Symbols:
    """The kernel's own symbols."""
    table = []
    for line in system_map.read_text(encoding="ascii").splitlines():
        address, _, name = line.split()
        table.append((int(address, 16), name, ""))
    return Symbols(table)
