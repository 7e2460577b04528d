# SPDX-License-Identifier: GPL-2.0-only
"""A driver that a program gives one step at a time; what it was told is a scenario, and is judged like one."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import pressures
from harness.guest.agent import GuestProcess, GuestTimeout
from harness.guest.machine import Machine
from harness.host import workspace
from harness.host.clock import Deadline, scaled
from harness.model import event, scenario, strict_yaml
from harness.model.contract import Contract
from harness.model.errors import GuestLost, UsageError
from harness.model.event import EventLog
from harness.model.instrument import Instrument
from harness.model.recording import Answer, Ended, Recording
from harness.model.scenario import Scenario
from harness.model.shape import MachineShape
from harness.oracles import exercised
from harness.report.text import plain
from harness.run import planning
from harness.run.planning import Command

# How long a step may take on an ordinary machine, in seconds.
STEP_LIMIT_S = 10.0
# What the loader of scenarios says about a place in a file that nobody wrote.
_PLACE = re.compile(r"^test\.yaml:\d+: ")
_FILE = Path("test.yaml")


class StepFailed(OSError):
    """The guest driver could not do a step; errno and text are the driver's."""


class Driven:
    """The guest driver of one machine, from its first step to its end."""

    def __init__(
        self, machine: Machine, instrument: Instrument, shape: MachineShape, slowdown: float, folder: Path
    ) -> None:
        """folder: the machine's, whose name the scenario gets."""
        self._machine = machine
        self._instrument = instrument
        self._shape = shape
        self._slowdown = slowdown
        self._folder = folder
        # The file that a user could have written instead.
        self.document: dict[str, Any] = {
            "summary": f"What {folder.name} did.",
            "buffers": {},
            "subscribers": {},
            "steps": [],
            "exercised": {"callbacks": 1},
        }
        if shape != MachineShape():
            self.document["shape"] = {
                "memory": f"{shape.memory_mib}M",
                "cpus": shape.cpus,
                "swap": f"{shape.swap_mib}M",
                "cmdline": " ".join(shape.cmdline),
            }
        self.answers: list[Answer] = []
        # The step that was never answered, and why what the steps made could not be taken down; empty as a rule.
        self.late = self.broken = ""
        self._done: set[str] = set()
        self._ended = False

    @property
    def scenario(self) -> Scenario:
        """What was done so far; nothing is demanded of it, which is the test's own to do."""
        if not self.document["steps"]:
            return scenario.unwritten(self._folder.name, self._shape)
        return dataclasses.replace(self._read(self.document), shape=self._shape, exercised={})

    @property
    def events(self) -> Path:
        """Where the event log is kept at the end."""
        return self._folder.parent / "events" / f"{self._folder.name}.bin"

    @property
    def kept(self) -> Path:
        """Where the scenario is kept at the end."""
        return self._folder / "scenario.yaml"

    @cached_property
    def _process(self) -> GuestProcess:
        return self._machine.agent.start(self._instrument.driver)

    def do(self, step: Mapping[str, Any], section: str = "", name: str = "", entry: Any = None) -> Mapping[str, Any]:
        """Do one step, in the words of a scenario, and return the reply.

        section, name, entry: the buffer or the subscriber that it makes. Raises
        UsageError for words that no scenario could have, StepFailed, and
        GuestTimeout for a step that takes too long.
        """
        if self._ended:
            raise UsageError("the test has ended: its guest is judged, and does nothing more")
        wanted = copy.deepcopy(self.document)
        if section:
            wanted[section][name] = entry
        wanted["steps"].append(dict(step))
        told = self._read(wanted)
        commands = [
            *(command for command in planning.set_up(told) if command.text not in self._done),
            *planning.step_commands(told, len(told.steps), told.steps[-1]),
        ]
        reply: Mapping[str, Any] = {}
        for command in commands:
            reply = self._give(command)
            if reply.get("ok") is not True:
                said = plain(f"{command.text}: {reply.get('error', 'failed')}")
                raise StepFailed(numbers(reply).get("errno", 0), said)
            if not command.step:
                self._done.add(command.text)
        self.document = wanted
        return reply

    def observe(self) -> Recording:
        """A recording of what happened so far."""
        if "_process" in self.__dict__ and not self._ended:
            self._give(Command(0, "vmstat", "", "vmstat"))
        log = self._machine.agent.read_file(self._instrument.log, scaled(STEP_LIMIT_S, self._slowdown))
        return self._recording(event.parse(log))

    def counted(self) -> Mapping[str, int]:
        """The counters of a scenario, so far."""
        return exercised.count(self.observe())

    def finish(self) -> None:
        """Take down what the steps made, and keep the log and the scenario; once. Raises GuestTimeout and GuestLost."""
        if self._ended or "_process" not in self.__dict__:
            return
        self._ended = True
        if self.late:
            return
        grace_s = scaled(STEP_LIMIT_S, self._slowdown)
        try:
            for command in (planning.left_off(self.scenario), *planning.take_down(self.scenario)):
                reply = self._give(command)
                if reply.get("ok") is not True:
                    self.broken = self.broken or f"{command.text}: {reply.get('error', 'failed')}"
            self._process.send("quit\n")
        except (StepFailed, BrokenPipeError) as ended:
            # What killed it, its kernel says.
            self.broken = self.broken or str(ended)
        self._process.wait(grace_s)
        self._keep(grace_s)

    def write(self) -> Path | None:
        """Keep what was done as a scenario's file; None when nothing was."""
        if not self.document["steps"]:
            return None
        with workspace.space(self.kept):
            workspace.write_atomic(self.kept, strict_yaml.dump(self.document))
        return self.kept

    def recorded(self) -> Recording:
        """What happened, from the log that was kept."""
        return self._recording(event.read(self.events))

    def _keep(self, grace_s: float) -> None:
        self.events.parent.mkdir(parents=True, exist_ok=True)
        part = self.events.with_suffix(".part")
        try:
            with workspace.space(part), part.open("wb") as file:
                self._machine.agent.read_file(self._instrument.log, grace_s, file)
            part.replace(self.events)
        finally:
            part.unlink(missing_ok=True)

    def _recording(self, log: EventLog) -> Recording:
        vmstat = [numbers(answer.reply) for answer in self.answers if answer.verb == "vmstat"]
        module = [numbers(answer.reply) for answer in self.answers if answer.verb == "log"]
        return Recording(
            scenario=self.scenario,
            ended=Ended.COMPLETE,
            detail="",
            seconds=0.0,
            answers=self.answers,
            before=vmstat[0] if vmstat else {},
            after=vmstat[-1] if vmstat else {},
            module=module[-1] if module else {},
            events=log,
            console=b"",
            slowdown=self._slowdown,
            contract=Contract.MAYFAIL,
        )

    def _read(self, document: dict[str, Any]) -> Scenario:
        keys = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
        try:
            (told,) = scenario.load(_FILE, keys, strict_yaml.dump(document))
        except UsageError as error:
            raise UsageError(_PLACE.sub("", error.message), error.hint) from None
        return scenario.renamed(told, self._folder.name)

    def _give(self, command: Command) -> Mapping[str, Any]:
        """Send one line and wait for its reply."""
        began, deadline = time.monotonic(), Deadline.scaled(STEP_LIMIT_S, self._slowdown)
        if self.late:
            raise GuestTimeout(f"{command.text!r} is not tried: {self.late}")
        try:
            self._process.send(command.text + "\n", deadline)
            reply = self._reply(command, deadline)
        except GuestTimeout:
            self.late = f"{command.text!r}: no answer after {deadline}"
            raise GuestTimeout(self.late) from None
        self.answers.append(command.answered(reply, time.monotonic() - began))
        return reply

    def _reply(self, command: Command, deadline: Deadline) -> Mapping[str, Any]:
        for line in self._process.lines(deadline):
            reply = parsed(line)
            if reply is None:
                raise GuestLost(f"the guest driver answered {line[:80]!r} to {command.text!r}")
            if "progress" not in reply:
                return reply
        raise StepFailed(0, f"the guest driver ended at {command.text!r}: {self._process.stderr[-200:]!r}")


def parsed(line: str) -> dict[str, Any] | None:
    """A reply of the driver; None for what is none, or could not be written down as text."""
    try:
        reply = json.loads(line)
        json.dumps(reply, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None


def numbers(reply: Mapping[str, Any]) -> dict[str, int]:
    """The counters in a reply."""
    return {key: value for key, value in reply.items() if isinstance(value, int) and not isinstance(value, bool)}
