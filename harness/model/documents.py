# SPDX-License-Identifier: GPL-2.0-only
"""JSON documents of a run, which may be anybody's: checked as they are read, against the schemas in schemas/."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from harness.model import files

SCHEMAS = Path(__file__).with_name("schemas")
LIMIT_BYTES = 256 << 20
_SHOWN = 300


def read(path: Path, schema: str) -> Any:
    """The document in a file. Raises OSError, and ValueError that says what is wrong and where."""
    return parse(files.read(path, LIMIT_BYTES), schema)


def parse(content: bytes | str, schema: str) -> Any:
    """The document in a text, which fits a schema. Raises ValueError that says what is wrong and where."""
    try:
        document = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    newest = _schema(schema)["properties"].get("schema", {}).get("const")
    stated = document.get("schema") if isinstance(document, dict) else None
    if newest is not None and isinstance(stated, int) and stated > newest:
        raise ValueError(f"its schema is {stated}, and this harness reads up to {newest}: a newer harness wrote it")
    for fault in _validator(schema).iter_errors(document):
        raise ValueError(f"{fault.json_path}: {fault.message}"[:_SHOWN])
    return document


@cache
def _schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def _validator(name: str) -> Any:
    # 0.15 s, which no command needs that reads no run.
    from jsonschema import Draft202012Validator, validators

    # JSON Schema takes 1.0 for an integer.
    whole = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return validators.extend(Draft202012Validator, type_checker=whole)(_schema(name))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value
