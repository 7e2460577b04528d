# SPDX-License-Identifier: GPL-2.0-only
"""Nothing hangs: every step answers, every callback returns, no wait in a callback runs into its bound.

A guest that stopped answering is a failure of its kernel here: SILENT,
NO_PROGRESS and PANIC are recorded only on evidence from the guest or from QEMU's
vCPUs. A QEMU that died is an error of the harness, and leaves no recording.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator

from harness import console
from harness.model.event import OWNER_IS_CURRENT, PF_KSWAPD, Kind, Policy, Tally
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

NAME = "no-hang"
# It reads the console, its marks, and how the guest ended.
CONSOLE_ONLY = True

_ENDINGS = {
    Ended.NO_PROGRESS: "the guest is alive, but a step never ended",
    Ended.SILENT: "the guest no longer answers",
    Ended.SPINNING: "the guest spins: it no longer answers, and its CPUs never rest",
    Ended.PANIC: "the kernel panicked",
    Ended.RESET: "the guest reset itself without a panic",
    Ended.NO_BOOT: "the kernel did not boot",
}

_CALLBACKS = {
    Kind.START: "invalidate_range_start",
    Kind.END: "invalidate_range_end",
    Kind.INVALIDATE: "an interval's invalidate",
    Kind.FLUSH: "arch_invalidate_secondary_tlbs",
}


def judge(recording: Recording) -> Iterator[Finding]:
    """A guest that hung or died, callbacks that never returned, waits that timed out, the kernel's own hang reports."""
    if recording.ended in _ENDINGS:
        evidence = "\n".join(part for part in (recording.detail, recording.postmortem.cause) if part)
        where = next((wait.where[0] for wait in recording.postmortem.waits if wait.where), "")
        yield Finding(NAME, _ENDINGS[recording.ended] + (f": a task waits in {where}" if where else ""), evidence)
    yield from _stuck(recording)
    yield from _waits(recording)
    reports = [report for report in console.find(recording.console_head) if report.type == "HANG"]
    for title, count in Counter(report.title for report in reports).items():
        first = next(report for report in reports if report.title == title)
        yield Finding(NAME, title, f"{count} times, first at console line {first.line}\n{first.text}")


def _stuck(recording: Recording) -> Iterator[Finding]:
    stuck = {kind: Tally() for kind in _CALLBACKS}
    for chunk in recording.events.chunks():
        open_ones = chunk["seq_exit"] == 0
        for kind, tally in stuck.items():
            tally.add(chunk, chunk.of(kind) & open_ones)
    for kind, tally in stuck.items():
        if tally.first:
            yield Finding(
                NAME,
                f"{_CALLBACKS[kind]} of subscriber {recording.subscriber(tally.first.subscriber)} never returned",
                f"{tally.count} callbacks without a return, the first is event {tally.first.seq} "
                f"of pid {tally.first.pid}",
            )


def _waits(recording: Recording) -> Iterator[Finding]:
    late = [entry for entry in recording.events.of(Kind.WAIT) if entry.result == -errno.ETIMEDOUT]
    if not late:
        return
    own = [entry for entry in late if entry.context & OWNER_IS_CURRENT]
    worst = max(own or late, key=lambda entry: entry.duration_ns)
    what = "fence" if worst.policy in (Policy.WAIT_FENCE, Policy.MAYFAIL_FENCE) else "mutex"
    holder = "that its own task holds" if own else "that another task holds"
    where = "kswapd" if worst.pf_flags & PF_KSWAPD else "direct reclaim" if worst.strict_direct else "a callback"
    yield Finding(
        NAME,
        f"subscriber {recording.subscriber(worst.subscriber)} waited in {where} for a {what} {holder}, until its bound",
        f"{len(late)} waits timed out ({len(own)} of them for the waiter itself); "
        f"the longest{' of those' if own else ''} is event {worst.seq}: "
        f"{worst.duration_ns / 1e6:.0f} ms in pid {worst.pid}",
    )
