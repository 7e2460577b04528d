# SPDX-License-Identifier: GPL-2.0-only
"""Reads a tree's Kconfig files far enough to tell why an option was dropped.

The answer itself always comes from the tree's own scripts; this runs only
when they dropped something, and only to name the unmet dependency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TOKEN = re.compile(r'\s*(\|\||&&|!=|<=|>=|[!=<>()]|"[^"]*"|\$\([^)]*\)|[\w.-]+)')
_LEVEL = {"n": 0, "m": 1, "y": 2}


@dataclass(frozen=True)
class Condition:
    """An expression that must hold, and the line that says so."""

    text: str
    where: str


@dataclass
class Definition:
    """One `config X` block: all it depends on, the blocks around it included, and what it selects."""

    where: str
    needs: list[Condition]
    prompt: bool = False
    selects: list[tuple[str, str]] = field(default_factory=list)


def values(config: str) -> dict[str, str]:
    """Symbol → value of every option that is set in a .config."""
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", config, re.MULTILINE))


def definitions(tree: Path, architecture: str = "x86") -> dict[str, list[Definition]]:
    """Every symbol that the tree's Kconfig files define, with each place that defines it."""
    reader = _Reader(tree, architecture)
    reader.read("Kconfig", [])
    return reader.found


def explain(symbol: str, wanted: str, have: Mapping[str, str], known: Mapping[str, list[Definition]]) -> str:
    """Why a symbol does not have the value that was asked for."""
    if symbol not in known:
        return "this kernel has no such option"
    places = known[symbol]
    if wanted == "n":
        selectors = [
            name
            for name, blocks in known.items()
            if have.get(name, "n") != "n"
            for block in blocks
            if any(chosen == symbol and (not when or holds(when, have)) for chosen, when in block.selects)
        ]
        return (
            f"selected by {', '.join(sorted(set(selectors))[:4])}"
            if selectors
            else f"on by default ({places[0].where})"
        )
    unmet = [[need for need in place.needs if not holds(need.text, have)] for place in places]
    least = min(unmet, key=len)
    if least:
        return "unmet: " + ", ".join(f"{_shown(need.text, have)} ({need.where})" for need in least)
    if wanted == "y" and have.get(symbol) == "m":
        return f"a dependency is only m ({places[0].where})"
    if not any(place.prompt for place in places):
        selectors = sorted(
            name
            for name, blocks in known.items()
            for block in blocks
            if any(chosen == symbol for chosen, _ in block.selects)
        )
        return f"it has no prompt ({places[0].where}); selected by {', '.join(dict.fromkeys(selectors)) or 'nothing'}"[
            :300
        ]
    return f"another option of its choice is on, or its prompt is hidden ({places[0].where})"


def holds(expression: str, have: Mapping[str, str]) -> bool:
    """Whether a Kconfig expression is m or y. What is not known, such as a shell's answer, counts as met."""
    tokens = _TOKEN.findall(expression)
    try:
        return _Expression(tokens, have).either() > 0
    except IndexError:
        return True


def _shown(expression: str, have: Mapping[str, str]) -> str:
    """An expression with the values of its symbols behind them, as menuconfig shows it."""

    def shown(found: re.Match[str]) -> str:
        return f"{found[0]} [={have.get(found[0], 'n')}]"

    return re.sub(r"(?<![\w\"$(.-])[A-Z][A-Z0-9_]*\b(?!\")", shown, expression)


