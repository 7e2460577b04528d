# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines, and how long a limit becomes on a machine that is slower than the one it was written for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A time limit that begins when this object is made."""

    limit_s: float
    began_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began_s

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self.limit_s - self.elapsed_s)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining_s == 0.0

    def __str__(self) -> str:
        return f"{self.elapsed_s:.1f} s (limit {self.limit_s:g} s)"


def scaled(limit_s: float, slowdown: float) -> float:
    """Scale a limit for an ordinary machine to one that is `slowdown` times slower. A faster machine gets no less."""
    return limit_s * max(1.0, slowdown)
