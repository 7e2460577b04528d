# SPDX-License-Identifier: GPL-2.0-only
"""The line table of an object: which line each instruction comes from, and where statements begin."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.lineprogram import LineProgram
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from harness.kernel.lines import symbol_table

_VERSION = 5
# System V ABI, AMD64 supplement, table 4.9: R_X86_64_64. What else a line table has is 4 bytes wide.
_R_WIDE = 1
# Every section of an object begins at 0. While the table is read, an address has the index of its section above it.
_SECTION_SHIFT = 48
_SECTIONS_MAX = 1 << 15


@dataclass(frozen=True)
class Row:
    """The instruction at an address of a section comes from a line; begins: and one of the line's statements with it.

    file: an absolute path. section: its index in the object.
    """

    section: int
    address: int
    file: str
    line: int
    begins: bool


def rows(elf: ELFFile) -> Iterator[Row]:
    """The rows of an object that was compiled with -gdwarf-5, one for each address.

    A statement that was left without an instruction has a row, too, which the compiler
    may have put where other lines lead: it is passed over. Raises ValueError or
    LookupError for a table that is damaged, or of another kind.
    """
    # The relocations of the rest of the debug info would take 4 s for mm/rmap.o.
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
    if dwarf.debug_line_sec is None:
        return
    try:
        _relocate(elf, dwarf.debug_line_sec.stream)
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is not None:
                yield from _rows(program)
    except (ELFError, DWARFError, ArithmeticError, TypeError, AttributeError) as damage:
        raise ValueError(f"a damaged line table: {damage}") from None


def _relocate(elf: ELFFile, table: IO[bytes]) -> None:
    """Write into a table what its relocations say, and the section with each address."""
    symbols = symbol_table(elf)
    relocations = elf.get_section_by_name(".rela.debug_line")
    for entry in relocations.iter_relocations() if isinstance(relocations, RelocationSection) else ():
        symbol = symbols.get_symbol(entry["r_info_sym"])
        number, section, wide = symbol["st_value"] + entry["r_addend"], symbol["st_shndx"], 4
        if entry["r_info_type"] == _R_WIDE:
            if not isinstance(section, int) or section >= _SECTIONS_MAX or number >> _SECTION_SHIFT:
                raise ValueError(f"an address in section {section}")
            number, wide = section << _SECTION_SHIFT | number, 8
        table.seek(entry["r_offset"])
        table.write(number.to_bytes(wide, "little"))


def _rows(program: LineProgram) -> Iterator[Row]:
    if program["version"] != _VERSION:
        raise ValueError(f"a line table of DWARF {program['version']}, not {_VERSION}")
    folders = [os.fsdecode(name) for name in program["include_directory"]]
    # Folders are below the first of them, in which the compiler ran.
    files = [
        os.path.normpath(os.path.join(folders[0], folders[file.dir_index], os.fsdecode(file.name)))  # noqa: PTH118
        for file in program["file_entry"]
    ]
    states = (entry.state for entry in program.get_entries() if entry.state is not None)
    for address, group in itertools.groupby(states, lambda state: state.address):
        *others, last = group
        if not last.end_sequence and last.line:
            begins = last.is_stmt or any(
                one.is_stmt and (one.file, one.line) == (last.file, last.line) for one in others
            )
            section, offset = divmod(address, 1 << _SECTION_SHIFT)
            yield Row(section, offset, files[last.file], last.line, bool(begins))
