# SPDX-License-Identifier: GPL-2.0-only
"""One way in which the kernel begins a report: an entry of the tables in patterns/."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property


class Frame(Enum):
    """Where the function in a report's title comes from."""

    NONE = "the title names none"
    LINE = "the line that opens the report names it, else the stack"
    STACK = "the first frame of the stack that is not infrastructure"
    LOCK = "where the lock was to be taken, else the stack"
    STALL = "what the stuck code was asked to do: what the innermost dispatcher called"
    HANG = "RCU or the RTNL, when that is what the task waits for, else the first frame that does not wait"
    HOLDER = "where the first lock that is listed was taken, whatever that is, else the stack"
    BECAME = "where a lock got the state that conflicts with the other lock, else the stack"
    PAGE = "who asked for the page"


class Role(Enum):
    """What a line means for the reports around it."""

    OPENS = "a report begins"
    WEAK = "a report begins if a stack follows"
    FOLLOWS = "part of a report that is open or was just closed; on its own it begins one"


@dataclass(frozen=True)
class Pattern:
    """An entry of the tables.

    name: unique. type: the report's class, possibly with {groups} of the expression.
    needles: every line that it matches holds one of them. They decide whether a line is looked at at all, and should be
        few and rare: each costs a pass over the console.
    regex: matched at the start of a record's text, else searched for in it; at most LIMIT characters are seen.
    title: with {groups} of regex and detail, and {frame}.
    detail: searched for in the report's lines; its groups complete the title.
    missing: what stands for a group that was not found.
    skip: functions that tell nothing in a report of this kind, besides those in infrastructure.py.
    first: it counts only at the start of a record, and only when no other pattern matches. The other patterns are so
        unmistakable that they count after other text, too, as when a program's output lacked its line end or a line was
        torn.
    within: names of patterns that it is part of, while their stack is still to come.
    traced: a stack follows, though the title names no function of it.
    directly: WEAK, and the stack begins in the next line of the same caller.
    program: a program says so, on the same console; in a line that is the kernel's, the words mean nothing.
    sample: a line that it matches, in the kernel's words. near_miss: one that it must not match.
    """

    name: str
    type: str
    needles: tuple[str, ...]
    regex: str
    title: str
    sample: str
    near_miss: str
    frame: Frame = Frame.STACK
    role: Role = Role.OPENS
    first: bool = False
    within: frozenset[str] = frozenset()
    traced: bool = False
    directly: bool = False
    program: bool = False
    detail: str = ""
    skip: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The expression for the opening line."""
        return re.compile(self.regex)

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The {groups} of the title and the type."""
        return frozenset(re.findall(r"\{(\w+)\}", self.title + self.type))

    @cached_property
    def detail_compiled(self) -> re.Pattern[str]:
        """The expression for the lines that follow."""
        return re.compile(self.detail)


# How many characters of a line the expressions see. The longest format that is matched
# in full has some 200; with the few open repeats that the tables have, this bounds
# what a hostile line can cost (tests/unit/test_console_patterns.py counts them).
LIMIT = 400
