# SPDX-License-Identifier: GPL-2.0-only
"""What one scenario left behind: all that oracles may read, from a folder of a run.

The folder holds scenario.yaml, record.json (steps, replies, how it ended),
console.log (raw bytes of the kernel's console); the events are in
../events/NAME.bin. A recording can be judged on any machine, as often as wanted.
record.json is written last and has the digests of the other two: when it is
there, the recording is whole, or it is damaged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.model import documents, event, files, ktap
from harness.model.contract import Contract
from harness.model.errors import MachineError, unreadable
from harness.model.postmortem import PostMortem, Wait
from harness.model.scenario import Scenario

# Oracles look at this much of a console; what a flood wrote after that is only counted.
CONSOLE_LIMIT_BYTES = 32 << 20
# More than a run keeps of a console.
_CONSOLE_FILE_LIMIT_BYTES = 4 * CONSOLE_LIMIT_BYTES
# What linux_banner says (init/version.c).
_VERSION = re.compile(rb"Linux version (\d{1,4})\.(\d{1,4})")
# The name of a program, in a reply that a guest may have made up.
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class Ended(StrEnum):
    """How the guest's part of a scenario ended."""

    COMPLETE = "complete"  # every step answered
    EARLY = "early"  # stopped by us: enough reports on the console
    STEP_FAILED = "step-failed"  # a step could not be done; the rest was not tried
    NO_PROGRESS = "no-progress"  # the guest is alive, a step never answered
    SILENT = "silent"  # the guest no longer answers at all
    SPINNING = "spinning"  # the same, and its CPUs never rest
    PANIC = "panic"  # the kernel said so
    RESET = "reset"  # it reset itself without a word, as after a triple fault
    NO_BOOT = "no-boot"  # the kernel never reached init


@dataclass(frozen=True)
class Answer:
    """What the guest driver was asked to do, and its reply.

    step: the number of the scenario's step, from 1; 0 for set-up and tear-down.
    verb, target: as the scenario says them. process: the child process that did
    it, empty for the driver. command: the line that the driver read.
    """

    step: int
    verb: str
    target: str
    process: str
    command: str
    reply: Mapping[str, Any]
    expect: Mapping[str, Any]
    seconds: float

    @property
    def ok(self) -> bool:
        """The driver did it."""
        return self.reply.get("ok") is True

    @property
    def doing(self) -> str:
        """What was done, in the scenario's words."""
        return " ".join([self.verb, self.target, *(["in", self.process] if self.process else [])]).strip()

    @classmethod
    def restore(cls, entry: Mapping[str, Any]) -> Answer:
        """An entry of record.json. In an earlier version it had only the command, whose words tell the rest."""
        words = entry["command"].split()
        told: dict[str, Any] = {
            "verb": next((word for word in words if word[0] not in "@&+"), ""),
            "target": next((word.partition("=")[2] for word in words if word.startswith("name=")), ""),
            "process": words[0].removeprefix("@") if words[:1] and words[0].startswith("@") else "",
        }
        return cls(**told | {name: entry[name] for name in cls.__dataclass_fields__ if name in entry})


@dataclass(frozen=True)
class Recording:
    """One scenario, as it happened."""

    scenario: Scenario
    ended: Ended
    detail: str
    seconds: float
    answers: Sequence[Answer]
    before: Mapping[str, int]
    after: Mapping[str, int]
    module: Mapping[str, int]
    events: event.EventLog
    console: bytes
    # Why the guest did not go on, read from outside.
    postmortem: PostMortem = field(default_factory=PostMortem)
    # The time from the first suspicion until the cause was known; part of `seconds`.
    postmortem_s: float = 0.0
    # The slow-down of the host against the one that limits were written on: measured seconds are judged by it.
    slowdown: float = 1.0
    # What a loop of arithmetic took in the guest: how fast the host was, whatever the kernel does. 0: not measured.
    loop_ms: float = 0.0
    # The one that the kernel is judged by.
    contract: Contract = Contract.MAYFAIL

    @cached_property
    def console_head(self) -> bytes:
        """The part of the console that oracles look at."""
        return self.console[:CONSOLE_LIMIT_BYTES]

    @cached_property
    def console_lines(self) -> list[str]:
        """The console as text, one entry for each line; bytes that are not UTF-8 are escaped."""
        text = self.console_head.decode("utf-8", errors="backslashreplace")
        return text.replace("\r\n", "\n").split("\n")

    @cached_property
    def version(self) -> tuple[int, int] | None:
        """The kernel's version, as (6, 12), from the first line of its console; None when the line is not there."""
        said = _VERSION.search(self.console_head)
        return (int(said[1]), int(said[2])) if said else None

    @cached_property
    def worked_out(self) -> dict[str, Any]:
        """What one oracle worked out and others use, by its name, so that it is worked out once."""
        return {}

    def moved(self, counter: str) -> int:
        """By how much a counter of /proc/vmstat moved over the scenario."""
        return self.after.get(counter, 0) - self.before.get(counter, 0)

    @property
    def selftests(self) -> Mapping[str, ktap.Results]:
        """Program of the kernel's selftests → the results of its tests."""
        found = {}
        for answer in self.answers:
            program = answer.reply.get("program")
            if isinstance(program, str) and _PROGRAM.fullmatch(program):
                found[program] = ktap.restore(answer.reply)
        return found

    def subscriber(self, number: int) -> str:
        """The scenario's name of the module's subscriber `number`."""
        for answer in self.answers:
            if answer.verb == "subscribe" and answer.reply.get("subscriber") == number:
                return answer.target
        return f"#{number}"


