# SPDX-License-Identifier: GPL-2.0-only
"""Debian's own kernel for the outer machine: it has KVM for AMD, and 9p, as modules.

The cloud flavour has KVM too, but no 9p. Nothing is installed: the package is
fetched once, and the parts that the machine needs are kept in the cache, 12 of 400 MiB.
"""

from __future__ import annotations

import lzma
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.host import workspace
from harness.model.errors import LaunchError
from tests.guest.outer import packages
from tests.guest.outer.packages import run

META = "linux-image-amd64"
# A channel for the agent, the host's files, and a file system to write to; the last module makes /dev/kvm.
MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "kvm_amd")


@dataclass(frozen=True)
class OuterKernel:
    """A kernel, the modules that PID 1 loads, in that order, and the module that makes /dev/kvm."""

    vmlinuz: Path
    modules: tuple[Path, ...]
    kvm_amd: Path


def fetch(cache: Path) -> OuterKernel:
    """The kernel, of any version if the cache has one: it is not what is tested.

    Raises LaunchError when it cannot be had.
    """
    shelf = cache / "tests" / "outer"
    with workspace.lock(shelf.with_suffix(".lock")):
        kept = sorted(shelf.glob("linux-image-*"))
        if kept:
            return _kernel(kept[-1])
        with packages.shelf(shelf) as archive:
            depends = archive.depends(META)
            found = re.search(r"Depends: (linux-image-\S+)", depends)
            if found is None:
                raise LaunchError(f"{META}: depends on no kernel: {depends.strip()}")
            target = shelf / found[1]
            root = archive.unpack(found[1])
            with workspace.publishing(target) as fresh:
                _pick(root, fresh)
        return _kernel(target)


def _kernel(folder: Path) -> OuterKernel:
    *modules, kvm_amd = sorted(folder.glob("*.ko"))
    return OuterKernel(folder / "vmlinuz", tuple(modules), kvm_amd)


def _pick(root: Path, target: Path) -> None:
    """Keep the bootable files, and the modules numbered in the order in which modprobe would load them."""
    shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), target / "vmlinuz")
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")  # Debian 13 packs only the latter; depmod looks in the former.
    release = next((root / "lib" / "modules").iterdir()).name
    run("depmod", "--basedir", root, release)
    words = ("--dirname", root, "--set-version", release, "--show-depends", "--all", *MODULES)
    order = [Path(line.split()[1]) for line in run("modprobe", *words).splitlines() if line.startswith("insmod ")]
    for number, module in enumerate(dict.fromkeys(order)):
        data = module.read_bytes()
        copy = target / f"{number:02}-{module.name.removesuffix('.xz')}"
        copy.write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)
