# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in a content-addressed store: the same inputs give the same kernel, without a call of make.

One object tree per lineage and configuration is reused across patches, so a
changed line costs only what depends on it; ccache pays for headers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import sandbox, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import bootable, built, config, directory, kconfig, patches, toolchain, worktree
from harness.kernel.built import BuiltTree
from harness.kernel.config import Fragment, Resolved
from harness.kernel.content import build_id
from harness.kernel.manifest import Manifest
from harness.kernel.objects import ObjectTree
from harness.kernel.patches import Patched, PatchSeries
from harness.kernel.source import KernelSource
from harness.kernel.toolchain import Toolchain
from harness.model.errors import ConfigError, MachineError, UsageError

# Part of every key: raise it when the way of building changes what is built.
RECIPE = "3"
_KEY = re.compile("[0-9a-f]{20}")
# The only modules of a user's configuration that scenarios load: option → make's target.
_SINGLE = {"TEST_HMM": "lib/test_hmm.ko"}
# How often a directory is listed anew because a file was edited between its listing and its reading.
_LOOKS = 5

# The edits that were told: a source, and the names of what has changed since.
_told: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a kernel is, and how many compilers may run at once (0: one per CPU).

    patched: what the series makes of the source, when that is known. A user's
    directory that was edited since would make something else of it.
    built: the kernel is there already, in a tree of its owner's; then nothing else decides.
    """

    source: KernelSource
    series: PatchSeries
    fragments: tuple[Fragment, ...]
    toolchain: Toolchain
    jobs: int = dataclasses.field(default=0, compare=False)
    patched: Patched | None = dataclasses.field(default=None, compare=False, repr=False)
    built: BuiltTree | None = None

    @property
    def whole(self) -> bool:
        """Whether the configuration is a user's own, with thousands of modules that no guest loads."""
        return any(fragment.whole for fragment in self.fragments)


@dataclass(frozen=True)
class KernelBuild:
    """A kernel in the store. seconds: what building it took, 0 when it was there already.

    told: what the user should know about it, a line each.
    """

    key: str
    release: str
    version: str
    build_id: str
    vmlinux: Path
    config: Path
    log: Path
    cached: bool
    seconds: float
    recipe: Recipe = dataclasses.field(repr=False)
    told: Sequence[str] = ()

    @property
    def image(self) -> Path:
        """What boots: vmlinux, or the bzImage of a built kernel that has no PVH note."""
        packed = self.vmlinux.with_name("bzImage")
        return packed if packed.exists() else self.vmlinux


def build(
    source: KernelSource,
    series: PatchSeries,
    fragments: Sequence[Fragment],
    cache: Path,
    progress: Progress = QUIET,
    compiler: str = "gcc",
    jobs: int = 0,
    wanted: str = "",
) -> KernelBuild:
    """Build a kernel, or find it in the store. wanted: its inputs(), if it must be of these.

    Raises PatchError, ConfigError and BuildError for a kernel that cannot be
    made from these inputs; LaunchError and OutOfSpace when the machine is to blame.
    """
    recipe = Recipe(source, series, tuple(fragments), toolchain.find(compiler), jobs)
    recipe = dataclasses.replace(recipe, patched=patched(recipe, cache))
    if wanted and inputs(recipe, cache) != wanted:
        raise UsageError(
            f"--source {source.spec}: it, a patch, the configuration or the compiler has changed since the run began",
            "undo that, or begin again without --resume",
        )
    found = _stored(recipe, cache, progress)
    if found is not None:
        return found
    began = time.monotonic()
    with objects_of(recipe, cache, progress) as (recipe, _, key):
        # The seconds are this call's; the folder keeps those of the build itself.
        return _kernel(recipe, key, cache, cached=False, seconds=time.monotonic() - began)


def owned(spec: str, tree: BuiltTree) -> Recipe:
    """The recipe of a kernel that its owner has built."""
    return Recipe(built.as_source(spec, tree), PatchSeries(), (), toolchain.find(tree.compiler), built=tree)


