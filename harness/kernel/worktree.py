# SPDX-License-Identifier: GPL-2.0-only
"""The one patched tree of a lineage, moved from state to state by content.

A file whose content stays keeps its time, so make compiles exactly what a
move changed. The pristine source is read, never written: files are replaced,
and a hard link to the pristine tree is thereby cut.

::

    trees/LINEAGE/tree       the files
    trees/LINEAGE/manifest   what they are; written after they are
    trees/LINEAGE/moving     exists while files are being replaced
    trees/LINEAGE/objects    object trees, valid only beside this tree
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.host import workspace
from harness.host.progress import Progress
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File, Manifest
from harness.kernel.source import KernelSource
from harness.model.errors import MachineError

# path → the file that a patch makes of it; None where the patch deletes it.
Overlay = Mapping[str, File | None]


def place(cache: Path, lineage: str) -> Path:
    """The folder of a lineage's work tree."""
    return cache / "trees" / lineage


def wanted(source: KernelSource, overlay: Overlay) -> Manifest:
    """What a source holds with an overlay on it."""
    manifest = source.origin.manifest()
    for path, file in overlay.items():
        if file is None:
            manifest.pop(path, None)
        else:
            manifest[path] = file.entry
    return manifest


def bring(folder: Path, source: KernelSource, overlay: Overlay, manifest: Manifest, progress: Progress) -> Path:
    """Bring a work tree to `manifest`, which is `source` with `overlay` on it. The caller holds the lineage's lock."""
    tree = folder / "tree"
    with workspace.space(folder):
        held = _held(folder, progress)
        if held is None:
            # Objects of a tree that is gone would look up to date beside files with old times.
            for stale in (tree, folder / "objects"):
                shutil.rmtree(stale, ignore_errors=True)
            tree.mkdir(parents=True)
            held = {}
        gone = [path for path in held if path not in manifest]
        changed = {path: entry for path, entry in manifest.items() if held.get(path) != entry}
        if not gone and not changed:
            return tree
        fresh = not held
        if not fresh:
            (folder / "moving").touch()
        for path in gone:
            _remove(tree, path)
        _write(tree, source, overlay, changed, fresh, progress)
        workspace.remember(folder / "manifest", manifests.dump(manifest))
        (folder / "moving").unlink(missing_ok=True)
    return tree


def _held(folder: Path, progress: Progress) -> Manifest | None:
    """What the tree holds; None when there is none, or its first filling was cut short."""
    if not (folder / "manifest").exists():
        return None
    known = workspace.recall(folder / "manifest")
    held = manifests.parse(known) if known is not None else {}
    if known is None or (folder / "moving").exists():
        progress.say("work tree: what it holds is not known, as after a harness was killed; looking at every file")
        found = ((path, manifests.read_file(folder / "tree" / path)) for path in manifests.walk(folder / "tree"))
        held = {path: file.entry for path, file in found if file is not None}
    return held


def _write(
    tree: Path, source: KernelSource, overlay: Overlay, changed: Manifest, fresh: bool, progress: Progress
) -> None:
    """Write each changed file; link it where the tree is new, because an old time is right only there."""
    done = 0
    from_source = {path: entry for path, entry in changed.items() if path not in overlay}
    linkable = source.origin.linkable
    made: set[str] = set()
    if fresh and linkable is not None:
        # Each is read, because what is linked here goes into every kernel of this lineage.
        for path, _ in source.origin.read(from_source):
            parent = os.path.dirname(path)  # noqa: PTH120 - 85,000 times
            if parent not in made:
                (tree / parent).mkdir(parents=True, exist_ok=True)
                made.add(parent)
            os.link(f"{linkable}/{path}", f"{tree}/{path}", follow_symlinks=False)
            done += 1
            if done % 5000 == 0:
                progress.advance("work tree", done, len(changed))
    else:
        for path, file in source.origin.read(from_source):
            if file.entry != changed[path]:
                break
            manifests.write_file(tree / path, file)
            done += 1
            if done % 1000 == 0:
                progress.advance("work tree", done, len(changed))
    if done != len(from_source):
        raise MachineError(f"--source {source.spec}: was edited while it was read", "run it again")
    for path, patched in overlay.items():
        if path in changed and patched is not None:
            manifests.write_file(tree / path, patched)


def _remove(tree: Path, path: str) -> None:
    """Delete a file, and the folders that it leaves empty."""
    (tree / path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for parent in Path(path).parents:
            if parent != Path():
                (tree / parent).rmdir()
