# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines, and how long a limit becomes on a machine that is slower than the one it was written for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A time limit that begins when this object is made. slowdown: what it was multiplied by."""

    limit_s: float
    began_s: float = field(default_factory=time.monotonic)
    slowdown: float = 1.0

    @classmethod
    def scaled(cls, limit_s: float, slowdown: float) -> Deadline:
        """Begin a limit for an ordinary machine on one that is `slowdown` times slower."""
        return cls(scaled(limit_s, slowdown), slowdown=max(1.0, slowdown))

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
        product = f" = {self.limit_s / self.slowdown:g} s × slow-down {self.slowdown:.1f}" if self.slowdown > 1 else ""
        return f"{self.elapsed_s:.1f} s (limit {self.limit_s:.4g} s{product})"


def scaled(limit_s: float, slowdown: float) -> float:
    """Scale a limit for an ordinary machine to one that is `slowdown` times slower. A faster machine gets no less."""
    return limit_s * max(1.0, slowdown)
