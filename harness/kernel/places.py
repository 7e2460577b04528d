# SPDX-License-Identifier: GPL-2.0-only
"""Where the lines that a user's patches changed are in a kernel that was built without debug info.

The files that hold them, and no others, are compiled once more with -g, as
lines.py does. A line is reached where a debugger would stop at it: at the
instructions that begin one of its statements.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import changes, line_table, lines
from harness.kernel.build import KernelBuild
from harness.kernel.changes import Changed
from harness.kernel.objects import ObjectTree
from harness.kernel.source import KernelSource
from harness.model.errors import MachineError

# Raise this when the same kernel and patches give other places.
_FORMAT = "2"
_LIMIT_S = 60.0
# A header is compiled into hundreds of objects, a second each: so many are looked at for each file.
OBJECTS_LIMIT = 24
# Where a function or a macro begins, with its name.
_BEGINS = re.compile(r"^(?:#[ \t]*define[ \t]+|[A-Za-z_][A-Za-z0-9_ \t*]*?)\b(\w+)\(", re.MULTILINE)
_WORD = re.compile(r"\w+")
# R_X86_64_64 and R_X86_64_PC64; all other relocations of code are of four bytes.
_WIDE = (1, 24)

Line = tuple[str, int]


@dataclass(frozen=True)
class Places:
    """at: line that makes code → offsets from _text of its first instructions, as often as it was inlined.

    silent: how many changed lines make no code. unknown: file → why not all of its lines were found.
    """

    at: Mapping[Line, tuple[int, ...]] = field(default_factory=dict)
    silent: int = 0
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Spot:
    """An instruction of a line: its function, and its offset from _text."""

    function: str
    offset: int
    begins: bool


def known(kernel: KernelBuild, cache: Path, since: KernelSource | None = None) -> Places | None:
    """What find() found before for this kernel."""
    kept = workspace.recall(_memory(kernel, cache, since))
    return None if kept is None else _restored(json.loads(kept))


def find(
    kernel: KernelBuild,
    objects: ObjectTree,
    cache: Path,
    progress: Progress = QUIET,
    since: KernelSource | None = None,
) -> Places:
    """The lines of the user's patches in a kernel. objects: the kernel's object tree, locked.

    since: an earlier state of the source; what has changed from there is looked for, too.
    """
    with workspace.space(cache):
        changed = changes.changed(kernel.recipe.series, kernel.recipe.source, cache, since)
        found = _found(kernel, changed, objects, cache, progress)
        workspace.remember(_memory(kernel, cache, since), json.dumps(_document(found)))
    return found


def _memory(kernel: KernelBuild, cache: Path, since: KernelSource | None) -> Path:
    patches = kernel.recipe.series.patches
    texts = (part for patch in patches for part in (str(patch.builtin), patch.text))
    return cache / "places" / f"{workspace.digest(_FORMAT, kernel.key, since.id if since else '', *texts)}.json"


def _document(places: Places) -> object:
    return [[[*line, *offsets] for line, offsets in places.at.items()], places.silent, dict(places.unknown)]


def _restored(document: tuple[list[tuple[str, int, *tuple[int, ...]]], int, dict[str, str]]) -> Places:
    at, silent, unknown = document
    return Places({(file, line): tuple(offsets) for file, line, *offsets in at}, silent, unknown)


def _found(
    kernel: KernelBuild, changed: dict[str, Changed], objects: ObjectTree, cache: Path, progress: Progress
) -> Places:
    unknown = {path: what.refused for path, what in changed.items() if what.refused}
    changed = {path: what for path, what in changed.items() if not what.refused}
    if not changed:
        return Places(unknown=unknown)
    spots: dict[str, dict[int, list[_Spot]]] = {path: defaultdict(list) for path in changed}
    holders = _holders(objects, changed, unknown)
    image = _Image(kernel.vmlinux)
    with (
        tempfile.TemporaryDirectory(dir=objects.folder, prefix="places-") as scratch,
        concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        made = pool.map(lambda path: lines.compiled_again(path, objects, Path(scratch), cache), holders)
        for number, (path, again) in enumerate(zip(holders, made, strict=True), 1):
            progress.advance("changed lines", number, len(holders))
            if again is None or lines.code(again) != lines.code(path):
                unknown |= dict.fromkeys(holders[path], f"is in {_short(path, objects)}, which -g changes")
                continue
            try:
                mine = [spot for spot in _spots(again, image, objects) if spot[0] in spots]
            except (ValueError, LookupError) as fault:
                unknown |= dict.fromkeys(holders[path], f"is in {_short(path, objects)}: {fault}")
                continue
            for file, line, spot in mine:
                spots[file][line].append(spot)
    return _placed(changed, spots, unknown)


def _holders(objects: ObjectTree, changed: Mapping[str, Changed], unknown: dict[str, str]) -> dict[Path, list[str]]:
    """The objects of vmlinux that were made from changed files, with those files; unknown takes what is left out."""
    listed = process.run(["ar", "t", objects.obj / "vmlinux.a"], timeout_s=_LIMIT_S, cwd=objects.obj)
    if listed.status:
        raise MachineError(f"the objects of vmlinux are not to be had: {listed.stderr.strip()[:200]}")
    members = [objects.obj / name for name in listed.stdout.splitlines()]
    pattern = re.compile(rf"/({'|'.join(map(re.escape, changed))})(?=[\s)]|$)", re.MULTILINE)
    users: dict[str, list[Path]] = {path: [] for path in changed}
    for member in members:
        try:
            note = member.with_name(f".{member.name}.cmd").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for path in set(pattern.findall(note)):
            users[path].append(member)
    found: dict[Path, list[str]] = {}
    for path, having in users.items():
        if not having:
            unknown[path] = "is not part of vmlinux in this configuration"
        elif len(having) > OBJECTS_LIMIT:
            # Those whose own source names what the lines are in come first.
            names = enclosing(_text(objects.tree / path), changed[path])
            sources = {member: (objects.tree / _short(member, objects)).with_suffix(".c") for member in having}
            having.sort(key=lambda member: (names.isdisjoint(_WORD.findall(_text(sources[member]))), member))
            unknown[path] = f"is part of {len(having)} objects, of which {OBJECTS_LIMIT} were looked at"
        for member in having[:OBJECTS_LIMIT]:
            found.setdefault(member, []).append(path)
    return found


def enclosing(text: str, what: Changed) -> set[str]:
    """The functions and macros of a header that its changed lines are in: what begins last before each line."""
    begun = [(text.count("\n", 0, match.start()) + 1, match[1]) for match in _BEGINS.finditer(text)]
    numbers = [number for number, _ in begun]
    last = (bisect.bisect_right(numbers, line) - 1 for line in (*what.added, *what.cut))
    return {begun[index][1] for index in last if index >= 0}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _placed(
    changed: Mapping[str, Changed], spots: Mapping[str, Mapping[int, Sequence[_Spot]]], unknown: Mapping[str, str]
) -> Places:
    at: dict[Line, tuple[int, ...]] = {}
    silent = 0
    for path, what in changed.items():
        having = spots[path]
        wanted = {line for line in what.added if line in having}
        silent += len(what.added) - len(wanted)
        wanted |= set(_beside(what.cut, having))
        for line in sorted(wanted):
            # An instruction that begins no statement was moved to where it is: other lines may lead there.
            first = [spot.offset for spot in having[line] if spot.begins]
            at[path, line] = tuple(sorted(set(first or [spot.offset for spot in having[line]])))
    return Places(at, silent, dict(unknown))


def _beside(cut: Sequence[int], having: Mapping[int, Sequence[_Spot]]) -> Iterator[int]:
    """The lines that stand for deleted ones: the next with code, when the code before is of the same function."""
    numbers = sorted(having)
    for line in cut:
        index = bisect.bisect_left(numbers, line)
        if 0 < index < len(numbers):
            before, after = ({spot.function for spot in having[numbers[at]]} for at in (index - 1, index))
            if before & after:
                yield numbers[index]


def _short(path: Path, objects: ObjectTree) -> str:
    return str(path.relative_to(objects.obj)) if path.is_relative_to(objects.obj) else path.name


def _spots(path: Path, image: _Image, objects: ObjectTree) -> Iterator[tuple[str, int, _Spot]]:
    """Every row of an object's line table whose instruction is in the kernel: file below the sources, line, spot."""
    tops = (objects.tree, objects.obj)
    short: dict[str, str] = {}
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        functions = _functions(elf, image)
        for row in line_table.rows(elf):
            file = short.setdefault(row.file, lines.short(row.file, tops))
            for function, start, end, there in functions.get(row.section, ()):
                if start <= row.address < end:
                    for address in there:
                        yield file, row.line, _Spot(function, address + row.address - start, row.begins)