class _Expression:
    """Recursive descent over n/m/y logic: `||` is the maximum, `&&` the minimum, `!` the complement."""

    def __init__(self, tokens: list[str], have: Mapping[str, str]) -> None:
        self.tokens, self.have, self.at = tokens, have, 0

    def either(self) -> int:
        return self._chain("||", self.both, max)

    def both(self) -> int:
        return self._chain("&&", self.factor, min)

    def _chain(self, word: str, part: Callable[[], int], fold: Callable[[int, int], int]) -> int:
        level = part()
        while self.at < len(self.tokens) and self.tokens[self.at] == word:
            self.at += 1
            level = fold(level, part())
        return level

    def factor(self) -> int:
        word = self._next()
        if word == "!":
            return 2 - self.factor()
        if word == "(":
            level = self.either()
            self._next()
            return level
        if self.at < len(self.tokens) and self.tokens[self.at] in ("=", "!=", "<", ">", "<=", ">="):
            return self._compared(word)
        if word.startswith("$("):
            return 2
        return _LEVEL.get(self._value(word), 0)

    def _compared(self, left: str) -> int:
        sign, right = self._next(), self._next()
        if left.startswith("$(") or right.startswith("$("):
            return 2
        a, b = self._value(left), self._value(right)
        if sign in ("=", "!="):
            return 2 if (a == b) == (sign == "=") else 0
        try:
            low, high = int(a, 0), int(b, 0)
        except ValueError:
            return 2
        return 2 if {"<": low < high, ">": low > high, "<=": low <= high, ">=": low >= high}[sign] else 0

    def _next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def _value(self, token: str) -> str:
        if token.startswith('"'):
            return token.strip('"')
        if token in _LEVEL or re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", token):
            return token
        return self.have.get(token, "n").strip('"')


class _Reader:
    """Follows `source` from the top, carrying the conditions of the menus and ifs around each block."""

    def __init__(self, tree: Path, architecture: str) -> None:
        self.tree, self.architecture = tree, architecture
        self.found: dict[str, list[Definition]] = {}

    def read(self, path: str, around: list[Condition]) -> None:
        """Read one file, and those it sources."""
        stack = [list(around)]
        block: Definition | None = None
        for word, rest, where in _statements(self.tree, path):
            inside = [need for level in stack for need in level]
            if word in ("config", "menuconfig", "comment"):
                block = Definition(where, inside)
                if word != "comment":
                    self.found.setdefault(rest, []).append(block)
            elif word in ("if", "menu", "choice"):
                stack.append([Condition(rest, where)] if word == "if" else [])
                block = None
            elif word in ("endif", "endmenu", "endchoice"):
                stack.pop()
                block = None
            elif word in ("source", "osource", "rsource"):
                target = rest.strip('"').replace("$(SRCARCH)", self.architecture).replace("$SRCARCH", self.architecture)
                self.read(target, inside)
                block = None
            elif word == "depends":
                needs = block.needs if block else stack[-1]
                needs.append(Condition(rest.removeprefix("on").strip(), where))
            elif block is not None:
                _property(block, word, rest)


def _statements(tree: Path, path: str) -> Iterator[tuple[str, str, str]]:
    """The statements of a Kconfig file: first word, the rest, and file:line. A missing file counts as empty."""
    try:
        text = (tree / path).read_text(encoding="utf-8", errors="replace").expandtabs()
    except OSError:
        return
    help_indent: int | None = None
    begun, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        indent = len(line) - len(line.lstrip())
        if help_indent is not None and line.strip():
            # A help text ends at the first line that is indented less than its own first line.
            if help_indent == 0:
                help_indent = indent
            if indent and indent >= help_indent:
                continue
            help_indent = None
        first = first or number
        begun += line
        if line.endswith("\\"):
            begun = begun[:-1]
            continue
        word, _, rest = " ".join(begun.split()).partition(" ")
        if word in ("help", "---help---"):
            help_indent = 0
        elif word and not word.startswith("#"):
            yield word, rest.strip(), f"{path}:{first}"
        begun, first = "", 0


def _property(block: Definition, word: str, rest: str) -> None:
    """Record a line of a config block: whether it has a prompt, and what it selects."""
    if word == "select":
        chosen, _, when = rest.partition(" if ")
        block.selects.append((chosen.strip(), when.strip()))
    elif word == "prompt" or (word in ("bool", "tristate", "int", "hex", "string") and '"' in rest):
        block.prompt = True
