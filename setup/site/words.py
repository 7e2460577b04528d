# SPDX-License-Identifier: GPL-2.0-only
"""The reference of scenarios, from harness/model: keys, verbs with an example of each, pressures, counters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from harness import pressures
from harness.model import glossary, scenario_schema, vocabulary
from harness.model.scenario import Scenario, Step
from harness.variants import catalogue
from setup.site import markdown
from setup.site.markdown import code

# The words that the value of a key is one of, by the section of the key.
_VALUES = {
    ("buffer", "kind"): "KINDS",
    ("subscriber", "policy"): "POLICIES",
    ("subscriber", "when"): "WHENS",
    ("subscriber", "interface"): "INTERFACES",
    ("subscriber", "accessed"): "ACCESSED",
}
_TITLES = {
    "KINDS": "Kinds of memory",
    "POLICIES": "Policies",
    "WHENS": "When `policy: errno` fails",
    "INTERFACES": "Interfaces",
    "ACCESSED": "What a device accessed",
    "ACCESSES": "How a mirror is filled",
    "REFERENCES": "Kinds of reference",
    "PROTECTIONS": "Protections",
    "ADVICES": "Advice",
}
_SECTIONS = {
    "scenario": "Keys of a scenario",
    "shape": "Keys of `shape`",
    "cgroup": "Keys of `cgroup`",
    "buffer": "Keys of a buffer",
    "subscriber": "Keys of a subscriber",
    "needs": "Keys of `needs`",
}


def keys() -> str:
    """The page of what may stand in a file."""
    return markdown.page(
        "Scenario files",
        "A scenario is a YAML file: memory, subscribers to it, what is done, and what must have happened. "
        "A word that is none of these is an error, with file, line and the nearest right one.",
        "An editor learns the same from the [schema](schemas/scenario.json) (JSON Schema, 2020-12): most read a first "
        "line `# yaml-language-server: $schema=PATH/scenario.json`. It knows no names: whether a buffer, a thread or "
        "a `$name` of the file is there, and that a step begins with its verb, the harness alone says.",
        *(part for section in vocabulary.KEYS for part in _section(section)),
        "## Keys of each step",
        "[Steps](steps.md) says how a step is written, and [Verbs](verbs.md) which keys each verb has.",
        markdown.table(
            ("key", "what it says"),
            ((code(key), glossary.COMMON[key]) for key in vocabulary.COMMON),
        ),
        *(part for name, title in _TITLES.items() for part in (f"## {title}", _meanings(glossary.CHOICES[name]))),
        "## Errors",
        f"`errno` is one of {', '.join(map(code, vocabulary.ERRNOS))}.",
    )


def schema() -> str:
    """The schema of a file."""
    keys = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
    return json.dumps(scenario_schema.schema(keys), indent=1, ensure_ascii=False) + "\n"


def verbs() -> str:
    """The page of verbs and pressures."""
    examples = Examples(catalogue.scenarios().values())
    return markdown.page(
        "Verbs",
        "A step begins with its verb and what the verb is for: `{touch: held, seed: 1}`. Each reply also has "
        f"{' and '.join(f'{code(name)} ({glossary.REPLIES[name]})' for name in sorted(vocabulary.REPLIED))}; that of "
        f"a thread that repeats its step has {code(vocabulary.TIMES)}. A number of the reply can be expected: "
        "`expect: {majflt: 0}`. The examples are steps of [scenarios](scenarios.md) that come with the harness.",
        *(part for verb in vocabulary.VERBS if verb != "pressure" for part in _verb(verb, examples)),
        "## pressure",
        f"{_sentence(glossary.VERBS['pressure'])} The reply is that of the last thing that it does.",
        *(part for name in pressures.catalogue() for part in _pressure(name, examples)),
    )


def counters() -> str:
    """The page of what can be counted."""
    return markdown.page(
        "Counters",
        "What `exercised`, `owed` and `never` of a scenario name, and `exercised` in verdict.json has. "
        "Callbacks count when their range meets the buffer of the subscriber.",
        _meanings(glossary.COUNTERS, "counter"),
    )


class Examples:
    """Steps of real scenarios."""

    def __init__(self, scenarios: Iterable[Scenario]) -> None:
        self._steps = [(step, scenario.path.stem) for scenario in scenarios for step in scenario.steps]

    def of(self, verb: str, target: str = "") -> str:
        """The step that says most about a verb, and where it is from."""
        fitting = [(step, name) for step, name in self._steps if step.verb == verb and target in ("", step.target)]
        if not fitting:
            return f"```yaml\n- {glossary.EXAMPLES[verb]}\n```"
        step, name = max(fitting, key=lambda one: (len(one[0].arguments), bool(one[0].expect), -len(written(one[0]))))
        return f"```yaml\n- {written(step)}  # {name}\n```"


def written(step: Step) -> str:
    """A step as a file has it."""
    told: dict[str, Any] = {step.verb: step.target, **step.arguments}
    if step.process:
        told["in"] = step.process
    if step.background:
        told["background"] = step.background
    if step.again:
        told["again"] = True
    if step.expect:
        told["expect"] = dict(step.expect)
    flow = yaml.safe_dump(told, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return str(flow).strip()


def _section(name: str) -> Iterator[str]:
    yield f"## {_SECTIONS[name]}"
    rows = []
    for key in vocabulary.KEYS[name]:
        values = _VALUES.get((name, key))
        which = f": {', '.join(map(code, getattr(vocabulary, values)))}" if values else ""
        rows.append((code(key), f"{glossary.KEYS[name][key]}{which}"))
    yield markdown.table(("key", "what it says"), rows)


def _verb(verb: str, examples: Examples) -> Iterator[str]:
    target, keys = vocabulary.VERBS[verb]
    yield f"## {verb}"
    yield f"{_sentence(glossary.VERBS[verb])} Its target is {glossary.TARGETS[target]}."
    required = vocabulary.REQUIRED.get(verb, frozenset())
    yield _arguments(verb, {key: key in required for key in sorted(keys)})
    yield _reply(verb, vocabulary.REPLIES.get(verb, frozenset()))
    yield examples.of(verb)


def _pressure(name: str, examples: Examples) -> Iterator[str]:
    pressure = pressures.catalogue()[name]
    yield f"### {name}"
    yield markdown.plain(pressure.summary)
    yield _arguments(f"pressure {name}", pressure.keys)
    yield _reply(f"pressure {name}", vocabulary.PRESSED[name])
    yield examples.of("pressure", name)


def _arguments(verb: str, keys: Mapping[str, bool]) -> str:
    rows = []
    for key, needed in keys.items():
        choices = vocabulary.CHOICES.get(key)
        which = f": {', '.join(map(code, choices[0]))}" if choices else ""
        rows.append((code(key), _meaning(glossary.ARGUMENTS, verb, key) + which, "yes" if needed else ""))
    return markdown.table(("key", "what it says", "needed"), rows)


def _reply(verb: str, fields: frozenset[str]) -> str:
    order: Sequence[str] = list(glossary.REPLIES)
    said = {field: _meaning(glossary.REPLIES, verb, field) for field in sorted(fields, key=order.index)}
    return _meanings(said, "in its reply")


def _meaning(meanings: Mapping[str, str], verb: str, word: str) -> str:
    """What a word means behind a verb."""
    return meanings.get(f"{verb} {word}") or meanings[word]


def _meanings(meanings: Mapping[str, str], head: str = "word") -> str:
    return markdown.table((head, "what it is"), ((code(word), meaning) for word, meaning in meanings.items()))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
