# SPDX-License-Identifier: GPL-2.0-only
"""Recorded against unrecorded callbacks, by the scenario's own time: the time of its commands in the guest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.figure import AtMostTimes, Row, Side
from harness.host.clock import scaled
from harness.model.errors import MachineError
from harness.model.recording import Ended
from harness.run.drive import Listener, drive
from harness.variants import catalogue

ROWS = (
    Row("recorded against unrecorded callbacks, the scenario's own time", "recorded_s", AtMostTimes(1.05),
        "unrecorded_s"),
)  # fmt: skip
# A scenario's time varies by more than the difference that is measured.
ROUNDS = 11

_SCENARIO = "memcg-eagain"
_RECORD = "/sys/module/notifier_hold/parameters/record"


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """The same scenario, with every callback recorded or with none."""
    lab = bench.lab()
    scenario = catalogue.choose([_SCENARIO])[0]

    def side(name: str, record: bool) -> Mapping[str, float]:
        listener = Listener()
        folder = bench.folder()
        log = folder / "events.bin"
        with lab.machine(scenario.shape, folder, listener) as machine:
            try:
                machine.agent.write_file(_RECORD, str(int(record)))
            except OSError as error:
                raise MachineError(f"{_RECORD}: {error}") from error
            limit_s = scaled(scenario.timeout_s, machine.pace().slowdown)
            recording = drive(scenario, machine, lab.instrument, listener, limit_s, log)
        events = len(recording.events)
        if recording.ended is not Ended.COMPLETE or record != (events >= scenario.exercised["callbacks"]):
            raise MachineError(f"{name}: ended {recording.ended.value} with {events} events")
        return {f"{name}_s": sum(answer.seconds for answer in recording.answers), f"{name}_events": events}

    yield [lambda: side("recorded", True), lambda: side("unrecorded", False)]
