# SPDX-License-Identifier: GPL-2.0-only
"""Judging 10⁶ events: fast, linear, in flat memory. A real recording whose callbacks are repeated, read and judged."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import meter
from benchmarks.bench import Bench
from benchmarks.figure import AtMost, AtMostTimes, Row, Side
from benchmarks.repeated import repeated
from harness.host import process, workspace
from harness.model import event, recording
from harness.model.errors import MachineError
from harness.report import manifest

_SCENARIO = "memcg-eagain"
_FEW, _MANY = 100_000, 1_000_000

ROWS = (
    Row("judging 10⁶ events, read from disk", "many_s", AtMost(1.5)),
    Row("the same, linear: an event of 10⁶ against one of 10⁵", "many_event_ns", AtMostTimes(1.2), "few_event_ns"),
    Row("the same, flat memory: peak RSS for 10⁶ against 10⁵ events", "many_peak_rss_mib", AtMostTimes(1.25),
        "few_peak_rss_mib"),
    Row("harness judge of 10⁶ events, as a whole process, reports written", "command_s"),
)  # fmt: skip

# The pipeline's work on a recording, timed without the start of Python.
_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from harness.run import judging
from harness.variants import catalogue
from harness.model import recording
scenario = catalogue.choose([sys.argv[2]])[0]
began = time.monotonic()
result = judging.judge(recording.read(Path(sys.argv[1]) / scenario.name, scenario))
spent_s = time.monotonic() - began
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([spent_s, peak_mib, result.outcome.value, result.exercised["callbacks"]]))
"""


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Runs of 10⁵ and 10⁶ events on disk, each judged in a process of its own."""
    bench.lab()
    real = bench.folder() / "run"
    cost = bench.harness("run", "--accel", bench.accel, "--out", str(real), _SCENARIO)
    if cost.status:
        raise MachineError(f"harness run {_SCENARIO}: status {cost.status}: {cost.stderr.strip()[-300:]}")
    runs = {count: _blown_up(real, bench.folder() / "run", count) for count in (_FEW, _MANY)}

    def side(name: str, count: int) -> Mapping[str, float]:
        argv = [sys.executable, "-c", _PROGRAM, str(runs[count]), _SCENARIO]
        cost = meter.metered(argv, timeout_s=600, cwd=workspace.ROOT, env=process.environment())
        if cost.status:
            raise MachineError(f"judging {count} events: {cost.stderr.strip()[-300:]}")
        spent_s, peak_mib, outcome, callbacks = json.loads(cost.stdout)
        # A fifth are starts for the subscriber's own buffer; the others are ends, or for the pages that make pressure.
        if outcome != "pass" or callbacks < count // 10:
            raise MachineError(f"{count} events were judged as {outcome} with {callbacks} callbacks")
        held = len(event.read(runs[count] / "events" / f"{_SCENARIO}.bin"))
        return {
            f"{name}_s": spent_s,
            f"{name}_event_ns": spent_s / held * 1e9,
            f"{name}_peak_rss_mib": peak_mib,
            f"{name}_events": held,
        }

    def command() -> Mapping[str, float]:
        cost = bench.harness("judge", str(runs[_MANY]))
        if cost.status:
            raise MachineError(f"harness judge: status {cost.status}: {cost.stderr.strip()[-300:]}")
        return {
            **cost.quantities("command"),
            "events_mib": meter.disk_mib(runs[_MANY] / "events" / f"{_SCENARIO}.bin"),
        }

    yield [lambda: side("few", _FEW), lambda: side("many", _MANY), command]


def _blown_up(run: Path, target: Path, count: int) -> Path:
    shutil.copytree(run, target)
    log = target / "events" / f"{_SCENARIO}.bin"
    log.write_bytes(repeated(log.read_bytes(), count))
    # The log is not the run's own any more, and what is recorded of the run's own would call it damaged.
    (target / manifest.NAME).unlink()
    record = target / _SCENARIO / "record.json"
    document = json.loads(record.read_text(encoding="utf-8"))
    document["digests"] = recording.digests(record.parent, _SCENARIO)
    record.write_text(json.dumps(document), encoding="utf-8")
    return target
