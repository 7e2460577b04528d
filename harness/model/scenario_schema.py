# SPDX-License-Identifier: GPL-2.0-only
"""The JSON schema of a scenario file, from the words and forms that scenario.py checks; for editors and other tools.

A schema knows no names: whether a buffer, a thread or a `$name` is there, only scenario.py can tell. Nor does it
know the order of keys: that a step begins with its verb. All else that is a matter of form, it refuses, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from harness.model import forms, glossary, vocabulary
from harness.model.contract import Contract
from harness.model.vocabulary import COMMON, KEYS, PRESSED, REPLIED, REPLIES, REQUIRED, TIMES, TRUTHS, VERBS

Schema = dict[str, Any]
Pressures = Mapping[str, Mapping[str, bool]]

_CODE = re.compile(r"[`*]")


def schema(pressures: Pressures) -> Schema:
    """The schema. pressures: the name of each known pressure, its keys, and whether it needs them.

    A file with `vary` may have a `$name` wherever a value stands, and has definitions of its own.
    """
    varies = {"required": ["vary"], "properties": {"vary": {"type": "object", "minProperties": 1}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scenario.json",
        "description": "A scenario file of kernel-harness: memory, subscribers to it, what is done, "
        "and what must have happened.",
        "type": "object",
        "if": varies,
        "then": {"$ref": "#/$defs/varied"},
        "else": {"$ref": "#/$defs/plain"},
        "$defs": _Writer(pressures, varied=False).definitions() | _Writer(pressures, varied=True).definitions(),
    }


class _Writer:
    """The definitions of a kind of file. varied: it has `vary`."""

    def __init__(self, pressures: Pressures, *, varied: bool) -> None:
        self._pressures = pressures
        self._varied = varied
        self._prefix = "varied" if varied else "plain"

    def definitions(self) -> dict[str, Schema]:
        """Each definition by its name."""
        parts = {
            "": self._file(),
            "-size": _size(),
            "-name": {"type": "string", "pattern": _whole(forms.NAME)},
            "-number": _quantity(),
            "-quantity": _quantity("all"),
            "-buffer": self._section("buffer", self._buffer(), ["size"]),
            "-subscriber": self._section("subscriber", self._subscriber(), ["buffer"]) | {"allOf": self._asked()},
            "-step": self._step(),
            **{f"-{verb}": self._verb(verb) for verb in VERBS if verb != "pressure"},
            **{f"-pressure-{name}": self._pressure(name) for name in self._pressures},
        }
        return {f"{self._prefix}{name}": part for name, part in parts.items()}

    def _file(self) -> Schema:
        counts = {
            "type": "object",
            "propertyNames": {"enum": list(vocabulary.COUNTERS)},
            "additionalProperties": self._may({"type": "integer", "minimum": 1, "maximum": forms.COUNT_MAX}),
        }
        findings = {
            "type": "object",
            "propertyNames": {"enum": list(vocabulary.ORACLES)},
            "additionalProperties": self._may({"type": "string", "minLength": 1, "maxLength": forms.PATTERN_MAX}),
        }
        counters = {"type": "array", "items": self._may({"enum": list(vocabulary.COUNTERS)})}
        steps = {
            "type": "array",
            "minItems": 1,
            "maxItems": forms.STEPS_MAX,
            "items": self._may(self._ref("step")),
        }
        wanted: dict[str, Schema] = {
            "summary": {"type": "string"},
            "default": {"type": "boolean"},
            "vary": {"type": "object", "maxProperties": 0},
            "shape": self._section("shape", self._shape()),
            "cgroup": self._section("cgroup", {key: self._ref("size") for key in KEYS["cgroup"]}),
            "buffers": self._named("buffer"),
            "subscribers": self._named("subscriber"),
            "steps": steps,
            "exercised": counts | {"minProperties": 1},
            "owed": counts,
            "never": counters,
            "needs": self._section("needs", self._needs()) | {"type": ["object", "null"]},
            "expect": findings,
            "tolerate": findings,
            "timeout": {"type": "integer", "minimum": 1, "maximum": forms.TIMEOUT_MAX_S},
        }
        found = self._section("scenario", wanted, ["summary", "steps", "exercised"])
        if self._varied:
            found["properties"]["vary"] = self._told("scenario", "vary") | {
                "type": "object",
                "maxProperties": forms.VARIANTS_MAX,
                "propertyNames": {"pattern": _whole(forms.NAME)},
                "additionalProperties": {"type": "object"},
            }
            names = {"type": "array", "items": {"type": "string", "pattern": _whole(forms.NAME)}}
            found["properties"]["default"] = self._told("scenario", "default") | {"anyOf": [{"type": "boolean"}, names]}
        return found

    def _shape(self) -> dict[str, Schema]:
        return {
            "memory": _size(forms.MEMORY_MIN),
            "cpus": {"type": "integer", "minimum": 1, "maximum": forms.CPUS_MAX},
            "swap": self._ref("size"),
            "cmdline": {"type": "string"},
        }

    def _needs(self) -> dict[str, Schema]:
        options = {"type": "array", "items": self._may({"type": "string", "pattern": _whole(forms.OPTION)})}
        version = {"type": "string", "pattern": _whole(forms.VERSION, "|")}
        return {
            "options": options,
            "without": options,
            "version": version,
            "until": version,
            "contract": {"enum": [one.value for one in Contract]},
        }

    def _buffer(self) -> dict[str, Schema]:
        return {
            "kind": {"enum": list(vocabulary.KINDS)},
            "size": _size(forms.PAGE) | {"multipleOf": forms.PAGE},
            "thp": {"type": "boolean"},
        }

    def _subscriber(self) -> dict[str, Schema]:
        return {
            "buffer": self._ref("name"),
            "policy": {"enum": list(vocabulary.POLICIES)},
            "errno": {"enum": list(vocabulary.ERRNOS)},
            "when": {"enum": list(vocabulary.WHENS)},
            "wait_ms": {"type": "integer", "minimum": 0, "maximum": vocabulary.WAIT_MS_MAX},
            "interface": {"enum": list(vocabulary.INTERFACES)},
            "end": {"type": "boolean"},
            "end_ms": {"type": "integer", "minimum": 0, "maximum": vocabulary.WAIT_MS_MAX},
            "offset": _size() | {"multipleOf": forms.PAGE},
            "accessed": {"enum": list(vocabulary.ACCESSED)},
        }

    def _asked(self) -> list[Schema]:
        """A mirror accepts; an interval is not asked what it accessed, and has no end; nor has who says so."""
        mirrors = sorted(vocabulary.MIRRORS)
        endless = _when({"end": {"const": False}}, {"properties": {"end_ms": self._may({"const": 0})}})
        return [endless] + [
            _when(
                {"interface": {"enum": [*interfaces]}},
                {"properties": {key: self._may({"const": only})}},
            )
            for interfaces, key, only in (
                (mirrors, "policy", "accept"),
                (("interval", *mirrors), "accessed", "unasked"),
                (("interval", *mirrors), "end_ms", 0),
            )
        ]

    def _step(self) -> Schema:
        """Which verb it is: one may be the key of another."""
        rules = []
        for verb in VERBS:
            others = [other for other, (_, keys) in VERBS.items() if verb in keys]
            others += ["pressure"] * any(verb in keys for keys in self._pressures.values())
            condition: Schema = {"required": [verb]}
            if others:
                condition["not"] = {"anyOf": [{"required": [other]} for other in others]}
            wanted = self._ref(verb) if verb != "pressure" else {"allOf": list(self._pressed())}
            rules.append({"if": condition, "then": wanted})
        pressure = self._told_verb("pressure") | self._may({"enum": list(self._pressures)})
        return {
            "type": "object",
            "anyOf": [{"required": [verb]} for verb in VERBS],
            "properties": {verb: self._told_verb(verb) for verb in VERBS} | {"pressure": pressure},
            "allOf": [
                *rules,
                _when({"again": {"const": True}}, {"required": ["background"]}),
                {"if": {"required": ["background"]}, "then": {"properties": {"expect": {"maxProperties": 0}}}},
            ],
        }

    def _pressed(self) -> Iterable[Schema]:
        for name in self._pressures:
            yield _when({"pressure": {"const": name}}, self._ref(f"pressure-{name}"))

    def _verb(self, verb: str) -> Schema:
        target, keys = VERBS[verb]
        return self._done(verb, verb, self._target(target), dict.fromkeys(keys, False), self._replies(verb))

    def _pressure(self, name: str) -> Schema:
        replies = PRESSED.get(name, frozenset())
        return self._done("pressure", f"pressure {name}", {"const": name}, self._pressures[name], replies)

    def _replies(self, verb: str) -> frozenset[str]:
        """What the reply may have; that to a wait is what its thread did."""
        if verb == "wait":
            return frozenset({TIMES}).union(*REPLIES.values(), *PRESSED.values())
        return REPLIES.get(verb, frozenset())

    def _done(self, verb: str, told: str, target: Schema, keys: Mapping[str, bool], replies: frozenset[str]) -> Schema:
        """A step. keys: each with whether it is needed. told: the words behind which glossary.py explains a key."""
        fields = sorted(REPLIED | replies)
        number = self._ref("number" if {"held", "pages"}.isdisjoint(fields) else "quantity")
        expect = {
            "type": "object",
            "properties": {
                field: self._said(glossary.REPLIES, told, field)
                | self._may({"type": "boolean"} if field in TRUTHS else number)
                for field in fields
            },
            "additionalProperties": False,
        }
        common: dict[str, Schema] = {
            "expect": self._may(expect),
            "background": self._may(_word(forms.NAME) | {"type": ["string", "integer"], "minimum": 0}),
            "in": self._may(self._ref("name")),
            "again": self._may({"type": "boolean"}),
        }
        assert common.keys() == set(COMMON)
        arguments = {key: self._said(glossary.ARGUMENTS, told, key) | self._may(_argument(key)) for key in sorted(keys)}
        needed = sorted({key for key, wanted in keys.items() if wanted} | REQUIRED.get(verb, frozenset()))
        return {
            "properties": {
                verb: self._may(target),
                **arguments,
                **{key: self._text(glossary.COMMON[key]) | one for key, one in common.items()},
            },
            "required": [verb, *needed],
            "additionalProperties": False,
        }

    def _target(self, kind: str) -> Schema:
        if kind == "cgroup":
            return {"const": "work"}
        if kind in ("key", "path"):
            return _word(forms.WORD)
        return _word(forms.TARGETS.get(kind, forms.NAME))

    def _named(self, section: str) -> Schema:
        """Entries of a section, each with a name that the file gives it."""
        return {
            "type": "object",
            "propertyNames": {"pattern": _whole(forms.NAME)},
            "additionalProperties": self._may(self._ref(section)),
        }

    def _section(self, name: str, wanted: Mapping[str, Schema], needed: Iterable[str] = ()) -> Schema:
        """A mapping with exactly the keys of the vocabulary."""
        return {
            "type": "object",
            "properties": {key: self._told(name, key) | self._may(wanted[key]) for key in KEYS[name]},
            "required": [*needed],
            "additionalProperties": False,
        }

    def _may(self, wanted: Schema) -> Schema:
        """A value, or a `$name` in its place."""
        if not self._varied:
            return wanted
        return {"if": {"type": "string", "pattern": "^\\$"}, "else": wanted}

    def _ref(self, name: str) -> Schema:
        return {"$ref": f"#/$defs/{self._prefix}-{name}"}

    def _told(self, section: str, key: str) -> Schema:
        return self._text(glossary.KEYS[section][key])

    def _told_verb(self, verb: str) -> Schema:
        return self._text(glossary.VERBS[verb])

    def _said(self, meanings: Mapping[str, str], before: str, word: str) -> Schema:
        return self._text(meanings.get(f"{before} {word}") or meanings[word])

    def _text(self, text: str) -> Schema:
        """What a word means; said once."""
        return {} if self._varied else {"description": _CODE.sub("", text)}


def _when(properties: Schema, then: Schema) -> Schema:
    return {"if": {"properties": properties, "required": [*properties]}, "then": then}


def _argument(key: str) -> Schema:
    if key in vocabulary.CHOICES:
        return {"enum": list(vocabulary.CHOICES[key][0])}
    if key == "into":
        return {"type": "string", "pattern": _whole(forms.NAME)}
    return _word(forms.WORDS if key in forms.SPOKEN else forms.WORD)


def _word(form: re.Pattern[str]) -> Schema:
    """What is a word in a line for the driver; a truth is 1 or 0 there."""
    return {"type": ["string", "integer", "boolean"], "pattern": _whole(form)}


def _size(least: int = 0) -> Schema:
    return {"type": ["string", "integer"], "pattern": _whole(forms.SIZE), "minimum": least, "maximum": forms.SIZE_MAX}


def _quantity(*words: str) -> Schema:
    """What a number of a reply is expected to be."""
    alternatives = "".join(f"|{word}" for word in words)
    most = forms.NUMBER_MAX - 1
    return {
        "type": ["string", "integer"],
        "pattern": _whole(forms.WANTED, alternatives),
        "minimum": -most,
        "maximum": most,
    }


def _whole(form: re.Pattern[str], alternatives: str = "") -> str:
    """A pattern that fits whole texts, in the words of both Python's and ECMA's expressions."""
    return f"^(?:{form.pattern}{alternatives})$(?!\\n)"
