# SPDX-License-Identifier: GPL-2.0-only
"""What was read, from outside, of a guest in trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PostMortem:
    """cause: the first paragraph of postmortem.txt, empty when nobody had to look.

    circles: tasks that wait for each other, by pid and name, each for the next
    one and the last for the first: a deadlock, however slow the host is.
    """

    cause: str = ""
    circles: Sequence[Sequence[str]] = ()