def take(spec: str, tree: BuiltTree, cache: Path, progress: Progress = QUIET, wanted: str = "") -> KernelBuild:
    """The kernel in a tree that its owner has built, copied into the store. wanted: as for build().

    Raises MachineError for a tree in which make is at work.
    """
    recipe = owned(spec, tree)
    if wanted and inputs(recipe, cache) != wanted:
        raise UsageError(
            f"--built {tree.obj}: has been built again since the run began", "begin again without --resume"
        )
    key, began = inputs(recipe, cache), time.monotonic()
    there = _whole(recipe, key, cache, progress)
    if not there:
        with _locked(recipe, cache, progress):
            if not _whole(recipe, key, cache, progress):
                with workspace.publishing(cache / "kernels" / key) as fresh:
                    built.keep(spec, tree, fresh)
                    text = built.facts(spec, tree, recipe.toolchain.identity)
                    (fresh / "kernel.json").write_text(text, encoding="utf-8")
    kernel = _kernel(recipe, key, cache, cached=there, seconds=0.0 if there else time.monotonic() - began)
    return dataclasses.replace(kernel, told=built.told(tree))


def patched(recipe: Recipe, cache: Path) -> Patched:
    """What the patches of a recipe make of its source."""
    return recipe.patched or patches.apply(recipe.series, recipe.source, cache)


@contextlib.contextmanager
def objects_of(recipe: Recipe, cache: Path, progress: Progress) -> Iterator[tuple[Recipe, ObjectTree, str]]:
    """The work tree and object tree of a recipe, built and locked; and the recipe as it was found, and its key.

    A user's directory is listed again here, because it may have been
    edited while another harness held the lock.
    """
    with _locked(recipe, cache, progress):
        recipe, manifest, tree = _mirrored(recipe, cache, progress)
        yield recipe, *_made(recipe, manifest, tree, cache, progress)


@contextlib.contextmanager
def objects_again(kernel: KernelBuild, cache: Path, progress: Progress) -> Iterator[ObjectTree]:
    """The object tree of a kernel that was built before, locked.

    It is of the source as it was mirrored then: a user may go on editing a
    directory. Raises MachineError when another harness has moved the mirror on
    since, and what the user has edited is no longer to be had.
    """
    recipe = kernel.recipe
    with _locked(recipe, cache, progress):
        if recipe.built:
            folder = worktree.place(cache, recipe.source.lineage) / "objects" / sandbox.apart("built")
            yield built.objects(recipe.source.spec, recipe.built, kernel.key, folder, progress)
            return
        files = patched(recipe, cache).files
        manifest = worktree.wanted(recipe.source, files)
        try:
            tree = worktree.bring(
                worktree.place(cache, recipe.source.lineage), recipe.source, files, manifest, progress
            )
        except worktree.Edited as error:
            raise MachineError(
                f"--source {recipe.source.spec}: was edited since its kernel was built, "
                f"and another harness has mirrored it since: {error.message}",
                "run it again",
            ) from None
        if isinstance(recipe.source.origin, directory.Snapshot):
            _tell_edits(recipe.source, recipe.source.origin, cache, progress)
        objects, key = _made(recipe, manifest, tree, cache, progress)
        if key != kernel.key:
            raise MachineError(f"--source {recipe.source.spec}: makes another kernel than before", "run it again")
        yield objects


@contextlib.contextmanager
def _locked(recipe: Recipe, cache: Path, progress: Progress) -> Iterator[None]:
    lock = cache / "locks" / f"{recipe.source.lineage}.lock"
    with workspace.lock(lock, progress, f"the work tree of {recipe.source.spec}"):
        yield


def _mirrored(recipe: Recipe, cache: Path, progress: Progress) -> tuple[Recipe, Manifest, Path]:
    """Bring the work tree to a recipe's source, a user's directory as it is now; its owner may be editing it."""
    origin = recipe.source.origin
    for left in reversed(range(_LOOKS)):
        if isinstance(origin, directory.Snapshot):
            fresh = directory.state(recipe.source.spec, origin.root, cache, progress)
            recipe = dataclasses.replace(recipe, source=fresh, patched=None)
        recipe = dataclasses.replace(recipe, patched=patched(recipe, cache))
        files = patched(recipe, cache).files
        manifest = worktree.wanted(recipe.source, files)
        place = worktree.place(cache, recipe.source.lineage)
        try:
            return recipe, manifest, worktree.bring(place, recipe.source, files, manifest, progress)
        except worktree.Edited as error:
            if not isinstance(origin, directory.Snapshot):
                raise MachineError(error.message, "git fsck tells what is damaged") from None
            if not left:
                raise
            progress.say(f"{error.message}; looking again")
    raise AssertionError("the last look returns or raises")


