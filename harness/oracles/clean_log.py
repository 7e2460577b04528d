# SPDX-License-Identifier: GPL-2.0-only
"""The kernel has nothing to complain about, but for the complaints that other oracles judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from harness.console import find, noise
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.oracles import mayfail_gate

NAME = "clean-log"
# The console, its marks, and how the guest ended.
CONSOLE_ONLY = True

# A finding shows this many reports in full; the rest are counted.
SHOWN = 3

# kernel/printk/printk.c: the console was slower than what was logged, and the ring went round.
_DROPPED = re.compile(rb"\*\* (\d{1,9}) printk messages dropped \*\*")


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each title that is not the MAYFAIL gate's or no-hang's to judge, nor known noise."""
    excuses = noise.Excuses(noise.load())
    gate = set(mayfail_gate.owned(recording))
    reports = [
        report
        for report in find(recording.console_head)
        if report.type != "HANG" and report not in gate and excuses.excuse(report) is None
    ]
    counts = Counter(report.title for report in reports)
    for title, count in counts.most_common():
        same = [report for report in reports if report.title == title][:SHOWN]
        shown = "\n\n".join(f"console line {report.line}:\n{report.text}" for report in same)
        yield Finding(NAME, title, f"{count} times\n{shown}")
    yield from _heard(recording)


def _heard(recording: Recording) -> Iterator[Finding]:
    """A log that did not reach us is no clean one: its first line, and the marks at begin and end, must be there."""
    console = recording.console_head
    if b"Linux version" not in console:
        yield Finding(NAME, "the kernel's log never reached us", "no 'Linux version' line on the console")
        return
    dropped = sum(int(match[1]) for match in _DROPPED.finditer(console))
    lost = recording.module.get("kmsg_lost", 0)
    if dropped or lost:
        yield Finding(
            NAME,
            "the kernel's log lost records",
            f"{dropped} by the console's word, {lost} numbers missing in /dev/kmsg: what they said is not known",
        )
    if recording.ended is Ended.COMPLETE and len(recording.console) == len(console):
        for mark in ("begin", "end"):
            if f"{mark}:{recording.scenario.name}".encode() not in console:
                yield Finding(
                    NAME,
                    f"the mark at the {mark} of the scenario did not come back on the console",
                    f"no line with '{mark}:{recording.scenario.name}', which the guest wrote to /dev/kmsg",
                )
