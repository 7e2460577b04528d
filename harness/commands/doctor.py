# SPDX-License-Identifier: GPL-2.0-only
"""harness doctor: what this machine can do: tools, kernel sources, accelerators proved by running a guest."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.host import accelerator, confinement, emulator, packages
from harness.host.process import which
from harness.host.progress import Progress
from harness.kernel import apt, versions
from harness.model.errors import LaunchError

# program: what it is for, and whether the harness needs it.
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
    emulator.PROGRAM: ("runs the guest", True),
    "busybox": ("the guest's user space; must be static", True),
    "dropbear": ("the guest's SSH server", True),
    "ccache": ("makes a second build fast", True),
    "bwrap": ("the sandbox of --sandbox; else unshare", False),
    "clang": ("the other compiler, for --compiler clang", False),
    "ld.lld": ("the other linker, for --compiler clang", False),
    "sparse": ("checks the module's C, in make check", False),
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--json", action="store_true", help="the same as one object, on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Examine the machine; 128 when something that the harness needs is missing."""
    from harness.host.workspace import cache_dir
    from harness.terminal import Terminal

    with Terminal() as terminal:
        found = document(cache_dir(), terminal)
    print(json.dumps(found) if arguments.json else "\n".join(lines(found)))
    return 0 if not found["missing"] else 128


def document(cache: Path, progress: Progress) -> dict[str, Any]:
    """The document of `harness doctor --json`."""
    tools: dict[str, str | None] = {}
    missing = []
    for name, (_, needed) in TOOLS.items():
        try:
            tools[name] = str(emulator.find().program if name == emulator.PROGRAM else which(name))
        except LaunchError:
            tools[name] = None
            if needed:
                missing.append(name)
    sources = {f"debian:{version}": _source(version, cache) for version in versions.served()}
    if not any(sources.values()):
        missing.append(f"linux-source-{versions.DEFAULT.removeprefix('debian:')}")
    accelerators = {
        name: {"usable": found.usable, "reason": found.reason, "seconds": round(found.seconds, 2)}
        for name, found in accelerator.probe(cache, progress).items()
    }
    return {
        "accelerators": accelerators,
        "confinement": _confinement(),
        "missing": missing,
        "install": packages.commands([name.replace("linux-source-", "source-") for name in missing]),
        "tools": tools,
        "sources": sources,
        "cache": str(cache),
        "free_gib": round(shutil.disk_usage(_existing(cache)).free / (1 << 30), 1),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    text = []
    for name, entry in found["accelerators"].items():
        word = "usable" if entry["usable"] else "not usable"
        text.append(f"{name:22} {word:11} {entry['reason']} ({entry['seconds']:.1f} s)")
    held = found.get("confinement")
    if held:
        behind = "behind its filter of system calls" if held["filter"] else "without a filter of system calls"
        text.append(f"{'QEMU runs as':22} {held['user']}, {behind}")
    for name, path in found["tools"].items():
        purpose, needed = TOOLS[name]
        text.append(f"{name:22} {path or ('MISSING' if needed else 'absent')}  ({purpose})")
    for name, path in found["sources"].items():
        text.append(f"{name:22} {path or 'absent: fetched from the archive of Debian when it is asked for'}")
    text.append(f"{'cache':22} {found['cache']} ({found['free_gib']} GiB free)")
    missing = found["missing"]
    text.append(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    if found["install"]:
        text += ["to install it:", *(f"  {line}" for line in found["install"])]
    elif missing:
        text.append("a kernel's source: --source DIR, TARBALL or git:PATH@REV, or debian:VERSION where apt is")
    return text


def _confinement() -> dict[str, Any]:
    """As whom QEMU runs, and whether its system calls are filtered; nothing where there is no QEMU."""
    try:
        qemu = emulator.find()
    except LaunchError:
        return {}
    user = confinement.account()
    name = user.name if user else f"you (user {os.geteuid()})"
    return {"user": name, "filter": confinement.has_filter(qemu)}


def _source(version: str, cache: Path) -> str | None:
    path = next((path for path in (apt.installed(version), apt.fetched(version, cache)) if path.exists()), None)
    return str(path) if path else None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
