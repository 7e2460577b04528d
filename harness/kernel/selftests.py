# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests of mm, compiled statically by the Makefile of the tree under test.

A program is kept by what can be in it (the tests, the headers for user space,
the compiler), so that all kernels of a patch series share it.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

from harness.host import process, sandbox, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import build as builds
from harness.kernel import toolchain, worktree
from harness.kernel.build import KernelBuild, Recipe
from harness.kernel.manifest import Manifest
from harness.kernel.objects import ObjectTree
from harness.model.errors import CannotTest

_SELFTESTS = "tools/testing/selftests"
# A collection of tests is a folder; that of mm had another name until v6.2.
_EARLIER = {"mm": ("vm",)}
# What a program is made from: no kernel-internal header, so that a patch to one costs nothing here.
_INPUTS = (
    "tools/testing/selftests/lib.mk",
    "tools/testing/selftests/kselftest",
    "tools/include/",
    "include/uapi/",
    "arch/x86/include/uapi/",
    "arch/x86/entry/syscalls/",
    "scripts/headers_install.sh",
    "scripts/syscall",
    "usr/include/",
    "lib/test_hmm_uapi.h",
    "mm/gup_test.h",
    "Makefile",
)
_STATIC = "-static -s"


def program(name: str, kernel: KernelBuild, cache: Path, progress: Progress = QUIET, collection: str = "mm") -> Path:
    """Compile a test of the tree that a kernel was built from, or find it in the store.

    collection: the folder of tools/testing/selftests.
    Raises CannotTest for a tree that has no such test, BuildError with the
    compiler's first error for one that does not compile here.
    """
    if kernel.recipe.built:
        raise CannotTest(f"selftest {name}: is compiled from a source, and --built names none")
    manifest = _manifest(kernel.recipe, cache)
    folders = [f"{_SELFTESTS}/{part}" for part in (collection, *_EARLIER.get(collection, ()))]
    folder = next((folder for folder in folders if f"{folder}/{name}.c" in manifest), "")
    if not folder:
        raise CannotTest(f"selftest {name}: Linux {kernel.version} has none: no {name}.c in {' or '.join(folders)}")
    inputs = [f"{path}\t{entry}" for path, entry in sorted(manifest.items()) if path.startswith((folder, *_INPUTS))]
    compiler = process.run([process.which("gcc"), "--version"], timeout_s=10).stdout
    key = workspace.digest(builds.RECIPE, name, _STATIC, compiler, *inputs)
    made = cache / "selftests" / key / name
    what = f"selftest {name}"
    if workspace.whole(made.parent, progress, what):
        return made
    with builds.objects_again(kernel, cache, progress) as objects:
        if not workspace.whole(made.parent, progress, what):
            _compile(name, folder, kernel, objects.tree, cache / "selftests" / key, cache, progress)
    return made


@functools.lru_cache(maxsize=2)
def _manifest(recipe: Recipe, cache: Path) -> Manifest:
    """What the tree of a recipe is made of; kept, as it costs a tenth of a second and a run asks several times."""
    return worktree.wanted(recipe.source, builds.patched(recipe, cache).files)


def _compile(
    name: str, folder: str, kernel: KernelBuild, tree: Path, target: Path, cache: Path, progress: Progress
) -> None:
    """Install the headers beside the work tree, and make one program; the caller holds the lineage's lock."""
    what = f"selftest {name}"
    place = ObjectTree(worktree.place(cache, kernel.recipe.source.lineage) / sandbox.apart("selftests"), tree)
    place.obj.mkdir(parents=True, exist_ok=True)
    log = cache / "logs" / f"selftest-{target.name}.log"
    progress.say(f"building {what}")
    argv = toolchain.make(kernel.recipe.toolchain, tree, place.obj, 0, "headers")
    place.run(argv, "the headers for user space", log, cache, progress)
    with workspace.space(cache), tempfile.TemporaryDirectory(dir=place.folder, prefix="make-") as scratch:
        source, out = Path(scratch) / "tree", Path(scratch) / "out"
        out.mkdir()
        _lend(tree, source, folder)
        argv = [
            "make",
            "-C", os.fspath(source / folder),
            "ARCH=x86_64",
            "CC=gcc",
            f"OUTPUT={out}",
            f"KHDR_INCLUDES=-isystem {place.obj}/usr/include",
            f"LDFLAGS={_STATIC}",
            os.fspath(out / name),
        ]  # fmt: skip
        place.run(argv, what, log, cache, progress, writes=[Path(scratch)])
        with workspace.publishing(target) as fresh:
            shutil.copy(out / name, fresh / name)


def _lend(tree: Path, copy: Path, folder: str) -> None:
    """Make a tree of links, in which only `folder` is a copy: its Makefile writes beside itself."""
    here = Path()
    for part in Path(folder).parts:
        (copy / here).mkdir()
        for entry in (tree / here).iterdir():
            if entry.name != part:
                (copy / here / entry.name).symlink_to(entry)
        here /= part
    shutil.copytree(tree / here, copy / here)
