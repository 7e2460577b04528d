# SPDX-License-Identifier: GPL-2.0-only
"""Which contract a kernel is judged by: the one that is asked for, or the one that goes with its patches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness.kernel import versions
from harness.kernel.patches import Patched
from harness.kernel.source import KernelSource
from harness.model.contract import AUTO, Contract, ContractFacts

_FLAG = "MMU_NOTIFIER_RANGE_MAYFAIL"
_HEADER = "include/linux/mmu_notifier.h"
# Where the patch, or another way to write it, defines the flag: a macro, or a name in an enum.
_DEFINED = re.compile(rb"\b%s\b" % _FLAG.encode())


def choose(requested: str, patches: Sequence[str], defines: Callable[[], bool]) -> ContractFacts:
    """The contract for a kernel with these patches. defines: whether its source, patched, knows the flag.

    Without any, not even `none`, it is a kernel that was built elsewhere, from a source as it is.
    """
    if requested != AUTO:
        return ContractFacts(requested, Contract(requested).value, "it was asked for")
    if patches and (reason := _plain(patches)):
        return ContractFacts(AUTO, Contract.MAYFAIL.value, reason)
    what = "the patched source has" if patches else "the source of the built kernel has"
    if defines():
        return ContractFacts(AUTO, Contract.MAYFAIL.value, f"{what} {_FLAG}")
    return ContractFacts(AUTO, Contract.STOCK.value, f"{what} no {_FLAG}")


def is_plain(patches: Sequence[str]) -> bool:
    """Whether the names of the patches say that the contract is mayfail, so that no source must be read."""
    return bool(_plain(patches))


def _plain(patches: Sequence[str]) -> str:
    if versions.PATCH in patches:
        return f"--patch {versions.PATCH}"
    if set(patches) <= {"none"}:
        return "--patch none, which shows what a kernel without the patch does; --contract stock judges it as it is"
    return ""


def defines(source: KernelSource, patched: Patched) -> bool:
    """Whether a source knows the flag once its patches are on it."""
    if _HEADER in patched.files:
        file = patched.files[_HEADER]
        return file is not None and _DEFINED.search(file.content) is not None
    return any(_DEFINED.search(file.content) for _, file in source.origin.read(source.origin.some([_HEADER])))
