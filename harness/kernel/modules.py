# SPDX-License-Identifier: GPL-2.0-only
"""Modules, the project's own and those of users, built against a kernel of the store and kept beside it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import build as builds
from harness.kernel import toolchain
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.model.errors import BuildError, CannotTest, UsageError, unreadable

_SOURCES = ("*.c", "*.h", "*.S", "Makefile", "Kbuild")
_COMPLAINT = re.compile(r"\S+:\d+(?::\d+)?: (?:warning|error): .+|WARNING: modpost: .+")
# What a user's folder of a module may hold.
FILES_LIMIT, BYTES_LIMIT = 1000, 32 << 20
_MADE = (".mod.c", ".ko", ".o", ".cmd")
_ORDER = "modules.order"


@dataclass(frozen=True)
class OutOfTree:
    """A user's modules in the order in which they are loaded, with debug info, and what the compiler said at W=1."""

    modules: Sequence[Path]
    warnings: Sequence[str]


def build_module(
    folder: Path,
    kernel: KernelBuild,
    cache: Path,
    progress: Progress = QUIET,
    suffix: str = ".ko",
    objects: ObjectTree | None = None,
) -> Path:
    """Build the module in a folder, named like the folder, or find it in the store; returns the path of its .ko.

    The sources are copied, so nothing is written into the folder. suffix: ".o"
    for the object alone, not linked. objects: the kernel's, where the caller has
    locked them. Raises BuildError for a module that does not compile on this kernel.
    """
    key = key_of(folder, kernel.key)
    target = cache / "modules" / key
    module = target / f"{folder.name}{suffix}"
    what = f"module {folder.name}"
    if _whole(module, progress, what):
        return module
    having = contextlib.nullcontext(objects) if objects else builds.objects_again(kernel, cache, progress)
    with having as objects:
        if _whole(module, progress, what):
            return module
        progress.say(f"building {what}")
        log = cache / "logs" / f"module-{key}.log"
        made = made_in(objects, folder, kernel, cache, log, progress, suffix)
        with workspace.publishing(target) as fresh:
            shutil.copyfile(made, fresh / made.name)
            shutil.copyfile(log, fresh / "build.log")
    return module


def key_of(folder: Path, kernel: str) -> str:
    """The key of the module in a folder, as it is now, for a kernel by its key."""
    texts = [part for path in source_files(folder) for part in (path.name, path.read_bytes())]
    return workspace.digest(builds.RECIPE, kernel, folder.name, *texts)


def made_in(
    objects: ObjectTree,
    folder: Path,
    kernel: KernelBuild,
    cache: Path,
    log: Path,
    progress: Progress = QUIET,
    suffix: str = ".ko",
) -> Path:
    """Build a module, as its folder is now, in a kernel's object tree, beside its objects. Raises BuildError."""
    copy = objects.folder / "modules" / folder.name
    with workspace.space(copy):
        _mirror(source_files(folder), copy)
    made = copy / f"{folder.name}{suffix}"
    goal = "modules" if suffix == ".ko" else made.name
    argv = toolchain.make(
        kernel.recipe.toolchain, objects.tree, objects.obj, kernel.recipe.jobs, f"M={copy}", "W=1", goal
    )
    what = f"module {folder.name}"
    objects.run(argv, what, log, cache, progress, writes=[copy])
    if not made.exists():
        raise BuildError(f"{what}: make did not produce {made.name}; its output is in {log}")
    return made