def _tell_edits(source: KernelSource, origin: directory.Snapshot, cache: Path, progress: Progress) -> None:
    """Say what has changed in a user's directory since it was mirrored; none of it is in the kernel."""
    try:
        now = directory.state(source.spec, origin.root, cache, progress).origin.manifest()
    except UsageError as error:
        progress.say(f"{error.message}; its mirror is used")
        return
    names = sorted({path for path, _ in origin.manifest().items() ^ now.items()})
    # Each module and each look at a stack comes by here.
    if names and (source.id, *names) not in _told:
        _told.add((source.id, *names))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        progress.say(
            f"--source {source.spec}: edited since it was mirrored; not in this kernel: {', '.join(names[:3])}{more}"
        )


def _made(recipe: Recipe, manifest: Manifest, tree: Path, cache: Path, progress: Progress) -> tuple[ObjectTree, str]:
    """Build what a work tree holds, unless its object tree holds that already; returns the object tree and the key."""
    place = worktree.place(cache, recipe.source.lineage)
    resolved = _configured(recipe, manifest, tree, place, cache, progress)
    final = resolved.text
    tools = (recipe.toolchain.name, recipe.toolchain.identity)
    key = workspace.digest(
        RECIPE, recipe.source.id, patched(recipe, cache).id, final, *tools, *(["whole"] if recipe.whole else [])
    )
    targets = _targets(recipe, resolved)
    objects = ObjectTree(place / "objects" / _label(recipe), tree)
    what = f"Linux {recipe.source.version} ({', '.join(recipe.series.names) or 'none'}; {_label(recipe)})"
    log = cache / "logs" / f"build-{key}.log"
    with workspace.space(cache):
        # What rotted in the object tree would go into this kernel and the next, or into modules for them.
        if objects.weed(progress) or not objects.holds(key):
            began = time.monotonic()
            if recipe.whole:
                left_out = sum(value == "m" for value in kconfig.values(final).values())
                progress.say(f"{what}: its {left_out} options that are m are not built, no guest would load them")
            objects.make(key, final, what, log, recipe.toolchain, cache, recipe.jobs, progress, targets)
            _publish(recipe, objects, key, log, cache, time.monotonic() - began)
        else:
            _publish(recipe, objects, key, log, cache, 0.0)
        workspace.write_atomic(_memo(recipe, cache), key)
    return objects, key


def _targets(recipe: Recipe, resolved: Resolved) -> list[list[str]]:
    """What make is called for, one call each. Raises ConfigError for a kernel on which no guest would answer."""
    if not recipe.whole:
        return [["vmlinux", "modules"]]
    values = kconfig.values(resolved.text)
    if lacking := bootable.lacking(values):
        why = [line for line in resolved.told for option in lacking if line.startswith(f"{option.partition('=')[0]}:")]
        raise ConfigError(
            f"--base-config {recipe.fragments[0].name}: no guest works without {', '.join(lacking)}: {'; '.join(why)}",
            "take what forbids it out of the file",
        )
    return [["vmlinux", "modules_prepare"], *([goal] for symbol, goal in _SINGLE.items() if values.get(symbol) == "m")]


def _memo(recipe: Recipe, cache: Path) -> Path:
    """The file that remembers which kernel some inputs made; it saves finding out the final .config."""
    return cache / "kernels" / "inputs" / inputs(recipe, cache)


def inputs(recipe: Recipe, cache: Path) -> str:
    """A digest of all that makes a kernel what it is."""
    tools = (recipe.toolchain.name, recipe.toolchain.identity)
    made = patched(recipe, cache).id
    return workspace.digest(RECIPE, recipe.source.id, made, *tools, *_texts(recipe))


def _stored(recipe: Recipe, cache: Path, progress: Progress) -> KernelBuild | None:
    try:
        key = _memo(recipe, cache).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    # A damaged key names no kernel: no digits, or those of none.
    if _said(recipe, cache) is None or not _KEY.fullmatch(key) or not _whole(recipe, key, cache, progress):
        return None
    return _kernel(recipe, key, cache, cached=True, seconds=0.0)


def _whole(recipe: Recipe, key: str, cache: Path, progress: Progress) -> bool:
    """Whether the store has a kernel, undamaged."""
    return workspace.whole(cache / "kernels" / key, progress, f"kernel {recipe.source.version}")


