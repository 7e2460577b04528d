# SPDX-License-Identifier: GPL-2.0-only
"""File and line of a kernel's functions, inlines too, for a kernel that was built without debug info.

A file on a stack is compiled once more, by its own command with -g added, and
the result is trusted only if its code is the same, byte for byte. A handful of
files costs seconds; a kernel with debug info costs five minutes.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import build as builds
from harness.kernel import modules, toolchain
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.model.errors import MachineError

_LIMIT_S = 300.0
# How many files are compiled again, at a second each.
FILES_LIMIT = 300
# How many addresses addr2line is given at once.
_ADDRESSES = 1000
EXECUTABLE = 4  # SHF_EXECINSTR
# Functions begin at multiples of 16, and the size that a stack trace prints reaches up to the next one.
_ALIGNMENT = 16
# A symbol that assembly defines often has no size.
_SYMBOL = re.compile(r"^(?P<path>.*?):(?P<value>[0-9a-f]+) (?:(?P<size>[0-9a-f]+) )?(?P<kind>[tTwW]) (?P<name>\S+)$")
_ADDRESS = re.compile(r"^0x[0-9a-f]+\n", re.MULTILINE)
_FILE = re.compile(r"[^\s?]+:\d+")


@dataclass(frozen=True)
class Spot:
    """A place in a function as stack traces print it. size: 0 when it is not known."""

    function: str
    offset: int
    size: int


def find(
    kernel: KernelBuild, spots: Iterable[Spot], cache: Path, module: Path | None = None, progress: Progress = QUIET
) -> dict[Spot, tuple[str, ...]]:
    """Spot → "file:line (function)", innermost inline first; a spot without a certain answer is left out.

    module: the .ko of ours that was loaded. If its sources now make another module,
    its functions are left out, and progress says so.
    """
    if kernel.recipe.built:
        progress.say("functions get no lines: those of a tree that its owner has built are in its own vmlinux")
        return {}
    with builds.objects_again(kernel, cache, progress) as objects:
        holders: dict[Path, list[Spot]] = {}
        where = _where(objects, _folder(module, kernel, objects, cache, progress) if module else None)
        for spot in sorted(set(spots), key=lambda spot: (spot.function, spot.offset)):
            fitting = [path for path, size in where.get(spot.function, ()) if _fits(size, spot)]
            # Static functions may share a name: a match counts only if it is alone, or alone of its size.
            if len(fitting) == 1:
                holders.setdefault(fitting[0], []).append(spot)
        if len(holders) > FILES_LIMIT:
            progress.say(f"{len(holders)} files hold the functions: those with the most are looked up, {FILES_LIMIT}")
            most = sorted(holders, key=lambda path: len(holders[path]), reverse=True)[:FILES_LIMIT]
            holders = {path: holders[path] for path in most}
        if holders:
            progress.say(f"compiling {len(holders)} files of Linux {kernel.version} again, for their lines")
        found: dict[Spot, tuple[str, ...]] = {}
        with workspace.space(cache), tempfile.TemporaryDirectory(dir=objects.folder, prefix="lines-") as scratch:
            compilers = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
            with compilers as pool:
                made = pool.map(lambda path: compiled_again(path, objects, Path(scratch), cache), holders)
                for number, ((path, inside), again) in enumerate(zip(holders.items(), made, strict=True), 1):
                    progress.advance("lines", number, len(holders))
                    if again is not None and code(again) == code(path):
                        found |= _lines(again, inside, (objects.tree, objects.obj, objects.folder / "modules"))
    return found


def find_in(module: Path, spots: Iterable[Spot]) -> dict[Spot, tuple[str, ...]]:
    """The same for the functions of a module that was built with debug info, such as a user's."""
    with module.open("rb") as stream:
        elf = ELFFile(stream)
        sizes = {symbol.name: symbol["st_size"] for symbol in symbol_table(elf).iter_symbols()}
        # The names of its sources are relative to where the compiler ran.
        units = elf.get_dwarf_info().iter_CUs() if elf.has_dwarf_info() else ()
        roots = {unit.get_top_DIE().attributes["DW_AT_comp_dir"].value.decode() for unit in units}
    fitting = [spot for spot in spots if spot.function in sizes and _fits(sizes[spot.function], spot)]
    return _lines(module, fitting, [Path(root) for root in roots])


