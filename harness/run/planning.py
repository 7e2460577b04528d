# SPDX-License-Identifier: GPL-2.0-only
"""From a scenario to the lines that the guest driver reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import pressures
from harness.model.scenario import Scenario, Step

CGROUP = "work"


@dataclass(frozen=True)
class Command:
    """A line for the guest driver, its step (0: set-up or tear-down), and what its reply must say."""

    step: int
    text: str
    expect: Mapping[str, Any] = field(default_factory=dict)


def plan(scenario: Scenario) -> list[Command]:
    """The driver's commands: set-up, steps, tear-down.

    Buffers are mapped and subscribers registered first, unless a step does
    it; what a step did not take down is taken down at the end: threads, child
    processes, subscribers, and then their memory. What a child process made
    goes with it.
    """
    steps = scenario.steps
    made = {(step.verb, step.target) for step in steps}
    foreign = {(step.verb, step.target) for step in steps if step.process}
    gone = {(step.verb, step.target) for step in steps if not step.process and "offset" not in step.arguments}
    buffers = [name for name in scenario.buffers if ("map", name) not in foreign and ("unmap", name) not in gone]
    lines = [f"mark text=begin:{scenario.name}", "vmstat"]
    if scenario.cgroup:
        lines.append(" ".join([f"cgroup name={CGROUP}", *(f"{key}={value}" for key, value in scenario.cgroup.items())]))
    if any(buffer.kind == "file" for buffer in scenario.buffers.values()):
        lines.append("filesystem")
    if any(buffer.thp for buffer in scenario.buffers.values()):
        lines.append("write path=/sys/kernel/mm/transparent_hugepage/enabled value=madvise")
    lines += [_map(scenario, name) for name in scenario.buffers if ("map", name) not in made]
    lines += [_subscribe(scenario, name) for name in scenario.subscribers if ("subscribe", name) not in made]
    commands = [Command(0, line) for line in lines]
    for number, step in enumerate(steps, 1):
        commands += _step(scenario, number, step)
    threads = dict.fromkeys(step.background for step in steps if step.background and not step.process)
    lines = [f"wait name={name}" for name in threads if ("wait", name) not in gone]
    processes = [target for verb, target in gone if verb == "fork"]
    lines += [
        f"end name={name}" for name in processes if not gone & {("end", name), ("kill", name), ("mrelease", name)}
    ]
    lines += [
        f"{verb} name={name}"
        for name in scenario.subscribers
        if ("subscribe", name) not in foreign and ("unsubscribe", name) not in gone
        for verb in ("release", "unsubscribe")
    ]
    lines += [f"unmap name={name}" for name in buffers]
    lines += ["vmstat", "log", f"mark text=end:{scenario.name}"]
    return [*commands, *(Command(0, line) for line in lines)]


# Where the files of buffers are: on the driver's file system, and on a tmpfs.
_FILES = {"file": "/mnt", "code": "/tmp"}  # noqa: S108 - of the guest


def _map(scenario: Scenario, name: str) -> str:
    buffer = scenario.buffers[name]
    path = f" path={_FILES[buffer.kind]}/{name}" if buffer.kind in _FILES else ""
    return f"map name={name} kind={buffer.kind} size={buffer.size_bytes} thp={int(buffer.thp)}{path}"


def _subscribe(scenario: Scenario, name: str) -> str:
    subscriber = scenario.subscribers[name]
    words = [
        f"subscribe name={name} buffer={subscriber.buffer} policy={subscriber.policy}",
        f"interface={subscriber.interface} end={int(subscriber.end)}",
    ]
    if subscriber.errno:
        words.append(f"errno={subscriber.errno}")
    if subscriber.when:
        words.append(f"when={subscriber.when}")
    if subscriber.offset:
        words.append(f"offset={subscriber.offset}")
    if subscriber.wait_ms:
        words.append(f"wait_ms={subscriber.wait_ms}")
    return " ".join(words)


def _step(scenario: Scenario, number: int, step: Step) -> Iterator[Command]:
    """The lines of a step; only the last is done in the background, or again, and must say what is expected."""
    where = f"@{step.process} " if step.process else ""
    *before, last = _lines(scenario, step)
    for line in before:
        yield Command(number, where + line)
    thread = f"&{step.background} " if step.background else ""
    again = "+ " if step.again else ""
    yield Command(number, where + thread + again + last, step.expect)


def _lines(scenario: Scenario, step: Step) -> Sequence[str]:
    words = [f'{key}="{value}"' if " " in str(value) else f"{key}={value}" for key, value in step.arguments.items()]
    match step.verb:
        case "map":
            return [_map(scenario, step.target)]
        case "subscribe":
            return [_subscribe(scenario, step.target)]
        case "limit":
            return [" ".join([f"cgroup-set name={CGROUP} key={step.target}", *words])]
        case "pressure":
            return pressures.catalogue()[step.target].commands(step.arguments)
        case "write" | "await":
            return [" ".join([step.verb, f"path={step.target}", *words])]
        case "policy":
            rest = [word for word in words if not word.startswith("to=")]
            return [" ".join([f"policy name={step.target} policy={step.arguments['to']}", *rest])]
        case "insmod":
            return [f"insmod name={module(step.target)}"]
    return [" ".join([step.verb, f"name={step.target}", *words])]


def module(name: str) -> str:
    """The file of a module that the tree knows as lib/test_hmm."""
    return f"{name.rpartition('/')[2]}.ko"