def _functions(elf: ELFFile, image: _Image) -> dict[int, list[tuple[str, int, int, list[int]]]]:
    """Section → its functions: name, begin, end, and where the kernel has it, as offsets from _text."""
    found: dict[int, list[tuple[str, int, int, list[int]]]] = defaultdict(list)
    code = {section: (data, holes) for section, data, holes in _sections(elf)}
    for symbol in lines.symbol_table(elf).iter_symbols():
        section, start = symbol["st_shndx"], symbol["st_value"]
        if symbol["st_info"]["type"] != "STT_FUNC" or section not in code or not symbol["st_size"]:
            continue
        end = start + symbol["st_size"]
        data, holes = code[section]
        inside = [(at - start, size) for at, size in holes if start <= at < end]
        if there := image.find(symbol.name, data[start:end], inside):
            found[section].append((symbol.name, start, end, there))
    return found


def _sections(elf: ELFFile) -> Iterator[tuple[int, bytes, list[tuple[int, int]]]]:
    """Each section with code: index, bytes, and what the linker fills in: place and size."""
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & lines.EXECUTABLE:
            continue
        relocations = elf.get_section_by_name(f".rela{section.name}")
        entries = relocations.iter_relocations() if isinstance(relocations, RelocationSection) else ()
        yield index, section.data(), [(e["r_offset"], 8 if e["r_info_type"] in _WIDE else 4) for e in entries]


