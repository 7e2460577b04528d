# SPDX-License-Identifier: GPL-2.0-only
"""Puts the folders of variants into the wheel, so that an installed harness finds them without a checkout.

A hook rather than hatchling's static `force-include`, which would
also copy the folders for an editable install, where harness.host.workspace.data()
must see the files of the checkout and not an outdated copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("guest-modules", "kernel-configs", "mutants", "patches", "scenarios")
# Where harness doctor looks up what a system calls a package.
PACKAGES = "setup/packages.tsv"
# What harness show explains a finding by.
FINDINGS = "docs/reference/findings.md"

# Files that a compiler leaves behind when a module is built by hand in its folder.
LEFTOVERS = (".ko", ".o", ".mod", ".mod.c", ".cmd", ".order", ".symvers", ".pyc")


def variants(root: Path) -> dict[str, str]:
    """Map each file of the folders of variants, and the two files that are read, to its place in the wheel."""
    found = {
        str(path): f"harness/data/{path.relative_to(root)}"
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and not path.name.endswith(LEFTOVERS)
    }
    single = {str(root / name): f"harness/data/{name}" for name in (PACKAGES, FINDINGS) if (root / name).is_file()}
    return found | single


class VariantsHook(BuildHookInterface[Any]):
    """Called by hatchling before it writes the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the variants; version is "editable" or "standard"."""
        if version != "editable":
            build_data["force_include"].update(variants(Path(self.root)))
