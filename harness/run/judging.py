# SPDX-License-Identifier: GPL-2.0-only
"""From a recording to a scenario's result: the oracles judge, expected findings are set aside, one outcome remains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from harness import oracles
from harness.console import noise, scan
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.oracles import exercised, latency

_EXERCISED = "exercised"


def judge(recording: Recording, names: Collection[str] | None = None) -> ScenarioResult:
    """Any finding that the scenario does not expect → fail; too little evidence → inconclusive; else pass.

    A finding that the scenario expects, and that did not come though all was done to provoke it, is a failure, too.
    names: the oracles that are asked, None for all.
    """
    findings = oracles.judge(recording, names)
    missing, unexpected = _set_off(recording, findings)
    if exercised.enough(recording):
        unexpected, missing = [*unexpected, *missing], []
    else:
        missing = [Finding(_EXERCISED, finding.summary, finding.evidence) for finding in missing]
    short = [finding for finding in unexpected if finding.oracle == _EXERCISED]
    wrong = [finding for finding in unexpected if finding.oracle != _EXERCISED]
    if wrong:
        # The cause of a finding can be the step that was not done: a fence that nobody opened.
        outcome, reason = Outcome.FAIL, recording.detail if recording.ended is Ended.STEP_FAILED else ""
    elif recording.ended is Ended.STEP_FAILED:
        outcome, reason = Outcome.INCONCLUSIVE, recording.detail
    elif short or missing:
        outcome, reason = Outcome.INCONCLUSIVE, "; ".join(f.evidence.splitlines()[0] for f in [*short, *missing])
    else:
        outcome, reason = Outcome.PASS, ""
    return ScenarioResult(
        name=recording.scenario.name,
        outcome=outcome,
        # That a broken kernel did not exercise something is no news; the counters show it anyway.
        findings=tuple(wrong) or (*short, *missing),
        exercised=exercised.count(recording),
        seconds=recording.seconds,
        loop_ms=recording.loop_ms,
        reason=reason,
        latency_us=latency.measure(recording),
        selftests=recording.selftests,
    )


def known_noise(folder: Path, scenarios: Iterable[str]) -> tuple[str, ...]:
    """What the list of known noise excused in a run, and which of its entries have expired or matched nothing.

    No entry excuses a hang, which the no-hang oracle judges.
    """
    entries = noise.load()
    if not entries:
        return ()
    excuses = noise.Excuses(entries)
    for console in (folder / name / "console.log" for name in scenarios):
        if console.exists():
            with console.open("rb") as stream:
                for report in scan(stream):
                    if report.type != "HANG":
                        excuses.excuse(report)
    return (*excuses.excused(), *excuses.complaints())


def _set_off(recording: Recording, findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Split into expectations that no finding met, and findings that no expectation covers."""
    scenario = recording.scenario
    rest = list(findings)
    missing = []
    for expected in (*scenario.expected, *scenario.tolerated):
        met = [finding for finding in rest if expected.met_by(finding.oracle, finding.summary)]
        if not met and expected in scenario.expected:
            text = f"{expected.oracle} was to find {expected.pattern!r} and did not"
            missing.append(Finding(expected.oracle, "what this scenario provokes did not follow", text))
        rest = [finding for finding in rest if finding not in met]
    return missing, rest