class _Image:
    """The functions of a vmlinux, by name."""

    def __init__(self, vmlinux: Path) -> None:
        self._where: dict[str, list[int]] = defaultdict(list)
        for entry in vmlinux.with_name("System.map").read_text(encoding="ascii").splitlines():
            address, kind, name = entry.split(maxsplit=2)
            if kind in "tTwW":
                self._where[name].append(int(address, 16))
        (self._text,) = self._where["_text"]
        with vmlinux.open("rb") as stream:
            elf = ELFFile(stream)
            self._code = [
                (section["sh_addr"], section.data())
                for section in elf.iter_sections()
                if section["sh_flags"] & lines.EXECUTABLE
            ]

    def find(self, name: str, code: bytes, holes: Sequence[tuple[int, int]]) -> list[int]:
        """Where the kernel has a function, as offsets from _text; of several with its name, those with its code."""
        there = self._where.get(name, [])
        if len(there) > 1:
            there = [at for at in there if _blank(self._bytes(at, len(code)), holes) == _blank(code, holes)]
        return [at - self._text for at in there]

    def _bytes(self, address: int, size: int) -> bytes:
        for start, data in self._code:
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        return b""


def _blank(code: bytes, holes: Sequence[tuple[int, int]]) -> bytes:
    """Code without what the linker fills in."""
    blank = bytearray(code)
    for at, size in holes:
        blank[at : at + size] = bytes(size)
    return bytes(blank)
