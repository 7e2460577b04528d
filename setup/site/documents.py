# SPDX-License-Identifier: GPL-2.0-only
"""The reference of the JSON documents of a run, from their schemas, which are published beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.model.documents import SCHEMAS
from setup.site import markdown
from setup.site.markdown import code, plain

# The documents that have a page of their own; the schema of every document is published.
PUBLISHED = "schemas"
_BEFORE = "#/$defs/"

Schema = Mapping[str, Any]


def schema(name: str) -> Schema:
    """A schema by its name."""
    found: Schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def names() -> list[str]:
    """All schemas."""
    return sorted(path.stem for path in SCHEMAS.glob("*.json"))


def verdict() -> str:
    """The page of verdict.json."""
    whole = schema("verdict")
    return markdown.page(
        "verdict.json",
        plain(str(whole["description"])),
        f"The file in a run directory, and what `--json` prints. It fits the [schema]({PUBLISHED}/verdict.json) "
        "(JSON Schema, 2020-12), which is checked each time when a run is read. "
        "A field that is not known is to be ignored; one that may be missing is not written by every version.",
        "## Fields",
        _fields(whole, whole),
        *(
            part
            for name, inner in whole["$defs"].items()
            if "properties" in inner
            for part in (f"## {name}", plain(str(inner.get("description", ""))), _fields(inner, whole))
        ),
    )


def others() -> str:
    """The page of the other documents."""
    rows = (
        (code(f"{name}.json"), plain(str(schema(name).get("description", ""))), f"[schema]({PUBLISHED}/{name}.json)")
        for name in names()
    )
    return markdown.page(
        "Documents of a run",
        "Each JSON document of a run directory fits a schema (JSON Schema, 2020-12) when it is read; one that does "
        "not is refused.",
        markdown.table(("document", "what it is", "schema"), rows),
    )


def described(inner: Schema, whole: Schema, place: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Each field below an object of a schema, what it says, and whether it must be there."""
    for name, said in inner.get("properties", {}).items():
        field = f"{place}{name}"
        yield field, said, name in inner.get("required", ())
        if said.get("type") == "array" and "$ref" not in said["items"]:
            yield from described(said["items"], whole, f"{field}[].")
        yield from described(said, whole, f"{field}.")


def meaning(said: Schema, whole: Schema) -> str:
    """What a field means: in its own words, or in those of what it refers to."""
    return str(said.get("description") or _referred(said, whole).get("description", ""))


def _fields(inner: Schema, whole: Schema) -> str:
    return markdown.table(
        ("field", "type", "what it says"),
        (
            (code(field) + ("" if needed else " (may be missing)"), _type(said, whole), plain(meaning(said, whole)))
            for field, said, needed in described(inner, whole)
        ),
    )


def _type(said: Schema, whole: Schema) -> str:
    if "const" in said:
        return code(json.dumps(said["const"]))
    if "enum" in said:
        return ", ".join(code(json.dumps(word)) for word in said["enum"])
    if "$ref" in said:
        name = said["$ref"].removeprefix(_BEFORE)
        inner = _referred(said, whole)
        return f"[{name}](#{name})" if "properties" in inner else _type(inner, whole)
    if said.get("type") == "array":
        return f"array of {_type(said['items'], whole)}"
    kind = said.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _referred(said: Schema, whole: Schema) -> Schema:
    found: Schema = whole["$defs"].get(said.get("$ref", "").removeprefix(_BEFORE), {})
    return found
