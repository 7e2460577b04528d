# SPDX-License-Identifier: GPL-2.0-only
"""The kernel has nothing to complain about, but for the complaints that other oracles judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.console import find, noise
from harness.model.recording import Recording
from harness.model.verdict import Finding
from harness.oracles import mayfail_gate

NAME = "clean-log"

# A finding shows this many reports in full; the rest are counted.
SHOWN = 3


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each title that is not the MAYFAIL gate's or no-hang's to judge, nor known noise."""
    excuses = noise.Excuses(noise.load())
    reports = [
        report
        for report in find(recording.console_head)
        if report.type != "HANG" and not mayfail_gate.owns(report) and excuses.excuse(report) is None
    ]
    counts = Counter(report.title for report in reports)
    for title, count in counts.most_common():
        same = [report for report in reports if report.title == title][:SHOWN]
        shown = "\n\n".join(f"console line {report.line}:\n{report.text}" for report in same)
        yield Finding(NAME, title, f"{count} times\n{shown}")
    if not recording.console_lines or not any("Linux version" in line for line in recording.console_lines):
        yield Finding(NAME, "the kernel's log never reached us", "no 'Linux version' line on the console")
