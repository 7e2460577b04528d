# SPDX-License-Identifier: GPL-2.0-only
"""harness judge: judge finished runs again from their directories alone, and write their reports again."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import _options

if TYPE_CHECKING:
    from harness.model.run import RunVerdict
    from harness.model.verdict import ScenarioResult
    from harness.report.detail import Details
    from harness.run.resuming import Unfinished


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.runs(parser)
    json(parser)


def json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="the verdict documents on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Judge each run again; the exit code is that of the worst."""
    from harness.model.verdict import worst
    from harness.report import document, lines, manifest
    from harness.run import resuming
    from harness.terminal import Terminal

    verdicts = []
    with Terminal() as terminal:
        for folder in arguments.runs:
            run = resuming.read(folder)
            verdict = judge(run)
            terminal.lines([*manifest.doubts(folder), *run.told])
            for result in verdict.scenarios:
                terminal.lines(lines.result(result, terminal.colour))
            terminal.lines(lines.summary(verdict, str(folder), terminal.colour))
            terminal.lines(resuming.hint(folder, verdict))
            if arguments.json:
                print(document.render(verdict), end="")
            verdicts.append(verdict.outcome)
    return worst(verdicts).exit_code


def judge(run: Unfinished) -> RunVerdict:
    """Judge every scenario anew from its recording; one without a recording keeps its result in verdict.json."""
    from harness.report.detail import Details
    from harness.report.write import rewrite
    from harness.run import judging

    folder, verdict = run.folder, run.verdict
    details = Details()
    results = tuple(_judged(folder / result.name, result, details) for result in verdict.scenarios)
    noise = judging.known_noise(folder, [result.name for result in results])
    verdict = dataclasses.replace(verdict, scenarios=results, noise=noise)
    rewrite(verdict, folder, details)
    return verdict


def _judged(place: Path, before: ScenarioResult, details: Details) -> ScenarioResult:
    from harness.model import recording as recordings
    from harness.run import earlier, judging

    if not (place / "record.json").exists():
        return before
    recording = recordings.read(place, earlier.scenario_of(place, before.name))
    result = judging.judge(recording)
    details.add(recording, result)
    # The time of each phase, the number of attempts and the tape are no judgement: they are kept.
    return dataclasses.replace(result, phases=before.phases, attempts=before.attempts, tape=before.tape)
