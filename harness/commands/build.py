# SPDX-License-Identifier: GPL-2.0-only
"""harness build: source + patch + config + module, no boot."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.commands import _options

if TYPE_CHECKING:
    from harness.kernel.objects import ObjectTree
    from harness.run.pipeline import Prepared


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.kernel(parser)
    parser.add_argument("--json", action="store_true", help="what was built, on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Build, or find in the store, and say where it is."""
    from harness.host.workspace import cache_dir
    from harness.kernel import build as builds
    from harness.run import pipeline
    from harness.terminal import Terminal
    from harness.variants import instruments

    clock = pipeline.Clock()
    told: dict[str, Any] = {}
    with Terminal() as terminal:
        prepared = pipeline.prepare(
            _options.kernel_request(arguments), instruments.NOTIFIER_HOLD, cache_dir(), terminal, clock
        )
        if arguments.json:
            # Before its place is told, it is this kernel's again: other kernels of the source are built there, too.
            with builds.objects_again(prepared.kernel, cache_dir(), terminal) as objects:
                told = document(prepared, clock.seconds, objects)
    print("\n".join(lines(prepared, clock.seconds)), file=sys.stderr)
    print(json.dumps(told) if arguments.json else prepared.kernel.vmlinux)
    return 0


def lines(prepared: Prepared, seconds: Mapping[str, float]) -> list[str]:
    """What was built, for people."""
    spent = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return [f"built        {prepared.kernel.release}, {'from the store' if prepared.kernel.cached else 'new'}; {spent}"]


def document(prepared: Prepared, seconds: Mapping[str, float], objects: ObjectTree) -> dict[str, Any]:
    """What was built, for programs. objects: where it was; until something else is built there, modules can be."""
    from harness.kernel import toolchain

    kernel = prepared.kernel
    return {
        "release": kernel.release,
        "build_id": kernel.build_id,
        "cached": kernel.cached,
        "vmlinux": str(kernel.vmlinux),
        "config": str(kernel.config),
        "log": str(kernel.log),
        "module": str(prepared.module),
        "build_dir": str(objects.obj),
        "source_dir": str(objects.tree),
        "make": shlex.join(toolchain.make(kernel.recipe.toolchain, objects.tree, objects.obj, 0)),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
