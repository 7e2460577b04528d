# SPDX-License-Identifier: GPL-2.0-only
"""What this machine can do: tools, kernel sources, and accelerators proved by running a guest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.host import accelerator
from harness.host.process import which
from harness.host.progress import Progress
from harness.model.errors import LaunchError

# program: what it is for, and whether nothing goes without it.
TOOLS: Mapping[str, tuple[str, bool]] = {
    "make": ("builds the kernel", True),
    "gcc": ("compiles kernel, module and guest programs", True),
    "ld": ("links the kernel", True),
    "flex": ("kconfig's parser", True),
    "bison": ("kconfig's parser", True),
    "bc": ("kernel timeconst.h", True),
    "perl": ("kernel scripts", True),
    "git": ("patches, git sources, bisecting", True),
    "xz": ("unpacks Debian's sources", True),
    "setpriv": ("ties children to the harness", True),
    "qemu-system-x86_64": ("runs the guest", True),
    "busybox": ("the guest's user space; must be static", True),
    "dropbear": ("the guest's SSH server", True),
    "ccache": ("makes a second build fast", True),
    "clang": ("the other compiler, for --compiler clang", False),
    "ld.lld": ("the other linker, for --compiler clang", False),
    "sparse": ("checks the module's C, in make check", False),
}
SOURCES = ("6.12", "6.1")


def examine(cache: Path, progress: Progress) -> dict[str, Any]:
    """The document of `harness doctor --json`."""
    tools: dict[str, str | None] = {}
    missing = []
    for name, (_, needed) in TOOLS.items():
        try:
            tools[name] = str(which(name))
        except LaunchError:
            tools[name] = None
            if needed:
                missing.append(name)
    sources = {f"debian:{version}": _source(version) for version in SOURCES}
    if not any(sources.values()):
        missing.append(f"linux-source-{SOURCES[0]}")
    accelerators = {
        name: {"usable": found.usable, "reason": found.reason, "seconds": round(found.seconds, 2)}
        for name, found in accelerator.probe(cache, progress).items()
    }
    return {
        "accelerators": accelerators,
        "missing": missing,
        "tools": tools,
        "sources": sources,
        "cache": str(cache),
        "free_gib": round(shutil.disk_usage(_existing(cache)).free / (1 << 30), 1),
    }


def lines(document: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    text = []
    for name, found in document["accelerators"].items():
        word = "usable" if found["usable"] else "not usable"
        text.append(f"{name:22} {word:11} {found['reason']} ({found['seconds']:.1f} s)")
    for name, path in document["tools"].items():
        purpose, needed = TOOLS[name]
        text.append(f"{name:22} {path or ('MISSING' if needed else 'absent')}  ({purpose})")
    for name, path in document["sources"].items():
        text.append(f"{name:22} {path or 'absent: apt-get install linux-source-' + name.removeprefix('debian:')}")
    text.append(f"{'cache':22} {document['cache']} ({document['free_gib']} GiB free)")
    missing = document["missing"]
    text.append(f"missing: {', '.join(missing)}; make setup installs it" if missing else "nothing is missing")
    return text


def _source(version: str) -> str | None:
    path = Path(f"/usr/src/linux-source-{version}.tar.xz")
    return str(path) if path.exists() else None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