def in_tree(name: str, kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> Path:
    """One of the kernel's own modules, such as lib/test_hmm, from its object tree; kept in the store from then on.

    Raises CannotTest for one that the kernel was built without.
    """
    theirs = kernel.recipe.built.obj / f"{name}.ko" if kernel.recipe.built else None
    has = [workspace.digest_file(theirs)] if theirs and theirs.is_file() else []
    target = cache / "modules" / workspace.digest(builds.RECIPE, kernel.key, name, *has)
    module = target / f"{name.rpartition('/')[2]}.ko"
    if _whole(module, progress, f"module {name}"):
        return module
    with builds.objects_again(kernel, cache, progress) as objects:
        made = theirs or objects.obj / f"{name}.ko"
        if not made.exists():
            raise CannotTest(f"module {name}: this kernel is built without it")
        if not _whole(module, progress, f"module {name}"):
            with workspace.publishing(target) as fresh:
                shutil.copyfile(made, fresh / module.name)
    return module


def _whole(module: Path, progress: Progress, what: str) -> bool:
    """Whether the store has a module, undamaged: a folder of objects has one key for .ko and .o."""
    return workspace.whole(module.parent, progress, what) and module.exists()


def out_of_tree(folder: Path, kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> OutOfTree:
    """Build what the Makefile or Kbuild of a user's folder names, or find it in the store.

    The folder is copied with those below it, so nothing is written into it; its content is the key. Raises
    UsageError for a folder that holds no module, BuildError for one that does not compile on this kernel.
    """
    try:
        sources = _tree(folder)
        texts = [part for path in sources for part in (str(path.relative_to(folder)), path.read_bytes())]
    except OSError as error:
        raise unreadable(error, f"{error.filename}: cannot be read: {error.strerror}") from None
    target = cache / "modules" / workspace.digest(builds.RECIPE, "a user's", kernel.key, folder.name, *texts)
    what = f"module {folder.name}"
    if not workspace.whole(target, progress, what):
        with builds.objects_again(kernel, cache, progress) as objects:
            if not workspace.whole(target, progress, what):
                progress.say(f"building {what}")
                _make_out_of_tree(folder, sources, objects, kernel, cache, target, progress)
    said = (target / "build.log").read_text(encoding="utf-8").splitlines()
    order = (target / _ORDER).read_text(encoding="utf-8").splitlines()
    return OutOfTree([target / name for name in order], [line for line in said if _COMPLAINT.match(line)])


def _make_out_of_tree(
    folder: Path,
    sources: Sequence[Path],
    objects: ObjectTree,
    kernel: KernelBuild,
    cache: Path,
    target: Path,
    progress: Progress,
) -> None:
    what, log = f"module {folder.name}", cache / "logs" / f"{target.name}.log"
    with workspace.space(cache), tempfile.TemporaryDirectory(dir=objects.folder, prefix="module-") as scratch:
        # Not by its own name, which may have a blank that make would take for the end of a word.
        copy = Path(scratch) / "module"
        for path in sources:
            mine = copy / path.relative_to(folder)
            mine.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, mine)
        # With debug info: what a report of the kernel says about the module is told by file and line.
        words = (f"M={copy}", "W=1", f"CFLAGS_MODULE=-g -ffile-prefix-map={copy}/=", "modules")
        argv = toolchain.make(kernel.recipe.toolchain, objects.tree, objects.obj, 0, *words)
        try:
            objects.run(argv, what, log, cache, progress, writes=[copy])
        except BuildError as error:
            raise BuildError(error.message.replace(f"{copy}/", f"{folder}/"), error.hint) from None
        made = _listed(copy / _ORDER)
        if not made:
            raise UsageError(f"{folder}: make made no module there", f"echo 'obj-m := NAME.o' > {folder}/Kbuild")
        with workspace.publishing(target) as fresh:
            for module in made:
                shutil.copyfile(module, fresh / module.name)
            (fresh / _ORDER).write_text("".join(f"{module.name}\n" for module in made), encoding="utf-8")
            said = log.read_text(encoding="utf-8", errors="backslashreplace")
            (fresh / "build.log").write_text(said.replace(f"{copy}/", ""), encoding="utf-8")


def _listed(order: Path) -> list[Path]:
    """The modules that kbuild has made, by absolute path; until 6.1, it wrote their names relative to itself."""
    try:
        names = order.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    made = [(order.parent / name).with_suffix(".ko") for name in names]
    return [path for path in made if path.is_relative_to(order.parent) and path.is_file()]


def _tree(folder: Path) -> list[Path]:
    """The files of a user's module, those in folders below it, too."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", "name the folder of a module")
    found: list[Path] = []
    size = 0
    for path in _files(folder):
        found.append(path)
        size += path.stat().st_size
        if len(found) > FILES_LIMIT or size > BYTES_LIMIT:
            raise UsageError(
                f"{folder}: more than {FILES_LIMIT} files or {BYTES_LIMIT >> 20} MiB (limit)",
                "name the folder of one module",
            )
    if not {folder / "Makefile", folder / "Kbuild"} & set(found):
        raise UsageError(
            f"{folder}: holds no module: no Makefile and no Kbuild", f"echo 'obj-m := NAME.o' > {folder}/Kbuild"
        )
    return found


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that nobody made from others, in the order of their names; hidden ones are left out."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.endswith(_MADE):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file() and entry.name not in (_ORDER, "Module.symvers"):
            yield Path(entry.path)


def built_with(kernel: KernelBuild, name: str, cache: Path, progress: Progress = QUIET) -> list[Path]:
    """A module of the kernel's own by its name, as modprobe knows it, behind those that it depends on."""
    listed = _order(kernel, cache, progress).read_text(encoding="utf-8").split()
    places = {_plain(Path(entry).stem): Path(entry).with_suffix("") for entry in listed}
    found: dict[str, Path] = {}

    def take(one: str) -> None:
        if one in found:
            return
        if one not in places:
            raise CannotTest(f"module {one}: this kernel has none of that name", f"it has {', '.join(sorted(places))}")
        made = in_tree(str(places[one]), kernel, cache, progress)
        for other in depends(made):
            take(_plain(other))
        found[one] = made

    take(_plain(name))
    return list(found.values())


def _order(kernel: KernelBuild, cache: Path, progress: Progress) -> Path:
    """The list of the kernel's own modules, kept in the store: who asks for it again waits for nobody's build."""
    target = cache / "modules" / workspace.digest(builds.RECIPE, kernel.key, _ORDER)
    if not workspace.whole(target, progress, _ORDER):
        with builds.objects_again(kernel, cache, progress) as objects:
            if not workspace.whole(target, progress, _ORDER):
                with workspace.publishing(target) as fresh:
                    shutil.copyfile(objects.obj / _ORDER, fresh / _ORDER)
    return target / _ORDER


def depends(module: Path) -> list[str]:
    """The modules that a module says it depends on."""
    with module.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".modinfo")
        said = section.data() if section else b""
    words = [entry.partition(b"=")[2] for entry in said.split(b"\0") if entry.startswith(b"depends=")]
    return [name for word in words for name in word.decode("ascii", "backslashreplace").split(",") if name]


