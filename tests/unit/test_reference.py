# SPDX-License-Identifier: GPL-2.0-only
"""The reference that setup/site generates explains every word of the code, and leaves out none."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

from harness import cli, oracles, pressures
from harness.kernel import patches, versions
from harness.model import event, glossary, scenario, vocabulary
from harness.pytest_plugin import marks, options
from harness.variants import catalogue, mutants
from setup.site import commands, documents, markdown, pages, plugin

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def generated() -> dict[str, str]:
    return dict(pages.generated(ROOT))


def text_of(page: str) -> str:
    return generated()[f"reference/{page}"]


def rows(page: str, section: str = "") -> dict[str, list[str]]:
    """First cell → the other cells of each row of a page's tables, or of those below a heading."""
    text = text_of(f"{page}.md")
    if section:
        level, _, _ = section.partition(" ")
        text = re.split(rf"^#{{1,{len(level)}}} ", text.partition(f"\n{section}\n")[2], flags=re.MULTILINE)[0]
    lines = [line[2:].removesuffix(" |") for line in text.splitlines() if line.startswith("| ")]
    found = [re.split(r" (?<!\\)\| ", line) for line in lines]
    return {cells[0].strip("`"): cells[1:] for cells in found}


def unexplained(table: dict[str, list[str]], words: object) -> list[str]:
    """Those of some words that a table leaves out, or says nothing about."""
    assert words
    return [word for word in map(str, words) if not any(table.get(word, [""])[:1])]  # type: ignore[call-overload]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_and_each_of_its_arguments_is_explained(name: str) -> None:
    table = rows("commands", f"## harness {name}")

    assert unexplained(table, [commands.called(action) for action in commands.arguments(name)]) == []


def test_an_option_without_help_is_noticed() -> None:
    parser = commands.parser("list")
    parser.add_argument("--silent")
    said = {commands.called(action): [action.help or ""] for action in parser._actions}

    assert unexplained(said, said) == ["--silent SILENT"]


def test_each_key_of_a_scenario_is_explained() -> None:
    explained = {section: rows("scenario-files", f"## {title}") for section, title in TITLES.items()}

    assert TITLES.keys() == vocabulary.KEYS.keys() == glossary.KEYS.keys()
    assert [unexplained(explained[section], keys) for section, keys in vocabulary.KEYS.items()] == [[]] * len(TITLES)
    assert unexplained(rows("scenario-files", "## Keys of each step"), vocabulary.COMMON) == []


TITLES = {
    "scenario": "Keys of a scenario",
    "shape": "Keys of `shape`",
    "cgroup": "Keys of `cgroup`",
    "buffer": "Keys of a buffer",
    "subscriber": "Keys of a subscriber",
    "needs": "Keys of `needs`",
}


@pytest.mark.parametrize("name", glossary.CHOICES)
def test_each_word_that_a_key_may_have_is_explained(name: str) -> None:
    words = getattr(vocabulary, name)

    assert tuple(glossary.CHOICES[name]) == words
    assert unexplained(rows("scenario-files"), words) == []


def test_every_set_of_words_of_the_vocabulary_is_explained() -> None:
    """Lists of names that the rest of Linux explains are the exception."""
    tuples = {name for name, value in vars(vocabulary).items() if name.isupper() and isinstance(value, tuple)}

    assert tuples - glossary.CHOICES.keys() == {"COMMON", "COUNTERS", "ERRNOS", "ORACLES"}


@pytest.mark.parametrize("verb", [verb for verb in vocabulary.VERBS if verb != "pressure"])
def test_each_verb_has_its_keys_its_reply_and_an_example(verb: str) -> None:
    target, keys = vocabulary.VERBS[verb]
    section = text_of("verbs.md").partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
    table = rows("verbs", f"## {verb}")

    assert glossary.TARGETS[target] in section
    assert not keys or unexplained(table, keys) == []
    assert not vocabulary.REPLIES.get(verb) or unexplained(table, vocabulary.REPLIES[verb]) == []
    assert {key for key in keys if table[key][1] == "yes"} == vocabulary.REQUIRED.get(verb, frozenset())
    assert re.search(rf"^- \{{{verb}: ", section, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(pressures.catalogue()))
def test_each_pressure_has_its_keys_its_reply_and_an_example(name: str) -> None:
    table = rows("verbs", f"### {name}")

    assert unexplained(table, pressures.catalogue()[name].keys) == []
    assert not vocabulary.PRESSED[name] or unexplained(table, vocabulary.PRESSED[name]) == []


