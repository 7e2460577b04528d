# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that the project serves: those that its own patch was ported to, each a folder of patches/mayfail."""

from __future__ import annotations

from harness.kernel import patches
from harness.kernel.source import series
from harness.model.contract import Contract

# The patch that is tried when none is named, and the kernel that it is tried on.
PATCH = "mayfail"
DEFAULT = "debian:6.12"


def patch(contract: str) -> tuple[str, ...]:
    """What --patch is when it is not given: a stock kernel has no patch."""
    return ("none",) if contract == Contract.STOCK else (PATCH,)


def served() -> list[str]:
    """Their versions, oldest first: 6.1, 6.12, 7.2, 7.3."""
    return patches.ports(PATCH)


def sources() -> list[str]:
    """How --source names them: the default first, then from the newest to the oldest."""
    names = [f"debian:{version}" for version in reversed(served())]
    return sorted(names, key=lambda name: name != DEFAULT)


def untried(version: str) -> str:
    """What is to be said about a kernel that nobody has tried; empty for one that is served."""
    major, minor = series(version)
    if f"{major}.{minor}" in served():
        return ""
    return (
        f"warning: Linux {major}.{minor} was never tried here; the nearest that was is {patches.port(PATCH, version)}: "
        "options, probes and counts may not fit"
    )
