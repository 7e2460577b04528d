# SPDX-License-Identifier: GPL-2.0-only
"""YAML in which a wrong key is an error that names file, line and the nearest right key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any

import yaml

from harness.model.errors import UsageError


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


def offer(wrong: str, right: Collection[str]) -> str:
    """A hint: the nearest right word, or all of them."""
    near = difflib.get_close_matches(wrong, right, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(right))}"


class _Loader(yaml.SafeLoader):
    where = ""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Mapping:
    result = Mapping()
    result.where = loader.where
    result.lines = {"": node.start_mark.line + 1}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable) or not isinstance(key, str):
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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    loader = _Loader(text)
    loader.where = str(path)
    try:
        content = loader.get_single_data()
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{path}:{line}: not YAML: {problem}") from None
    finally:
        loader.dispose()
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}:1: the top level must be a mapping of keys")
    return content


def dump(document: dict[str, Any]) -> str:
    """A document as people write it: the innermost mappings on one line, keys in their order."""
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
