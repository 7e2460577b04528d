# SPDX-License-Identifier: GPL-2.0-only
"""The contracts between a kernel and its notifiers: all rules hold under each, but for those named here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.model.event import Chunk, Mask

# By the patch that is asked for.
AUTO = "auto"
# The policies that refuse no range unless it is MAYFAIL.
_POLITE = frozenset({"accept", "eagain-mayfail"})


class Contract(StrEnum):
    """mayfail: that of the patch. stock: that of every Linux so far."""

    MAYFAIL = "mayfail"
    STOCK = "stock"

    @property
    def marks(self) -> bool:
        """Ranges of reclaim carry MMU_NOTIFIER_RANGE_MAYFAIL; otherwise no range may."""
        return self is Contract.MAYFAIL

    def tolerated(self, chunk: Chunk) -> Mask:
        """The starts that may answer −EAGAIN although they may block: those that are MAYFAIL, where a range may be."""
        mayfail = chunk.mayfail
        return mayfail if self.marks else mayfail & ~mayfail

    def reclaims(self, chunk: Chunk) -> Mask:
        """What tells a range of reclaim within another range of its task: the mark, or else the task's flags."""
        return chunk.mayfail if self.marks else chunk.strict_direct

    def demanded(self, counted: Mapping[str, int], policies: Collection[str]) -> Mapping[str, int]:
        """What a scenario must have counted: MAYFAIL ranges, and refusals, only where there may be any.

        policies: those that its subscribers have.
        """
        if self.marks:
            return counted
        never = {"mayfail", "eagain"} if _POLITE.issuperset(policies) else {"mayfail"}
        return {counter: least for counter, least in counted.items() if counter not in never}


# What may be asked for.
CHOICES = (AUTO, *(contract.value for contract in Contract))


@dataclass(frozen=True)
class ContractFacts:
    """The contract that was asked for, the one that a kernel was judged by ("": none yet), and why."""

    requested: str
    used: str
    reason: str

    def document(self) -> dict[str, str]:
        """As verdict.json holds it."""
        return {"requested": self.requested, "used": self.used, "reason": self.reason}

    @classmethod
    def restore(cls, document: Mapping[str, Any] | None) -> ContractFacts:
        """What document() wrote; None: an earlier version wrote none."""
        if document is None:
            return EARLIER
        return cls(str(document["requested"]), str(document["used"]), str(document["reason"]))


EARLIER = ContractFacts(AUTO, Contract.MAYFAIL.value, "an earlier version, which knew no other, made this run")
