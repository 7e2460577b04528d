# SPDX-License-Identifier: GPL-2.0-only
"""Definitions that are written twice, in C and in Python, are the same: a value that only one side has fails here."""

from __future__ import annotations

import graphlib
import re
import struct
from collections.abc import Mapping

import pytest

from harness import oracles, pressures
from harness.guest import agent, machine
from harness.guest.agent import Frame
from harness.host.workspace import data
from harness.model import event, vocabulary
from harness.model.event import Kind, Policy, Young
from harness.oracles import coherence, pairing
from harness.run import planning
from harness.variants import catalogue

C = data("guest-modules")
UAPI = (C / "notifier_hold" / "notifier_hold_uapi.h").read_text()
AGENT = (C / "init" / "agent.h").read_text()


def bare(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def enum(text: str, name: str) -> dict[str, int]:
    """The values of an enumeration, without the last value if it only counts the others."""
    body = bare(text).split(f"enum {name} {{")[1].split("}")[0]
    values: dict[str, int] = {}
    number = -1
    for word in filter(None, (part.strip() for part in body.split(","))):
        key, _, given = (part.strip() for part in word.partition("="))
        number = int(given, 0) if given else number + 1
        values[key] = number
    if re.fullmatch(r"NH_[A-Z]+S", list(values)[-1]):
        values.popitem()
    return values


def defines(text: str, prefix: str) -> dict[str, int]:
    """The numbers of a family of macros."""
    found = re.findall(rf"^#define {prefix}(\w+)\s+(0x[0-9a-fA-F]+|\d+)", bare(text), re.MULTILINE)
    return {name: int(value, 0) for name, value in found}


def fields(text: str, name: str) -> list[str]:
    """The members of a structure."""
    return re.findall(r"__[us]\d+\s+(\w+)", bare(text).split(f"struct {name} {{")[1].split("};")[0])


def table(file: str, name: str) -> list[str]:
    """The words of a table of choices in the driver."""
    body = (C / "drive" / file).read_text().split(f"struct name_value {name}[] = {{")[1].split("NULL")[0]
    return re.findall(r'\{ "([^"]+)"', body)


def driver_verbs() -> dict[str, list[str]]:
    """Verb of the driver → its keys, with ! behind those that it needs."""
    verbs: dict[str, list[str]] = {}
    for path in sorted((C / "drive").glob("*.c")):
        for body in re.findall(r"struct verb \w+\[\] = \{(.*?)\{ NULL", path.read_text(), re.DOTALL):
            for verb, keys in re.findall(r'\{ "([^"]+)", \w+,\s+((?:"[^"]*"\s*)+)\}', body):
                verbs[verb] = re.findall(r"[\w-]+!?", keys.replace('"', ""))
    return verbs


# --- the log's records


def test_a_record_is_laid_out_as_the_module_writes_it() -> None:
    codes = {"u64": "Q", "s32": "i", "u32": "I", "u8": "B"}
    body = bare(UAPI).split("struct nh_event {")[1].split("};")[0]
    types = re.findall(r"__(\w+)\s+(\w+);", body)

    assert tuple(name for _, name in types) == event.Event._fields
    assert struct.Struct("<" + "".join(codes[kind] for kind, _ in types)).size == event.RECORD.size == 112
    expanded = re.sub(r"(\d+)(\w)", lambda match: match[2] * int(match[1]), event.RECORD.format.removeprefix("<"))
    assert "".join(codes[kind] for kind, _ in types) == expanded


def test_the_header_of_a_log_is_laid_out_as_the_module_writes_it() -> None:
    assert fields(UAPI, "nh_log_header") == [
        "magic", "format", "record_size", "subscribers", "count", "lost", "capacity",
    ]  # fmt: skip
    numbers = defines(UAPI, "NH_LOG_")
    assert (numbers["MAGIC"], numbers["FORMAT"]) == (event.MAGIC, event.FORMAT)


@pytest.mark.parametrize(
    ("name", "prefix", "ours"),
    [
        ("nh_kind", "NH_", {kind.name: kind.value for kind in Kind}),
        ("nh_young", "NH_YOUNG_", {young.name: young.value for young in Young}),
        ("nh_policy", "NH_", {policy.name: policy.value for policy in Policy}),
    ],
)
def test_an_enumeration_has_the_module_s_names_and_numbers(name: str, prefix: str, ours: Mapping[str, int]) -> None:
    assert {key.removeprefix(prefix): value for key, value in enum(UAPI, name).items()} == ours


def test_each_way_in_which_pairing_breaks_has_words() -> None:
    told = [*pairing._BROKEN, *pairing._BESIDE, *coherence.STALE]

    assert set(enum(UAPI, "nh_broken").values()) == set(told)
    assert len(told) == len(set(told))


def test_each_bit_of_a_record_s_context_is_known() -> None:
    ours = {
        name: getattr(event, name)
        for name in (
            "RECLAIM_STATE", "OWN_BUFFER", "OWNER_IS_CURRENT", "HAS_END", "QUENCHED", "OBSERVED", "UNMAP_ONE", "DIRECT",
        )
    }  # fmt: skip

    assert defines(UAPI, "NH_CTX_") == ours
    assert defines(UAPI, "NH_RANGE_") == {"MAYFAIL": event.MAYFAIL}


def test_each_flag_of_a_registration_is_known() -> None:
    assert defines(UAPI, "NH_SUB_") == {
        "END": event.SUB_END, "GET": event.SUB_GET, "INTERVAL": event.SUB_INTERVAL, "MIRROR": event.SUB_MIRROR,
        "YOUNG": event.SUB_YOUNG, "ACCESSED": event.SUB_ACCESSED, "TLB": event.SUB_TLB,
    }  # fmt: skip


# --- the channel to PID 1


def test_frames_have_the_numbers_of_pid_1() -> None:
    assert {frame.name: frame.value for frame in Frame} == enum(AGENT, "frame_type")


def only(pattern: str, text: str) -> str:
    """The group of a pattern's only match."""
    (found,) = re.findall(pattern, text)
    return str(found)


def test_the_channel_has_the_limits_and_the_version_of_pid_1() -> None:
    assert int(only(r"#define MAGIC (0x\w+?)u", AGENT), 16) == agent.MAGIC
    assert int(only(r"#define PAYLOAD_MAX (\d+)u", AGENT)) == agent.PAYLOAD_MAX
    assert only(r"#define ABI (\d+)", (C / "init" / "setup.c").read_text()) == agent.ABI
    assert only(r"struct frame \{\s+uint32_t ([^;]+);\s+\}", AGENT) == "magic, id, type, len"


def test_qemu_s_watchdog_is_fed_from_where_the_host_counts() -> None:
    fed = int(only(r"#define FROM_10_S (\d+)", (C / "init" / "watchdog.c").read_text()))

    # From 30 s down in steps of 2 (QEMU, hw/watchdog/wdt_ib700.c).
    assert 30 - 2 * fed == machine.WATCHDOG_S


# --- the words of scenarios


@pytest.mark.parametrize(
    ("file", "name", "ours"),
    [
        ("buffers.c", "kinds", vocabulary.KINDS),
        ("subscribers.c", "policies", vocabulary.POLICIES),
        ("subscribers.c", "whens", vocabulary.WHENS),
        ("subscribers.c", "interfaces", vocabulary.INTERFACES),
        ("device.c", "hows", vocabulary.REFERENCES),
        ("mappings.c", "protections", vocabulary.PROTECTIONS),
        ("mappings.c", "advices", vocabulary.ADVICES),
        ("arguments.c", "errnos", vocabulary.ERRNOS),
    ],
)
def test_the_driver_knows_each_word_of_a_scenario_and_no_other(file: str, name: str, ours: tuple[str, ...]) -> None:
    assert sorted(table(file, name)) == sorted(ours)


def test_a_policy_of_the_driver_is_one_of_the_module() -> None:
    text = (C / "drive" / "subscribers.c").read_text().split("struct name_value policies[] = {")[1].split("NULL")[0]

    assert sorted(re.findall(r"(NH_\w+)", text)) == sorted(enum(UAPI, "nh_policy"))


# Steps that the harness translates to another verb: limit and pressure.
RENAMED = {"limit", "pressure"}


def test_the_driver_knows_each_verb_of_a_scenario_and_its_keys() -> None:
    verbs = driver_verbs()
    # A policy is called `to` in a step, and a module is the step's target.
    spoken = {verb: keys for verb, (_, keys) in vocabulary.VERBS.items() if verb not in RENAMED}

    assert sorted(set(spoken) - set(verbs)) == []
    for verb, keys in spoken.items():
        assert {"policy" if key == "to" else key for key in keys} <= {key.rstrip("!") for key in verbs[verb]}, verb


def test_a_step_lacks_no_key_that_the_driver_needs() -> None:
    """The target is one of them; what a buffer or a subscriber needs stands where it is described."""
    verbs = driver_verbs() | {"limit": ["value!"]}
    for verb in set(vocabulary.VERBS) - {"pressure", "map", "subscribe"}:
        needed = {key.rstrip("!") for key in verbs[verb] if key.endswith("!")} - {"name", "path"}
        wanted = vocabulary.REQUIRED.get(verb, frozenset())
        assert {"policy" if key == "to" else key for key in wanted} == needed, verb


# --- the fields of replies


def bodies() -> dict[str, str]:
    """Function of the driver → its body, without comments."""
    text = "\n".join(bare(path.read_text()) for path in sorted((C / "drive").glob("*.c")))
    return dict(re.findall(r"^[\w *]*?\b(\w+)\([^;{]*\)\n\{\n(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL))


def said(function: str, known: Mapping[str, str]) -> set[str]:
    """The numbers that a function puts into a reply, itself or by a function that it calls."""
    body = known[function]
    found = set(re.findall(r'\breply(?:_signed|_bool)?\("(\w+)"', body))
    for table in re.findall(r"\breply\((\w+)\[i\]", body):
        found |= set(re.findall(r'"(\w+)"', body.split(f"{table}[] = {{")[1].split("}")[0]))
    for called in ("reap", "reply_faults", "reply_pagemap", "walk_idle"):
        if called != function and f"{called}(" in body:
            found |= said(called, known)
    return found


def replies() -> dict[str, set[str]]:
    """Verb of the driver → the numbers in its reply."""
    known = bodies()
    tables = "\n".join(
        body
        for path in sorted((C / "drive").glob("*.c"))
        for body in re.findall(r"struct verb \w+\[\] = \{(.*?)\{ NULL", path.read_text(), re.DOTALL)
    )
    return {verb: said(run, known) for verb, run in re.findall(r'\{ "([^"]+)", (run_\w+)', tables)}


def test_the_fields_that_a_step_may_expect_are_those_that_the_driver_replies() -> None:
    driver = replies()
    # The host counts the results in a selftest's output. A wait's reply is its thread's.
    driver["selftest"] |= {"pass", "fail", "skip"}
    spoken = {verb: driver[verb] for verb in vocabulary.VERBS if verb not in RENAMED | {"wait"}}

    assert {verb: fields for verb, fields in spoken.items() if fields} == vocabulary.REPLIES
    assert driver["pages"] >= vocabulary.PAGEMAP
    assert said("obey", bodies()) == vocabulary.REPLIED
    assert said("run_again", bodies()) == {vocabulary.TIMES}


def test_a_pressure_replies_what_its_last_command_does() -> None:
    arguments = {"subscriber": "s", "callbacks": 1, "size": "1M", "limit": "1M", "buffer": "b"}
    driver = replies() | {"advise": set()}  # busy comes only with soft-offline
    last = {name: one.commands(arguments)[-1].split()[0] for name, one in pressures.catalogue().items()}

    assert {name: driver[verb] for name, verb in last.items()} == vocabulary.PRESSED


def test_the_fields_that_are_no_numbers_are_known() -> None:
    text = "".join(bodies().values())

    assert set(re.findall(r'\breply_bool\("(\w+)"', text)) == vocabulary.TRUTHS


def test_a_scenario_can_expect_a_finding_of_each_oracle() -> None:
    assert sorted(oracles.catalogue()) == sorted(vocabulary.ORACLES)


def test_each_verb_of_the_driver_is_spoken_by_a_scenario_or_by_the_harness() -> None:
    plans = [planning.plan(scenario) for scenario in catalogue.scenarios().values()]
    lines = [command.text for plan in plans for command in plan]
    arguments = {"subscriber": "s", "callbacks": 1, "size": "1M", "limit": "1M", "buffer": "b"}
    lines += [line for pressure in pressures.catalogue().values() for line in pressure.commands(arguments)]
    said = {next(word for word in line.split() if word[0] not in "@&+") for line in lines}

    assert sorted(set(driver_verbs()) - said - set(vocabulary.VERBS)) == ["quit"]


def test_a_command_says_what_its_line_does() -> None:
    """Verb and target of a step come from the scenario, those of set-up and tear-down from the line."""
    for scenario in catalogue.scenarios().values():
        for command in planning.plan(scenario):
            if command.step:
                step = scenario.steps[command.step - 1]
                assert (command.verb, command.target, command.process) == (step.verb, step.target, step.process)
            else:
                assert command.text.split()[0] == command.verb
                assert command.target in command.text


def test_a_wait_is_no_longer_than_the_module_takes() -> None:
    assert defines(UAPI, "NH_WAIT_MS_")["MAX"] == vocabulary.WAIT_MS_MAX


# --- the structure of the C


def calls(folder: str) -> dict[str, set[str]]:
    """File → the files whose functions it calls."""
    text = {path.name: bare(path.read_text()) for path in sorted((C / folder).glob("*.c"))}
    # At the beginning of a line, and not static: a definition that other files can call.
    home = {
        name: file
        for file, body in text.items()
        for name in re.findall(r"^(?!static|extern|\t|#)[\w *]+?\b(\w+)\([^;]*?\)\n\{", body, re.MULTILINE)
    }
    return {
        file: {home[word] for word in re.findall(r"\b(\w+)\b", body) if word in home} - {file}
        for file, body in text.items()
    }


@pytest.mark.parametrize("folder", ["notifier_hold", "init"])
def test_the_files_of_a_program_call_each_other_in_no_circle(folder: str) -> None:
    graph = calls(folder)

    assert sum(map(len, graph.values())) > len(graph)
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(graph)


# --- the checks themselves


def test_a_value_that_one_side_gained_is_noticed() -> None:
    gained = UAPI.replace("\tNH_FLUSH,", "\tNH_FLUSH,\n\tNH_NEWER,")

    assert enum(gained, "nh_kind")["NH_NEWER"] == max(Kind) + 1
    assert defines(UAPI + "\n#define NH_CTX_NEWER 0x100\n", "NH_CTX_")["NEWER"] == 0x100