# A scenario that ended so has an event log: what was asked of its guest last was the log, and the guest gave it.
_LOGGED = (Ended.COMPLETE, Ended.STEP_FAILED)


def read(folder: Path, scenario: Scenario) -> Recording:
    """Read a recording back from the folder that `document` was written to.

    Raises UsageError for what is no recording, and MachineError for one that is damaged.
    """
    try:
        content = documents.read(folder / "record.json", "record")
        _verify(folder, scenario.name, Ended(content["ended"]), content.get("digests"))
        answers = [Answer.restore(entry) for entry in content["answers"]]
        return Recording(
            scenario=scenario,
            ended=Ended(content["ended"]),
            detail=content["detail"],
            seconds=content["seconds"],
            answers=answers,
            before=content["before"],
            after=content["after"],
            module=content["module"],
            events=event.read(folder.parent / "events" / f"{scenario.name}.bin"),
            console=files.read(folder / "console.log", _CONSOLE_FILE_LIMIT_BYTES),
            postmortem=PostMortem(
                content.get("postmortem", ""),
                content.get("circles", ()),
                tuple(Wait(wait["pid"], wait["task"], tuple(wait["where"])) for wait in content.get("waits", ())),
            ),
            postmortem_s=content.get("postmortem_s", 0.0),
            slowdown=content.get("slowdown", 1.0),
            loop_ms=content.get("loop_ms", 0.0),
            contract=Contract(content.get("contract", Contract.MAYFAIL)),
        )
    except (OSError, ValueError) as error:
        hint = "name a folder that harness run wrote"
        raise unreadable(error, f"{folder}: not a recording of a scenario: {error}", hint) from None


def digests(folder: Path, name: str) -> dict[str, str]:
    """The SHA-256 of the files that a recording consists of beside record.json: what it is → digest."""
    found = {}
    for what, place in _parts(folder, name).items():
        if files.is_below(folder.parent, place):
            with (folder.parent / place).open("rb") as stream:
                found[what] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _parts(folder: Path, name: str) -> dict[str, str]:
    return {"console": f"{folder.name}/console.log", "events": f"events/{name}.bin"}


def _verify(folder: Path, name: str, ended: Ended, written: Mapping[str, str] | None) -> None:
    """Raise MachineError for a part that is not what it was; an earlier version wrote no digests."""
    found = digests(folder, name)
    if written is None:
        written = {"console": "", **({"events": ""} if ended in _LOGGED else {}), **found}
    for what, place in _parts(folder, name).items():
        if written.get(what) != found.get(what):
            fault = "its SHA-256 is not the one in record.json" if what in found else "is missing"
            raise MachineError(f"{folder.parent / place}: is damaged: {fault}", "copy the run again")


def settled(recording: Recording) -> Recording:
    """A recording whose times are as its document has them, so that it is judged again by the same ones."""
    return dataclasses.replace(
        recording,
        seconds=round(recording.seconds, 3),
        answers=[dataclasses.replace(answer, seconds=round(answer.seconds, 4)) for answer in recording.answers],
        postmortem_s=round(recording.postmortem_s, 3),
        slowdown=round(recording.slowdown, 2),
        loop_ms=round(recording.loop_ms, 3),
    )


def document(recording: Recording, digests: Mapping[str, str] | None = None) -> str:
    """The text of record.json. digests: of the files beside it, once nobody writes to them any more."""
    recording = settled(recording)
    return json.dumps(
        {
            "ended": recording.ended.value,
            "detail": recording.detail,
            "seconds": recording.seconds,
            "answers": [
                {
                    "step": answer.step,
                    "verb": answer.verb,
                    "target": answer.target,
                    "process": answer.process,
                    "command": answer.command,
                    "reply": dict(answer.reply),
                    "expect": dict(answer.expect),
                    "seconds": answer.seconds,
                }
                for answer in recording.answers
            ],
            "before": dict(recording.before),
            "after": dict(recording.after),
            "module": dict(recording.module),
            "postmortem": recording.postmortem.cause,
            "circles": [list(circle) for circle in recording.postmortem.circles],
            "waits": [
                {"pid": wait.pid, "task": wait.task, "where": list(wait.where)} for wait in recording.postmortem.waits
            ],
            "postmortem_s": recording.postmortem_s,
            "slowdown": recording.slowdown,
            "loop_ms": recording.loop_ms,
            "contract": recording.contract.value,
            **({} if digests is None else {"digests": dict(digests)}),
        },
        indent=1,
    )


def no_boot(scenario: Scenario, reason: str, console: bytes, seconds: float) -> Recording:
    """The recording of a kernel that never reached init."""
    return Recording(scenario, Ended.NO_BOOT, reason, seconds, (), {}, {}, {}, event.EMPTY, console)
