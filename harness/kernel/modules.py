# SPDX-License-Identifier: GPL-2.0-only
"""The project's own kernel modules, built against a kernel of the store and kept beside it."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import build as builds
from harness.kernel import toolchain
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.model.errors import BuildError, CannotTest, UsageError

_SOURCES = ("*.c", "*.h", "*.S", "Makefile", "Kbuild")
_COMPLAINT = re.compile(r"\S+:\d+(?::\d+)?: (?:warning|error): .+|WARNING: modpost: .+")


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
    sources = source_files(folder)
    texts = [part for path in sources for part in (path.name, path.read_bytes())]
    key = workspace.digest(builds.RECIPE, kernel.key, folder.name, *texts)
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
    argv = toolchain.make(kernel.recipe.toolchain, objects.tree, objects.obj, 0, f"M={copy}", "W=1", goal)
    what = f"module {folder.name}"
    objects.run(argv, what, log, cache, progress)
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
        objects.run(argv, f"module {folder.name}", log, cache, progress)
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