def test_the_examples_are_steps(tmp_path: Path) -> None:
    """Each in a file that has what it names."""
    keys = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
    steps = re.findall(r"^- (\{.*\})", text_of("verbs.md"), re.MULTILINE)
    assert len(steps) == len(vocabulary.VERBS) - 1 + len(keys)
    known = {entry.path.stem: entry for entry in catalogue.scenarios().values()}

    for step in glossary.EXAMPLES.values():
        (tmp_path / "example.yaml").write_text(
            f"summary: s\nbuffers: {{held: {{size: 16M}}}}\nsteps:\n  - {step}\nexercised: {{callbacks: 1}}\n"
        )
        scenario.load(tmp_path / "example.yaml", keys)
    sources = re.findall(r"^- \{.*\}  # (\S+)$", text_of("verbs.md"), re.MULTILINE)
    assert len(sources) == len(steps) - len(glossary.EXAMPLES)
    assert set(sources) <= known.keys()


def test_a_step_that_we_wrote_ourselves_is_one_that_no_scenario_has() -> None:
    used = {step.verb for entry in catalogue.scenarios().values() for step in entry.steps}

    assert used.isdisjoint(glossary.EXAMPLES)


def test_each_counter_is_explained() -> None:
    assert unexplained(rows("counters"), vocabulary.COUNTERS) == []


def test_no_word_is_explained_that_is_gone() -> None:
    arguments = {key for _, keys in vocabulary.VERBS.values() for key in keys}
    pressed = {f"pressure {name} {key}" for name, one in pressures.catalogue().items() for key in one.keys}
    replied = {field for fields in (vocabulary.REPLIES | vocabulary.PRESSED).values() for field in fields}

    assert glossary.VERBS.keys() == vocabulary.VERBS.keys()
    assert glossary.COUNTERS.keys() == set(vocabulary.COUNTERS)
    assert glossary.COMMON.keys() == set(vocabulary.COMMON)
    assert {word for word in glossary.ARGUMENTS if " " not in word} == arguments
    assert {word for word in glossary.ARGUMENTS if " " in word} == pressed
    assert {word.rpartition(" ")[2] for word in glossary.REPLIES} == replied | vocabulary.REPLIED | {vocabulary.TIMES}


def test_each_kind_of_record_and_each_field_of_one_is_explained() -> None:
    table = rows("event-log", "## Kinds of records")

    assert unexplained(rows("event-log", "## Fields of a record"), event.Event._fields) == []
    assert [kind.name for kind in event.Kind if table[kind.name][0] != str(kind.value)] == []
    assert glossary.EVENTS.keys() == {kind.name for kind in event.Kind}
    assert unexplained(rows("event-log", "## Events of a range"), [one.name for one in event.RangeEvent]) == []


def test_each_field_of_verdict_json_is_explained() -> None:
    whole = documents.schema("verdict")
    inner = [whole, *(one for one in whole["$defs"].values() if "properties" in one)]
    fields = [(name, said) for one in inner for name, said, _ in documents.described(one, whole)]

    assert len(fields) > 60
    assert [name for name, said in fields if not documents.meaning(said, whole)] == []
    page = text_of("verdict.md")
    assert [name for name, _ in fields if f"| `{name}`" not in page] == []


def test_each_schema_is_published_as_it_is_checked() -> None:
    for name in documents.names():
        assert json.loads(text_of(f"schemas/{name}.json")) == documents.schema(name)
        assert f"(schemas/{name}.json)" in text_of("documents.md")


def test_each_variant_is_listed() -> None:
    assert unexplained(rows("configurations"), [entry["name"] for entry in catalogue.listing("configs")]) == []
    assert unexplained(rows("mutants"), mutants.catalogue()) == []
    assert unexplained(rows("patches"), [f"mayfail {name}" for name in patches.ports(versions.PATCH)]) == []
    assert [name for name in catalogue.scenarios() if f"`{name}`" not in text_of("scenarios.md")] == []
    assert unexplained(rows("oracles"), [f"[{name}](findings.md#{name})" for name in oracles.catalogue()]) == []


def test_each_fixture_marker_option_and_setting_of_the_plugin_is_explained() -> None:
    table = rows("pytest")

    assert unexplained(table, plugin.fixtures()) == []
    assert unexplained(table, marks._MARKERS) == []
    assert unexplained(table, plugin.settings()) == []
    for names, said in options._OPTIONS:
        assert said["help"]
        assert [name for name in names if f"`{name}=" not in text_of("pytest.md")] == []


def test_the_words_of_the_marker_are_those_of_the_handwritten_page() -> None:
    page = (ROOT / "docs/how-to/pytest.md").read_text(encoding="utf-8")

    assert [word for word in marks._WORDS.split() if f"`{word}`" not in page] == []


def test_text_of_the_code_is_no_markdown() -> None:
    assert markdown.plain("a_b <c> [d](e) *f* & `g`") == r"a\_b &lt;c&gt; \[d\](e) \*f\* &amp; \`g\`"
    assert markdown.table(("a", "b"), [("x|y", "1\n2")]).splitlines()[2] == r"| x\|y | 1 2 |"