def _plain(name: str) -> str:
    return name.rpartition("/")[2].replace("-", "_")


def complaints(folder: Path, kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> list[str]:
    """What the compiler at W=1 and sparse say about a module on this kernel; the whole module is compiled anew.

    Raises BuildError for a module that does not compile, LaunchError without sparse.
    """
    process.which("sparse")
    with (
        builds.objects_of(kernel.recipe, cache, progress) as (_, objects, _),
        workspace.space(cache),
        tempfile.TemporaryDirectory(dir=objects.folder, prefix="check-") as scratch,
    ):
        copy, log = Path(scratch) / folder.name, Path(scratch) / "log"
        _mirror(source_files(folder), copy)
        words = (f"M={copy}", "W=1", "C=2", "CHECK=sparse", "modules")
        argv = toolchain.make(kernel.recipe.toolchain, objects.tree, objects.obj, 0, *words)
        objects.run(argv, f"module {folder.name}", log, cache, progress, writes=[copy])
        said = log.read_text(encoding="utf-8").splitlines()
    return [line for line in said if _COMPLAINT.match(line)]


def source_files(folder: Path) -> list[Path]:
    """The files of a module's folder that make reads."""
    sources = sorted({path for pattern in _SOURCES for path in folder.glob(pattern)})
    if not sources:
        raise UsageError(f"{folder}: holds no module")
    return sources


def _mirror(sources: list[Path], copy: Path) -> None:
    """Copy the sources that differ; other files in the copy were made from them."""
    copy.mkdir(parents=True, exist_ok=True)
    for path in sources:
        content = path.read_bytes()
        mine = copy / path.name
        if not mine.exists() or mine.read_bytes() != content:
            workspace.write_atomic(mine, content)
    names = {path.name for path in sources}
    for pattern in _SOURCES:
        for stale in copy.glob(pattern):
            if stale.name not in names and not stale.name.endswith(".mod.c"):
                stale.unlink()
