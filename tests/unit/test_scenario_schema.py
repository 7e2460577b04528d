# SPDX-License-Identifier: GPL-2.0-only
"""The published schema of a scenario file takes what the harness takes, and refuses what it refuses for its form."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness import pressures
from harness.model import scenario, scenario_schema, strict_yaml, vocabulary
from harness.model.errors import UsageError
from harness.variants import catalogue
from setup.site import words
from tests.unit.fuzzing import fuzz
from tests.unit.test_scenario import FAULTS, GOOD, LATE_FAULTS

PRESSURES = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
SCHEMA = scenario_schema.schema(PRESSURES)
VALIDATOR = Draft202012Validator(SCHEMA)
FILES = sorted({entry.path for entry in catalogue.scenarios().values()})

# What is wrong by what else is in the file, or by what it comes to, and not by its form.
_BEYOND = re.compile(
    r"unknown (buffer|subscriber|name|process|thread|variant) "
    r"|unknown field '\w+' in the reply to '(pages|advise|wait)'"
    r"|'wait' |is a mirror, which accepts|is no mirror"
    r"|begins with its verb|given twice|not YAML|not a value:|is not allowed|is not a word"
    r"|regular expression|is not in whole pages|are not whole (huge )?pages|bytes of memory, and a guest"
    r"|is more than 1024G"
    r"|gets no page of|moves no page of|is compared while nothing else goes on"
    r"|has no value in vary|scenarios in a file|has 1 to 1000 steps"
)


def refused(document: Any) -> str:
    """Why the schema refuses a document; empty when it takes it."""
    return next((f"{fault.json_path}: {fault.message[:200]}" for fault in VALIDATOR.iter_errors(document)), "")


def told(document: Any) -> str:
    """Why the harness refuses it."""
    try:
        scenario.load(Path("sample.yaml"), PRESSURES, strict_yaml.dump(document))
    except UsageError as error:
        return str(error)
    return ""


def parsed(text: str) -> dict[str, Any]:
    """A document as other tools read it."""
    return json.loads(json.dumps(strict_yaml.parse(text, "sample.yaml")))  # type: ignore[no-any-return]


def test_it_is_a_schema_and_published() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert json.loads(words.schema()) == SCHEMA
    page = words.keys()
    assert "(schemas/scenario.json)" in page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_scenario_of_the_project_fits(path: Path) -> None:
    assert refused(parsed(path.read_text(encoding="utf-8"))) == ""


@pytest.mark.parametrize(("old", "new", "message"), [*FAULTS, *LATE_FAULTS])
def test_what_the_harness_refuses_for_its_form_does_not_fit(old: str, new: str, message: str) -> None:
    try:
        document = parsed(GOOD.replace(old, new, 1))
    except UsageError:
        return
    said = told(document)

    assert said or "more than 1024G" in message
    assert _BEYOND.search(said) or refused(document), said


def test_a_fault_is_told_where_it_is() -> None:
    document = parsed(GOOD)
    document["steps"][0]["sead"] = document["steps"][0].pop("seed")

    assert refused(document).startswith("$.steps[0]: Additional properties are not allowed ('sead' was unexpected)")
    assert refused(parsed(GOOD) | {"timeout": -1}).startswith("$.timeout: -1 is less than the minimum")
    assert "'acept' is not one of ['accept'" in refused(parsed(GOOD.replace("accept", "acept")))


def test_a_name_stands_for_a_value_only_where_the_file_varies() -> None:
    document = parsed(GOOD.replace("policy: accept", "policy: $policy"))

    assert "'$policy' is not one of" in refused(document)
    assert refused(document | {"vary": {"one": {"policy": "accept"}}}) == ""


def test_each_word_of_a_file_without_vary_is_explained() -> None:
    """By the words of the glossary, which an editor shows."""
    properties = SCHEMA["$defs"]["plain"]["properties"]
    steps = SCHEMA["$defs"]["plain-step"]["properties"]

    assert properties.keys() == set(vocabulary.KEYS["scenario"])
    assert steps.keys() == vocabulary.VERBS.keys()
    assert [key for key, said in (properties | steps).items() if not said["description"]] == []


_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        4096,
        1 << 70,
        0.5,
        "",
        "accept",
        "64K",
        "16M",
        "all",
        ">= 1",
        "$x",
        "a b",
        [],
        {},
        "x" * 2000,
    ]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from places(below, (*at, key))


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A scenario of the project in which one thing is another: a value, a key, or something that is gone."""
    document = parsed(draw(st.sampled_from(FILES)).read_text(encoding="utf-8"))
    *way, last = draw(st.sampled_from(list(places(document))))
    holder = document
    for key in way:
        holder = holder[key]
    match draw(st.sampled_from(("value", "key", "gone", "more"))):
        case "value":
            holder[last] = draw(_VALUES)
        case "key" if isinstance(holder, dict):
            held = {draw(_KEYS) if key == last else key: value for key, value in holder.items()}
            holder.clear()
            holder.update(held)
        case "more" if isinstance(holder, dict):
            holder[draw(_KEYS)] = copy.deepcopy(draw(_VALUES))
        case _:
            del holder[last]
    return document


_KEYS = st.sampled_from(
    sorted(
        {
            "zzz",
            *vocabulary.COMMON,
            *vocabulary.VERBS,
            *vocabulary.COUNTERS,
            *(key for keys in vocabulary.KEYS.values() for key in keys),
        }
    )
)


@given(changed())
@fuzz(300)
def test_the_schema_and_the_harness_agree(document: dict[str, Any]) -> None:
    """Where nothing but the form is at stake; what `vary` puts into a file, a schema does not see."""
    said = told(document)
    assume(not _BEYOND.search(said))
    assume(not (said and document.get("vary")))

    assert bool(said) == bool(refused(document)), (said, refused(document))