def _kernel(recipe: Recipe, key: str, cache: Path, *, cached: bool, seconds: float) -> KernelBuild:
    """A kernel of the store as a value. Raises Damaged for one that was damaged when it was adopted."""
    folder = cache / "kernels" / key
    try:
        facts = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
        release, named = str(facts["release"]), str(facts["build_id"])
    except (OSError, ValueError, KeyError, TypeError):
        raise workspace.condemn(folder, "kernel.json") from None
    os.utime(folder)  # The time of the last use, by which the cache is bounded.
    return KernelBuild(
        key=key,
        release=release,
        version=recipe.source.version,
        build_id=named,
        vmlinux=folder / "vmlinux",
        config=folder / "config",
        log=folder / "build.log",
        cached=cached,
        seconds=round(seconds, 3),
        recipe=recipe,
        told=_said(recipe, cache) or (),
    )


def _publish(recipe: Recipe, objects: ObjectTree, key: str, log: Path, cache: Path, seconds: float) -> None:
    """Copy what boots, and what explains it, from an object tree into the store, unless it is there."""
    folder = cache / "kernels" / key
    if _whole(recipe, key, cache, QUIET):
        return
    with workspace.publishing(folder) as fresh:
        for name, target in (("vmlinux", "vmlinux"), (".config", "config"), ("System.map", "System.map")):
            # Copies: the next run of the linker in the object tree may write its file in place.
            shutil.copyfile(objects.obj / name, fresh / target)
        if log.exists():
            shutil.copyfile(log, fresh / "build.log")
        else:
            (fresh / "build.log").touch()
        facts = {
            "release": (objects.obj / "include/config/kernel.release").read_text(encoding="ascii").strip(),
            "build_id": build_id(fresh / "vmlinux"),
            "source": recipe.source.spec,
            "source_id": recipe.source.id,
            "patches": list(recipe.series.names),
            "configs": [fragment.name for fragment in recipe.fragments],
            "compiler": recipe.toolchain.identity,
            "seconds": round(seconds, 1),
        }
        (fresh / "kernel.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _label(recipe: Recipe) -> str:
    """The name of the object tree: configuration and compiler, not their content, so that an edit reuses the tree."""
    names = "+".join(
        fragment.name
        if "/" not in fragment.name
        else f"{fragment.path.stem}-{workspace.digest(str(fragment.path))[:6]}"
        for fragment in recipe.fragments
    )
    return sandbox.apart(f"{names}-{recipe.toolchain.name}")


def _configured(
    recipe: Recipe, manifest: Manifest, tree: Path, place: Path, cache: Path, progress: Progress
) -> Resolved:
    """The final .config, remembered by the content of everything that kconfig reads."""
    version = recipe.source.version
    relevant = "".join(f"{path}\t{entry}\n" for path, entry in sorted(manifest.items()) if _read_by_kconfig(path))
    tools = (recipe.toolchain.name, recipe.toolchain.identity)
    memory = (
        cache / "configs" / f"{workspace.digest('sealed', RECIPE, relevant, version, *tools, *_texts(recipe))}.config"
    )
    known, told = workspace.recall(memory), _said(recipe, cache)
    if known is not None and told is not None:
        return Resolved(known.decode(), told)
    progress.say(f"configuring Linux {version}: {', '.join(fragment.name for fragment in recipe.fragments)}")
    scratch = place / sandbox.apart(f"kconfig-{recipe.toolchain.name}")
    resolved = config.resolve(recipe.fragments, version, tree, scratch, recipe.toolchain, cache)
    if recipe.whole:
        workspace.remember(_sayings(recipe, cache), json.dumps(resolved.told))
    workspace.remember(memory, resolved.text)
    return resolved


def _said(recipe: Recipe, cache: Path) -> Sequence[str] | None:
    """What was told of a user's whole configuration; None when that is not known."""
    if not recipe.whole:
        return ()
    known = workspace.recall(_sayings(recipe, cache))
    return None if known is None else tuple(map(str, json.loads(known)))


def _sayings(recipe: Recipe, cache: Path) -> Path:
    return cache / "configs" / f"{inputs(recipe, cache)}.told"


def _texts(recipe: Recipe) -> Iterator[str]:
    """What the fragments of a recipe hold, for a digest; where a user's own configuration is does not matter."""
    for fragment in recipe.fragments:
        yield "whole" if fragment.whole else fragment.path.name
        yield fragment.text


def _read_by_kconfig(path: str) -> bool:
    """Whether a file can change the resulting configuration: Kconfig itself, its scripts, make's own files."""
    name = path.rpartition("/")[2]
    return name.startswith("Kconfig") or path.startswith("scripts/") or name.endswith(".config") or path == "Makefile"
