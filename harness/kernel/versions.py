# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that the project serves: those that its own patch was ported to, each a folder of patches/mayfail."""

from __future__ import annotations

from harness.kernel import patches

# The patch that is tried when none is named, and the kernel that it is tried on.
PATCH = "mayfail"
DEFAULT = "debian:6.12"


def served() -> list[str]:
    """Their versions, oldest first: 6.1, 6.12."""
    return patches.ports(PATCH)


def sources() -> list[str]:
    """How --source names them: the default first, then from the newest to the oldest."""
    names = [f"debian:{version}" for version in reversed(served())]
    return sorted(names, key=lambda name: name != DEFAULT)
