# SPDX-License-Identifier: GPL-2.0-only
"""A scenario as a person would tell it: what the guest is, what happens step by step, and what that proves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.model.scenario import Scenario, Step

# A verb of vocabulary.VERBS as a sentence. Its names stand for the step's target and arguments; an argument that the
# sentence does not name follows in the words of _MORE.
SENTENCES: Mapping[str, str] = {
    "map": "map {target}",
    "unmap": "unmap {target}",
    "touch": "fill {target} with content of its own",
    "user-write": "the process writes to {target}",
    "user-check": "the process checks the content of {target}",
    "advise": "madvise({target}, {advice})",
    "protect": "mprotect({target}, {prot})",
    "replace": "map fresh memory over {target}",
    "move": "mremap({target})",
    "lock": "mlock({target})",
    "unlock": "munlock({target})",
    "sync": "write {target} back to its file and wait (msync)",
    "migrate": "migrate the pages of {target} to other places in memory",
    "write-protect": "write-protect {target} with userfaultfd",
    "write-unprotect": "take userfaultfd's write protection from {target}",
    "move-pages": "move the pages of {target} into {into} (UFFDIO_MOVE)",
    "idle": "mark the pages of {target} idle (page_idle)",
    "idle-check": "count the pages of {target} that are still idle",
    "scan": "PAGEMAP_SCAN {target}, which write-protects it",
    "subscribe": "register {target}",
    "unsubscribe": "unregister {target}",
    "policy": "from now on, {target} answers by the policy {to}",
    "hold": "{target} takes references on its pages ({how})",
    "release": "{target} gives its references back",
    "device-write": "as a device, {target} writes to its pages",
    "device-check": "as a device, {target} checks the content of its pages",
    "device-move": "a driver moves the pages of {target} to others (migrate_vma_setup())",
    "pages": "look at the pages of {target}",
    "same": "compare the pages that {target} holds with those that the page table has",
    "stats": "read what {target} has counted",
    "until": "wait until {target} has counted {min} of {counter}",
    "read-begin": "mmu_interval_read_begin() on {target}",
    "fence": "the fence of {target} becomes {state}",
    "build": "a driver builds the object of {target}, and holds its lock meanwhile",
    "mirror": "{target} takes the page table over",
    "compare": "compare what {target} mirrors with the page table",
    "pressure": "memory pressure: {target}",
    "cgroup": "make the cgroup {target}",
    "limit": "set memory.{target} to {value}",
    "cgroup-stat": "read the counters of the cgroup {target}",
    "write": "write {value} to {target}",
    "await": "wait until {target} tells enough",
    "fork": "fork the child process {target}",
    "end": "the child process {target} exits",
    "kill": "the child process {target} is killed",
    "mrelease": "the child process {target} is killed, and its memory reaped (process_mrelease)",
    "wait": "wait for the thread {target}",
    "asleep": "wait until the thread {target} sleeps",
    "interrupt": "send a signal to the thread {target}",
    "insmod": "load the kernel's module {target}",
    "selftest": "run the kernel's own test {target}, each of its processes with a subscriber",
}
_MORE: Mapping[str, str] = {
    "seed": "content {}",
    "key": "as {}",
    "stride": "one page in {}",
    "offset": "from {} on",
    "size": "{} of it",
    "min": "at least {}",
    "how": "references by {}",
    "access": "for {}",
    "errno": "with {}",
    "args": "arguments {}",
    "apart": "to another place",
    "shift": "shifted by {}",
    "locked": "under the lock",
    "together": "with another",
}
# Those that are so or not so.
YES = ("apart", "locked", "together")
_NAMED = re.compile(r"{([a-z_]+)}")


def told(step: Step) -> str:
    """A step in words: who does what, and what must come of it."""
    sentence = SENTENCES[step.verb]
    said = sentence.format_map(_Words(step))
    named = _NAMED.findall(sentence)
    rest = {key: value for key, value in step.arguments.items() if key not in named and (value or key not in YES)}
    more = {} if step.verb == "pressure" else _MORE
    if rest:
        said += ": " + ", ".join(more.get(key, f"{key} {{}}").format(value) for key, value in rest.items())
    if step.process:
        said = f"in {step.process}: {said}"
    if step.background:
        again = ", again and again" if step.again else ""
        said = f"meanwhile, the thread {step.background}{again}: {said}"
    if step.expect:
        said += f"; must be: {', '.join(_wanted(field, value) for field, value in step.expect.items())}"
    return said


class _Words(dict[str, Any]):
    """The words of a step, for the names in its sentence."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.arguments)
        self["target"] = step.target

    def __missing__(self, key: str) -> str:
        return "…"


def _wanted(field: str, value: Any) -> str:
    text = str(value)
    return f"{field} {text}" if text[:1] in "<>" else f"{field} = {text}"


def chapters(scenario: Scenario) -> Iterator[tuple[str, list[str]]]:
    """Heading → lines: the guest, its memory and subscribers, the steps, and what must have happened."""
    shape = scenario.shape
    guest = [f"{shape.memory_mib} MiB, {shape.cpus} CPUs, {shape.swap_mib} MiB of swap, {shape.board}"]
    if shape.cmdline:
        guest.append(f"kernel parameters: {' '.join(shape.cmdline)}")
    if scenario.cgroup:
        guest.append(
            "in a cgroup: " + ", ".join(f"memory.{key} {value >> 20}M" for key, value in scenario.cgroup.items())
        )
    needs = scenario.needs
    for text, names in (("needs", needs.options), ("not with", needs.without)):
        if names:
            guest.append(f"{text} {', '.join(f'CONFIG_{name}' for name in names)}")
    if needs.version or needs.until:
        guest.append(f"Linux {needs.version or 'any'} {f'until {needs.until}' if needs.until else 'or later'}")
    if needs.contract:
        guest.append(f"for the contract {needs.contract} alone")
    yield "guest", guest
    if scenario.buffers:
        yield (
            "memory",
            [
                f"{one.name}: {one.kind}, {one.size_bytes >> 10} KiB{', huge pages' if one.thp else ''}"
                for one in scenario.buffers.values()
            ],
        )
    if scenario.subscribers:
        yield "subscribers", [_subscriber(scenario, name) for name in scenario.subscribers]
    if scenario.steps:
        yield "steps", [f"{number:2}. {told(step)}" for number, step in enumerate(scenario.steps, 1)]
    proves = [f"at least {least} of {counter}, or it is inconclusive" for counter, least in scenario.exercised.items()]
    proves += [f"then {least} of {counter}, or it fails" for counter, least in scenario.owed.items()]
    proves += [f"no {counter}, or it fails" for counter in scenario.never]
    proves += [f"the oracle {one.oracle} must find: {one.pattern}" for one in scenario.expected]
    proves += [f"the oracle {one.oracle} may find: {one.pattern}" for one in scenario.tolerated]
    yield "must happen", proves


def _subscriber(scenario: Scenario, name: str) -> str:
    one = scenario.subscribers[name]
    said = f"{name}: on {one.buffer}, interface {one.interface}, policy {one.policy}"
    more = {
        "errno": one.errno, "when": one.when, "wait_ms": one.wait_ms or "", "from": one.offset or "",
        "end_ms": one.end_ms or "", "accessed": "" if one.accessed == "unasked" else one.accessed,
    }  # fmt: skip
    said += "".join(f", {key} {value}" for key, value in more.items() if value)
    return said if one.end else f"{said}, without invalidate_range_end"
