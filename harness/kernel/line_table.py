# SPDX-License-Identifier: GPL-2.0-only
"""The line table of an object: which line each instruction comes from, and where statements begin.

pyelftools decodes one too, but applies every relocation of the debug info first, which takes 4 s
for mm/rmap.o, and does not tell which section of an object an address is in.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from harness.kernel.lines import symbol_table

# DWARF 5, tables 7.25 to 7.27.
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_PATH, _FOLDER = 1, 2
_VERSION = 5
_NO_SECTION = -1


class _Opcode(IntEnum):
    """Instructions of the program of a table."""

    COPY = 1
    ADVANCE_PC = 2
    ADVANCE_LINE = 3
    SET_FILE = 4
    NEGATE_STMT = 6
    CONST_ADD_PC = 8
    FIXED_ADVANCE_PC = 9


class _Form(IntEnum):
    """How a header holds a name, or a number; of DWARF's forms (7.5.6) those that compilers use here."""

    STRING = 0x08
    UDATA = 0x0F
    DATA16 = 0x1E
    LINE_STRP = 0x1F


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


@dataclass
class _Reader:
    """Takes numbers and names from a line table. Raises IndexError behind its end."""

    table: bytes
    names: bytes
    # Place in the table → symbol's section, and number, of what is relocated.
    relocated: dict[int, tuple[int, int]]
    at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.table[self.at - 1]

    def fixed(self, size: int) -> int:
        if self.at + size > len(self.table):
            raise IndexError(self.at)
        _, number = self.relocated.get(self.at, (0, int.from_bytes(self.table[self.at : self.at + size], "little")))
        self.at += size
        return number

    def unsigned(self) -> int:
        """A LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def signed(self) -> int:
        began = self.at
        value = self.unsigned()
        bits = 7 * (self.at - began)
        return value - (1 << bits) if value >> (bits - 1) else value

    def entries(self) -> list[dict[int, int | str]]:
        """The folders or the files of a header: each as its description says."""
        fields = [(self.unsigned(), self.unsigned()) for _ in range(self.byte())]
        if _PATH not in dict(fields):
            raise ValueError("files without names")
        return [{kind: self._value(form) for kind, form in fields} for _ in range(self.unsigned())]

    def _value(self, form: int) -> int | str:
        match form:
            case _Form.UDATA:
                return self.unsigned()
            case _Form.DATA16:
                return self.fixed(16)
            case _Form.LINE_STRP:
                return _name(self.names, self.fixed(4))
            case _Form.STRING:
                name = _name(self.table, self.at)
                self.at += len(os.fsencode(name)) + 1
                return name
        raise ValueError(f"a name of form {form:#x}")


@dataclass(frozen=True)
class _Header:
    """What a table says of its instructions; base, width, first: how one of a byte advances address and line."""

    step: int
    initial: bool
    base: int
    width: int
    first: int
    lengths: list[int]

    @classmethod
    def read(cls, reader: _Reader) -> _Header:
        step, _, initial = reader.byte(), reader.byte(), reader.byte()
        base, width, first = reader.byte(), reader.byte(), reader.byte()
        if not width:
            raise ValueError("no line table of DWARF 5")
        lengths = [reader.byte() for _ in range(first - 1)]
        return cls(step, bool(initial), base - 256 if base > 127 else base, width, first, lengths)


def rows(elf: ELFFile) -> Iterator[Row]:
    """The rows of an object that was compiled with -gdwarf-5, one for each address.

    A statement that was left without an instruction has a row, too, which the compiler
    may have put where other lines lead: it is passed over. Raises ValueError or
    LookupError for a table that is damaged, or of another kind.
    """
    table, names = elf.get_section_by_name(".debug_line"), elf.get_section_by_name(".debug_line_str")
    if table is None or names is None:
        return
    reader = _Reader(table.data(), names.data(), _relocated(elf))
    while reader.at < len(reader.table):
        size = reader.fixed(4)
        end = reader.at + size
        if reader.fixed(2) != _VERSION or end > len(reader.table):
            raise ValueError("no line table of DWARF 5")
        reader.at += 2  # The sizes of an address and of a segment's selector.
        program = reader.fixed(4) + reader.at
        header = _Header.read(reader)
        folders = [str(entry[_PATH]) for entry in reader.entries()]
        files = [_path(entry, folders) for entry in reader.entries()]
        reader.at = program
        for (section, address), group in itertools.groupby(_run(reader, end, header), lambda row: row[:2]):
            *others, (_, _, *line, begins) = group
            if line[-1]:
                begins = begins or any(also and line == it for _, _, *it, also in others)
                yield Row(section, address, files[line[0]], line[1], begins)


def _relocated(elf: ELFFile) -> dict[int, tuple[int, int]]:
    """What the relocations say of the table: place → the section that is meant, and the number in it."""
    symbols = symbol_table(elf)
    found = {}
    relocations = elf.get_section_by_name(".rela.debug_line")
    if isinstance(relocations, RelocationSection):
        for entry in relocations.iter_relocations():
            symbol = symbols.get_symbol(entry["r_info_sym"])
            index = symbol["st_shndx"]
            number = symbol["st_value"] + entry["r_addend"]
            found[entry["r_offset"]] = (index if isinstance(index, int) else _NO_SECTION, number)
    return found


def _path(entry: dict[int, int | str], folders: list[str]) -> str:
    """The absolute path of a file; folders are below the first of them, in which the compiler ran."""
    return os.path.normpath(os.path.join(folders[0], folders[int(entry.get(_FOLDER, 0))], str(entry[_PATH])))  # noqa: PTH118 - text


@dataclass
class _Registers:
    """Where the program of a table is."""

    begins: bool
    section: int = _NO_SECTION
    address: int = 0
    file: int = 1
    line: int = 1

    def ended(self, reader: _Reader) -> bool:
        """Follow an instruction of many bytes; True when it ends a sequence of rows, behind the last instruction."""
        size = reader.unsigned()
        after = reader.at + size
        kind = reader.byte()
        if kind == _SET_ADDRESS:
            self.section, _ = reader.relocated.get(reader.at, (_NO_SECTION, 0))
            self.address = reader.fixed(8)
        elif kind == _END_SEQUENCE:
            self.line = 0
        reader.at = after
        return kind == _END_SEQUENCE

    def standard(self, opcode: int, reader: _Reader, header: _Header) -> None:
        """An instruction that makes no row."""
        match opcode:
            case _Opcode.ADVANCE_PC:
                self.address += reader.unsigned() * header.step
            case _Opcode.ADVANCE_LINE:
                self.line += reader.signed()
            case _Opcode.SET_FILE:
                self.file = reader.unsigned()
            case _Opcode.NEGATE_STMT:
                self.begins = not self.begins
            case _Opcode.CONST_ADD_PC:
                self.address += (255 - header.first) // header.width * header.step
            case _Opcode.FIXED_ADVANCE_PC:
                self.address += reader.fixed(2)
            case _:
                for _ in range(header.lengths[opcode - 1]):
                    reader.unsigned()


def _run(reader: _Reader, end: int, header: _Header) -> Iterator[tuple[int, int, int, int, bool]]:
    """Section, address, file, line, and whether a statement begins: each row of a table; behind the last, line 0."""
    now = _Registers(header.initial)
    while reader.at < end:
        opcode = reader.byte()
        if opcode >= header.first:
            now.address += (opcode - header.first) // header.width * header.step
            now.line += header.base + (opcode - header.first) % header.width
        elif opcode and opcode != _Opcode.COPY:
            now.standard(opcode, reader, header)
            continue
        elif not opcode and not now.ended(reader):
            continue
        yield now.section, now.address, now.file, now.line, now.begins
        if not opcode:
            now = _Registers(header.initial)


def _name(text: bytes, start: int) -> str:
    return os.fsdecode(text[start : text.index(b"\0", start)])
