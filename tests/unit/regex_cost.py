# SPDX-License-Identifier: GPL-2.0-only
"""An upper bound on what a regular expression can cost, from its parse tree instead of from a clock.

A backtracking matcher wastes time where a repeat could have stopped at several
places and the rest would have matched at each: then it tries them all. A
repeat whose characters are disjoint from what may follow costs nothing extra.
The bound is the product over all repeats that are ambiguous in this sense,
times the alternatives, times the length for the walk itself.
"""

from __future__ import annotations

import importlib
from typing import Any

_parser: Any = importlib.import_module("re._parser")
_ALL = frozenset(map(chr, range(256)))


def _of(op: Any, value: Any) -> frozenset[str]:
    """The characters that a single-character node takes."""
    name = str(op)
    if name == "LITERAL":
        return frozenset(chr(value))
    if name == "ANY":
        return _ALL - {"\n"}
    taken: set[str] = set()
    if name == "NOT_LITERAL":
        return _ALL - {chr(value)}
    negate = False
    for kind, what in value:
        if str(kind) == "NEGATE":
            negate = True
        elif str(kind) == "LITERAL":
            taken.add(chr(what))
        elif str(kind) == "RANGE":
            taken.update(map(chr, range(what[0], min(what[1], 255) + 1)))
        else:
            taken |= _category(str(what))
    return _ALL - taken if negate else frozenset(taken)


def _category(name: str) -> frozenset[str]:
    tests = {"DIGIT": str.isdigit, "SPACE": str.isspace, "WORD": lambda c: c.isalnum() or c == "_"}
    key = name.rsplit("_", 1)[1]
    inside = frozenset(char for char in _ALL if tests[key](char))
    return _ALL - inside if "NOT" in name else inside


def _first(nodes: list[Any]) -> tuple[frozenset[str], bool]:
    """Characters that a sequence may begin with, and whether it may be empty."""
    taken: frozenset[str] = frozenset()
    for op, value in nodes:
        name = str(op)
        if name in ("AT", "ASSERT", "ASSERT_NOT"):
            continue
        if name == "SUBPATTERN":
            chars, empty = _first(list(value[3]))
        elif name == "BRANCH":
            parts = [_first(list(branch)) for branch in value[1]]
            chars, empty = frozenset().union(*(part[0] for part in parts)), any(part[1] for part in parts)
        elif name.endswith("REPEAT"):
            chars, empty = _first(list(value[2]))
            empty = empty or value[0] == 0
        else:
            chars, empty = _of(op, value), False
        taken |= chars
        if not empty:
            return taken, False
    return taken, True


def bound(regex: str, length: int) -> int:
    """Steps at most that one attempt to match at one position can take in a text of `length` characters."""
    return length * _cost(list(_parser.parse(regex)), [], length)


def _overlap(sets: list[frozenset[str]]) -> bool:
    return sum(map(len, sets)) > len(frozenset().union(*sets))


def _cost(nodes: list[Any], after: list[Any], length: int) -> int:
    cost = 1
    for index, (op, value) in enumerate(nodes):
        rest = nodes[index + 1 :] + after
        name = str(op)
        if name == "SUBPATTERN":
            cost *= _cost(list(value[3]), rest, length)
        elif name in ("ASSERT", "ASSERT_NOT"):
            cost *= _cost(list(value[1]), [], length)
        elif name == "BRANCH":
            branches = [list(branch) for branch in value[1]]
            costs = [_cost(branch, rest, length) for branch in branches]
            cost *= sum(costs) if _overlap([_first(branch + rest)[0] for branch in branches]) else max(costs)
        elif name.endswith("REPEAT"):
            low, high, inner = value[0], min(int(value[1]), length), list(value[2])
            # Each turn of a group may itself be read in several ways, and another turn may follow it.
            cost *= _cost(inner, (inner if high > 1 else []) + rest, length) ** high
            chars, _ = _first(inner)
            follows, empty = _first(rest)
            if chars & follows and not (empty and not follows):
                cost *= high - low + 1
    return cost
