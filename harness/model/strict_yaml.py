# SPDX-License-Identifier: GPL-2.0-only
"""YAML in which a wrong key is an error that names file, line and the nearest right key.

A file comes from anybody: what can make a small text large, slow or another
type (anchors, tags, nesting) is refused, and so are characters that a terminal
would obey.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from yaml import cyaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from harness.model import files
from harness.model.characters import UNSAFE
from harness.model.errors import UsageError, unreadable

# The largest scenario of the project has 4 KB and 6 levels; a file at the limit takes up to half a second.
LIMIT_BYTES = 64 << 10
LIMIT_DEPTH = 32

# PyYAML's stubs do not know how its loaders are put together.
_Parser: Any = cyaml.CParser  # type: ignore[attr-defined]


class Mapping(dict[str, Any]):
    """A YAML mapping that knows where each of its keys stands (lines from 1)."""

    where: str = ""
    lines: dict[str, int]

    def at(self, key: str | None = None) -> str:
        """`file:line` of a key, or of the mapping itself."""
        line = self.lines.get(key or "", self.lines[""])
        return f"{self.where}:{line}"

    def only(self, allowed: Collection[str], what: str) -> None:
        """Refuse any key that is not allowed, and offer the nearest that is."""
        for key in self:
            if key not in allowed:
                raise UsageError(f"{self.at(key)}: unknown key {key!r} in {what}", offer(key, allowed))

    def need(self, key: str, what: str) -> Any:
        """The value of a key that must be there."""
        if key not in self:
            raise UsageError(f"{self.at()}: {what} lacks the key {key!r}")
        return self[key]


def offer(wrong: str, right: Collection[str], otherwise: str = "") -> str:
    """A hint: the nearest right word, or all of them. otherwise: said in place of them, where they are many."""
    near = difflib.get_close_matches(wrong, right, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"known: {', '.join(sorted(right))}"


class _Loader(Composer, _Parser, SafeConstructor, Resolver):  # type: ignore[misc]
    """PyYAML's SafeLoader with libyaml's parser and Python's composer: all of ours are read in a third of the time."""

    def __init__(self, text: str, where: str) -> None:
        _Parser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self.where = where
        self.depth = 0

    def at(self, mark: yaml.Mark) -> str:
        """`file:line` of a mark."""
        return f"{self.where}:{mark.line + 1}"

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, if it is one that a file may have."""
        event: Any = self.peek_event()
        at = self.at(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise UsageError(f"{at}: anchors and aliases are not allowed", "write it out")
        if getattr(event, "tag", None) is not None:
            raise UsageError(f"{at}: the tag {event.tag!r} is not allowed", "leave it out")
        if self.depth >= LIMIT_DEPTH:
            raise UsageError(f"{at}: nested more than {LIMIT_DEPTH} deep")
        if isinstance(event, yaml.ScalarEvent) and (found := UNSAFE.search(event.value)):
            raise UsageError(f"{at}: {found[0]!r} is not allowed in text")
        self.depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; one that does not fit its type, as a date that is none, is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{self.at(node.start_mark)}: not a value: {str(error).partition(';')[0]}") from None


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Mapping:
    result = Mapping()
    result.where = loader.where
    result.lines = {"": node.start_mark.line + 1}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise UsageError(f"{loader.where}:{line}: the key {key!r} is not a word", "quote it")
        if key in result:
            raise UsageError(
                f"{loader.where}:{line}: the key {key!r} is given twice (first in line {result.lines[key]})"
            )
        result.lines[key] = line
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(path: Path) -> Mapping:
    """Read a file whose top level is a mapping; every fault is a UsageError with its line."""
    return parse(read(path), str(path))


def parse(text: str, where: str) -> Mapping:
    """The same of a text; where: its file, for messages."""
    content = _parse(text, where)
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}:1: the top level must be a mapping of keys")
    return content


def read(path: Path) -> str:
    """The text of a file. Raises UsageError, with the line of what is no text."""
    content = b""
    try:
        content = files.read(path, LIMIT_BYTES)
        return content.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise unreadable(error, f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def _parse(text: str, where: str) -> Any:
    try:
        return _Loader(text, where).get_single_data()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{where}:{line}: {chr(error.character)!r} is not allowed in text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise UsageError(f"{where}:{line}: not YAML: {error.problem or error.context}") from None


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        """Write out what occurs twice: load() takes no aliases."""
        return True


def dump(document: dict[str, Any]) -> str:
    """A document as people write it: the innermost mappings on one line, keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
