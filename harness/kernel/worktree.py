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

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.host import workspace
from harness.host.below import Below
from harness.host.progress import Progress
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File, Manifest
from harness.kernel.source import KernelSource
from harness.model.errors import MachineError, PatchError

# path → the file that a patch makes of it; None where the patch deletes it.
Overlay = Mapping[str, File | None]


def place(cache: Path, lineage: str) -> Path:
    """The folder of a lineage's work tree."""
    return cache / "trees" / lineage


class Edited(MachineError):
    """A file is not what it was when its source was listed. The work tree holds what was read, and is whole."""


def wanted(source: KernelSource, overlay: Overlay) -> Manifest:
    """What a source holds with an overlay on it. PatchError when the two cannot lie in one folder."""
    manifest = source.origin.manifest()
    for path, file in overlay.items():
        if file is None:
            manifest.pop(path, None)
        else:
            manifest[path] = file.entry
    if overlay and (wrong := manifests.fault(manifest)):
        raise PatchError(f"--patch: makes of {source.spec} a source that has {wrong}")
    return manifest


def bring(folder: Path, source: KernelSource, overlay: Overlay, manifest: Manifest, progress: Progress) -> Path:
    """Bring a work tree to `manifest`, which is `source` with `overlay` on it. The caller holds the lineage's lock.

    Raises Edited when the source is no longer what was listed.
    """
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
        with Below(tree) as door:
            for path in gone:
                door.remove(path)
            edited = _write(door, source, overlay, changed, fresh, progress)
        now = {path: entry for path, entry in (manifest | edited).items() if entry}
        workspace.remember(folder / "manifest", manifests.dump(now))
        (folder / "moving").unlink(missing_ok=True)
    if edited:
        names = min(edited) + (f" and {len(edited) - 1} more" if len(edited) > 1 else "")
        raise Edited(f"--source {source.spec}: {names}: not what it was when the source was listed", "run it again")
    return tree


def _held(folder: Path, progress: Progress) -> Manifest | None:
    """What the tree holds; None when there is none, or its first filling was cut short."""
    if not (folder / "manifest").exists() or not (folder / "tree").is_dir():
        return None
    known = workspace.recall(folder / "manifest")
    held = manifests.parse(known, folder / "manifest") if known is not None else {}
    if known is None or (folder / "moving").exists():
        progress.say("work tree: what it holds is not known, as after a harness was killed; looking at every file")
        with Below(folder / "tree") as door:
            found = ((path, manifests.read_file(door, path)) for path in manifests.walk(folder / "tree"))
            held = {path: file.entry_like(held.get(path, "")) for path, file in found if file is not None}
        # Now it is known, and nobody looks again: a move is not always needed.
        workspace.remember(folder / "manifest", manifests.dump(held))
        (folder / "moving").unlink(missing_ok=True)
    return held or None


def _write(
    tree: Below, source: KernelSource, overlay: Overlay, changed: Manifest, fresh: bool, progress: Progress
) -> Manifest:
    """Write each changed file; link it where the tree is new, because an old time is right only there.

    Returns the entries of the files that are no longer as listed, an empty one for a file that is gone.
    """
    from_source = {path: entry for path, entry in changed.items() if path not in overlay}
    edited = dict.fromkeys(from_source, "")
    linkable = source.origin.linkable
    if fresh and linkable is not None:
        # Each is read, because what is linked here goes into every kernel of this lineage.
        with Below(linkable) as pristine:
            for path, _ in source.origin.read(from_source):
                tree.link(path, pristine)
                del edited[path]
                if len(edited) % 5000 == 0:
                    progress.advance("work tree", len(from_source) - len(edited), len(changed))
    else:
        for done, (path, file) in enumerate(source.origin.read(from_source), 1):
            manifests.write_file(tree, path, file)
            edited[path] = file.entry_like(changed[path])
            if edited[path] == changed[path]:
                del edited[path]
            if done % 1000 == 0:
                progress.advance("work tree", done, len(changed))
    for path, patched in overlay.items():
        if path in changed and patched is not None:
            manifests.write_file(tree, path, patched)
    for path, entry in edited.items():
        if not entry:
            tree.remove(path)
    return edited
