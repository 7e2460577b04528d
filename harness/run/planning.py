# SPDX-License-Identifier: GPL-2.0-only
"""From a scenario to the lines that the guest driver reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import pressures
from harness.model.recording import Answer
from harness.model.scenario import Scenario, Step

CGROUP = "work"


@dataclass(frozen=True)
class Command:
    """A line for the guest driver, and what its reply must say; the rest is as in model/recording.py Answer."""

    step: int
    verb: str
    target: str
    text: str
    expect: Mapping[str, Any] = field(default_factory=dict)
    process: str = ""

    def answered(self, reply: Mapping[str, Any], seconds: float) -> Answer:
        """The answer to it: the driver's reply, after so many seconds."""
        return Answer(self.step, self.verb, self.target, self.process, self.text, reply, self.expect, seconds)


def plan(scenario: Scenario) -> list[Command]:
    """The driver's commands: set-up, steps, tear-down.

    Buffers are mapped and subscribers registered first, unless a step does
    it; what a step did not take down is taken down at the end: threads, child
    processes, subscribers, and then their memory. What a child process made
    goes with it.
    """
    commands = set_up(scenario)
    for number, step in enumerate(scenario.steps, 1):
        commands += step_commands(scenario, number, step)
    return [*commands, *take_down(scenario)]


def set_up(scenario: Scenario) -> list[Command]:
    """What comes before the steps."""
    made = {(step.verb, step.target) for step in scenario.steps}
    commands = [_own("mark", f"begin:{scenario.name}", f"text=begin:{scenario.name}"), _own("vmstat")]
    if scenario.cgroup:
        limits = [f"{key}={value}" for key, value in scenario.cgroup.items()]
        commands.append(_own("cgroup", CGROUP, f"name={CGROUP}", *limits))
    if any(buffer.kind == "file" for buffer in scenario.buffers.values()):
        commands.append(_own("filesystem"))
    if any(buffer.thp for buffer in scenario.buffers.values()):
        path = "/sys/kernel/mm/transparent_hugepage/enabled"
        commands.append(_own("write", path, f"path={path} value=madvise"))
    commands += [_own("map", name, _map(scenario, name)) for name in scenario.buffers if ("map", name) not in made]
    return commands + [
        _own("subscribe", name, _subscribe(scenario, name))
        for name in scenario.subscribers
        if ("subscribe", name) not in made
    ]


def left_off(scenario: Scenario) -> Command:
    """A mark behind the last step, for who looks at the log of a driver that was given one step at a time."""
    return _own("mark", f"done:{scenario.name}", f"text=done:{scenario.name}")


def take_down(scenario: Scenario) -> list[Command]:
    """What comes after the steps."""
    steps = scenario.steps
    foreign = {(step.verb, step.target) for step in steps if step.process}
    gone = {(step.verb, step.target) for step in steps if not step.process and "offset" not in step.arguments}
    buffers = [name for name in scenario.buffers if ("map", name) not in foreign and ("unmap", name) not in gone]
    threads = dict.fromkeys(step.background for step in steps if step.background and not step.process)
    commands = [_own("wait", name, f"name={name}") for name in threads if ("wait", name) not in gone]
    processes = [target for verb, target in gone if verb == "fork"]
    commands += [
        _own("end", name, f"name={name}")
        for name in processes
        if not gone & {("end", name), ("kill", name), ("mrelease", name)}
    ]
    commands += [
        _own(verb, name, f"name={name}")
        for name in scenario.subscribers
        if ("subscribe", name) not in foreign and ("unsubscribe", name) not in gone
        for verb in ("release", "unsubscribe")
    ]
    commands += [_own("unmap", name, f"name={name}") for name in buffers]
    return [*commands, _own("vmstat"), _own("log"), _own("mark", f"end:{scenario.name}", f"text=end:{scenario.name}")]


def _own(verb: str, target: str = "", *words: str) -> Command:
    """A command that belongs to no step."""
    return Command(0, verb, target, " ".join([verb, *words]))


# Where the files of buffers are: on the driver's file system, and on a tmpfs.
_FILES = {"file": "/mnt", "code": "/tmp", "private": "/tmp"}  # noqa: S108 - of the guest


def _map(scenario: Scenario, name: str) -> str:
    buffer = scenario.buffers[name]
    path = f" path={_FILES[buffer.kind]}/{name}" if buffer.kind in _FILES else ""
    return f"name={name} kind={buffer.kind} size={buffer.size_bytes} thp={int(buffer.thp)}{path}"


def _subscribe(scenario: Scenario, name: str) -> str:
    subscriber = scenario.subscribers[name]
    words = [
        f"name={name} buffer={subscriber.buffer} policy={subscriber.policy}",
        f"interface={subscriber.interface} end={int(subscriber.end)}",
    ]
    if subscriber.accessed != "unasked":
        words.append(f"accessed={subscriber.accessed}")
    if subscriber.errno:
        words.append(f"errno={subscriber.errno}")
    if subscriber.when:
        words.append(f"when={subscriber.when}")
    if subscriber.offset:
        words.append(f"offset={subscriber.offset}")
    if subscriber.end_ms:
        words.append(f"end_ms={subscriber.end_ms}")
    if subscriber.wait_ms:
        words.append(f"wait_ms={subscriber.wait_ms}")
    return " ".join(words)


def step_commands(scenario: Scenario, number: int, step: Step) -> Iterator[Command]:
    """The lines of a step; only the last runs in the background or repeatedly, and has the expected reply."""
    where = f"@{step.process} " if step.process else ""
    *before, last = _lines(scenario, step)
    for line in before:
        yield Command(number, step.verb, step.target, where + line, process=step.process)
    thread = f"&{step.background} " if step.background else ""
    again = "+ " if step.again else ""
    yield Command(number, step.verb, step.target, where + thread + again + last, step.expect, step.process)


def _lines(scenario: Scenario, step: Step) -> Sequence[str]:
    words = [_argument(key, value) for key, value in step.arguments.items()]
    match step.verb:
        case "map":
            return [f"map {_map(scenario, step.target)}"]
        case "subscribe":
            return [f"subscribe {_subscribe(scenario, step.target)}"]
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


def _argument(key: str, value: Any) -> str:
    """An argument as the driver reads it: words in quotes, a truth as a number."""
    if isinstance(value, bool):
        return f"{key}={int(value)}"
    return f'{key}="{value}"' if " " in str(value) else f"{key}={value}"


def module(name: str) -> str:
    """The file of a module that the tree names like lib/test_hmm."""
    return f"{name.rpartition('/')[2]}.ko"