def _fits(size: int, spot: Spot) -> bool:
    return not spot.size or not size or -(-size // _ALIGNMENT) * _ALIGNMENT == spot.size or size == spot.size


def _folder(module: Path, kernel: KernelBuild, objects: ObjectTree, cache: Path, progress: Progress) -> Path | None:
    """Where the objects of a module are; None when its sources now make another module."""
    log = cache / "logs" / f"lines-{module.stem}.log"
    made = modules.made_in(objects, workspace.data("guest-modules") / module.stem, kernel, cache, log, progress)
    if made.read_bytes() == module.read_bytes():
        return made.parent
    progress.say(f"{module}: guest-modules/{module.stem} now makes another module: its functions get no lines")
    return None


def _where(objects: ObjectTree, folder: Path | None = None) -> dict[str, list[tuple[Path, int]]]:
    """Function → the objects that hold one of that name, and its size there. folder: of a module's objects."""
    # kbuild lists what it compiled for a module; beside these objects is their sum, NAME.o, with every function again.
    lists = folder.glob("*.mod") if folder else ()
    ours = [objects.obj / name for path in lists for name in path.read_text(encoding="utf-8").split()]
    done = process.run(["nm", "-A", "-S", objects.obj / "vmlinux.a", *ours], timeout_s=_LIMIT_S)
    return _defined(done.stdout)


def _defined(listing: str) -> dict[str, list[tuple[Path, int]]]:
    """Function → where the kernel has one of that name, from what nm -A -S prints of the objects."""
    found: dict[str, list[tuple[str, Path, int]]] = {}
    for line in listing.splitlines():
        if match := _SYMBOL.match(line):
            path = Path(match["path"].rpartition(":")[2])
            found.setdefault(match["name"], []).append((match["kind"], path, int(match["size"] or "0", 16)))
    # The linker takes a strong definition in place of a weak one, as it does for arch_cpu_idle().
    strong = {name for name, places in found.items() if any(kind == "T" for kind, _, _ in places)}
    return {
        name: [(path, size) for kind, path, size in places if name not in strong or kind not in "wW"]
        for name, places in found.items()
    }


def compiled_again(path: Path, objects: ObjectTree, scratch: Path, cache: Path) -> Path | None:
    """The object made anew with debug info, by the command that kbuild noted; None when that does not work."""
    note = path.with_name(f".{path.name}.cmd")
    target = Path(tempfile.mkdtemp(dir=scratch)) / path.name
    try:
        text = note.read_text(encoding="utf-8").partition("\n")[0].partition(" := ")[2]
        words = shlex.split(text.replace("$(pound)", "#").replace("$$", "$"))
    except (OSError, ValueError):
        return None
    for command in _commands(words):
        own = [str(target) if _same(word, path, objects) else word for word in command]
        own = [word for word in own if not word.startswith("-Wp,-MMD")]
        if own[0].startswith("./"):
            own[0] = str(objects.obj / own[0])
        if "-c" in own:
            own.insert(own.index("-c"), "-gdwarf-5")
        done = toolchain.run(
            own,
            tree=objects.tree,
            reads=[objects.obj],
            writes=[target.parent],
            cache=cache,
            timeout_s=_LIMIT_S,
            cwd=objects.obj,
        )
        if done.status:
            return None
    return target if target.exists() else None


def _commands(words: Sequence[str]) -> Iterator[list[str]]:
    """The commands of a shell line: the compiler's, then objtool's."""
    command: list[str] = []
    for word in words:
        if word.rstrip(";") != word:
            command += [word.rstrip(";")] if word != ";" else []
            yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def _same(word: str, path: Path, objects: ObjectTree) -> bool:
    return word.endswith(path.name) and (objects.obj / word).resolve() == path.resolve()


def code(path: Path) -> dict[str, tuple[bytes, list[tuple[int, int, int, str]]]]:
    """What an object's executable sections hold: bytes and relocations, with the names that these refer to."""
    code: dict[str, tuple[bytes, list[tuple[int, int, int, str]]]] = {}
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table = symbol_table(elf)
        for section in elf.iter_sections():
            if section["sh_flags"] & EXECUTABLE:
                code[section.name] = (section.data(), [])
        for section in elf.iter_sections():
            target = section.name.removeprefix(".rela")
            if isinstance(section, RelocationSection) and target in code:
                for entry in section.iter_relocations():
                    symbol = table.get_symbol(entry["r_info_sym"])
                    index = symbol["st_shndx"]
                    name = symbol.name or (elf.get_section(index).name if isinstance(index, int) else "")
                    code[target][1].append((entry["r_offset"], entry["r_info_type"], entry["r_addend"], name))
    return code


def symbol_table(elf: ELFFile) -> SymbolTableSection:
    """The symbols of an object of the kernel's."""
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise MachineError("an object of the kernel has no symbols")
    return table


def _lines(path: Path, spots: Sequence[Spot], tops: Sequence[Path]) -> dict[Spot, tuple[str, ...]]:
    """What addr2line says about places in an object. tops: the folders that source names are relative to."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols = {symbol.name: symbol for symbol in symbol_table(elf).iter_symbols()}
        sections: dict[str, list[tuple[Spot, int]]] = {}
        for spot in spots:
            symbol = symbols.get(spot.function)
            # An alias may be gone, and an absolute symbol is in no section.
            if symbol is not None and isinstance(symbol["st_shndx"], int):
                name = elf.get_section(symbol["st_shndx"]).name
                sections.setdefault(name, []).append((spot, symbol["st_value"] + spot.offset))
    found = {}
    for name, places in sections.items():
        for start in range(0, len(places), _ADDRESSES):
            some = places[start : start + _ADDRESSES]
            argv: list[str | Path] = ["addr2line", "-a", "-i", "-f", "-e", path, "-j", name]
            done = process.run([*argv, *(f"{address:#x}" for _, address in some)], timeout_s=_LIMIT_S)
            # An address, then its function and place, then those of the functions that it is inlined in.
            for (spot, _), said in zip(some, _ADDRESS.split(done.stdout)[1:], strict=False):
                lines = said.splitlines()
                pairs = zip(lines[::2], lines[1::2], strict=False)
                texts = [f"{short(place, tops)} ({function})" for function, place in pairs if _FILE.match(place)]
                if texts:
                    found[spot] = tuple(texts)
    return found


def short(place: str, tops: Sequence[Path]) -> str:
    """file:line below the top of the sources, of what was generated, or of the modules."""
    place = os.path.normpath(place.partition(" (discriminator")[0])
    for top in tops:
        # A compiler that was told to map prefixes may have made the path relative.
        for prefix in (f"{top}/", f"../{top.name}/"):
            if place.startswith(prefix):
                return place.removeprefix(prefix)
    return place
