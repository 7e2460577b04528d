# SPDX-License-Identifier: GPL-2.0-only
"""The project's own kernel modules, built against a kernel of the store and kept beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.host import workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import build as builds
from harness.kernel import toolchain
from harness.kernel.build import KernelBuild
from harness.model.errors import BuildError, MachineError, UsageError

_SOURCES = ("*.c", "*.h", "*.S", "Makefile", "Kbuild")


def build_module(folder: Path, kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> Path:
    """Build the module in a folder, named like it, or find it in the store; the path of its .ko.

    The sources are copied, so nothing is written into the folder. Raises
    BuildError for a module that does not compile on this kernel.
    """
    sources = sorted({path for pattern in _SOURCES for path in folder.glob(pattern)})
    if not sources:
        raise UsageError(f"{folder}: holds no module")
    texts = [part for path in sources for part in (path.name, path.read_bytes())]
    key = workspace.digest(builds.RECIPE, kernel.key, folder.name, *texts)
    target = cache / "modules" / key
    module = target / f"{folder.name}.ko"
    if module.exists():
        return module
    with builds.objects_of(kernel.recipe, cache, progress) as (_, objects, found):
        if found != kernel.key:
            raise MachineError(
                f"--source {kernel.recipe.source.spec}: was edited since its kernel was built", "run it again"
            )
        if module.exists():
            return module
        copy = objects.folder / "modules" / folder.name
        with workspace.space(copy):
            _mirror(sources, copy)
        what = f"module {folder.name}"
        progress.say(f"building {what}")
        log = cache / "logs" / f"module-{key}.log"
        argv = toolchain.make(kernel.recipe.toolchain, objects.tree, objects.obj, 0, f"M={copy}", "W=1", "modules")
        objects.run(argv, what, log, cache, progress)
        made = copy / f"{folder.name}.ko"
        if not made.exists():
            raise BuildError(f"{what}: make made no {made.name}; its output is in {log}")
        with workspace.publishing(target) as fresh:
            shutil.copyfile(made, fresh / made.name)
            shutil.copyfile(log, fresh / "build.log")
    return module


def _mirror(sources: list[Path], copy: Path) -> None:
    """Copy sources that differ; what else is there was made from them."""
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
