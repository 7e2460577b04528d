# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log holds no complaint, except those that other oracles judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from harness.console import find, noise
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.oracles import mayfail_gate

NAME = "clean-log"
# It reads the console, its marks, and how the guest ended.
CONSOLE_ONLY = True

# A finding shows this many reports in full; the rest are counted.
SHOWN = 3

# kernel/printk/printk.c: the console was slower than the logging, and the ring buffer wrapped around.
_DROPPED = re.compile(rb"\*\* (\d{1,9}) printk messages dropped \*\*")


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each title that mayfail-gate and no-hang do not judge and that is not known noise."""
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
    """A log that did not arrive is not clean: its first line, and the marks at its begin and end, must be there."""
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
            f"{dropped} dropped on the console, {lost} numbers missing in /dev/kmsg: their content is unknown",
        )
    if len(recording.console) > len(console):
        yield Finding(
            NAME,
            "the console is too long to be judged",
            f"{len(recording.console)} bytes were kept, the first {len(console)} are looked at (limit)",
        )
    elif recording.ended is Ended.COMPLETE:
        for mark in ("begin", "end"):
            text = _mark(recording, mark)
            if text.encode() not in console:
                yield Finding(
                    NAME,
                    f"the mark at the {mark} of the scenario did not come back on the console",
                    f"no line with '{text}', which the guest wrote to /dev/kmsg",
                )


def _mark(recording: Recording, which: str) -> str:
    """What stands on the console at the begin or the end: it holds a word that nothing in the guest knew before."""
    said = f"{which}:{recording.scenario.name}"
    # A guest that nobody drives may be judged several times; the last mark is this time's.
    for answer in reversed(recording.answers):
        mark = answer.reply.get("mark")
        if answer.verb == "mark" and isinstance(mark, str) and mark.startswith(said):
            return mark
    # Of an earlier version.
    return said
