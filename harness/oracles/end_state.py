# SPDX-License-Identifier: GPL-2.0-only
"""The kernel trusts itself as much at the end as at the beginning: lockdep is still on, no taint is new.

The other oracles judge what a report on the console explains; this oracle judges
what happened without a report, or with a report that no pattern knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.console import find
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "end-state"
# It reads the kernel's own state, and the console.
CONSOLE_ONLY = True

# Documentation/admin-guide/tainted-kernels.rst: the bits that tell of a fault, not of how the kernel was built or used.
_TAINTS = {
    4: "M, machine check",
    5: "B, bad page",
    7: "D, died",
    9: "W, warned",
    14: "L, soft lockup",
}


# Reports that do not explain why lockdep is off: a WARN leaves it on, and a hang taints, if at all, as a soft lockup.
_NO_REASON_FOR_LOCKDEP = {"WARNING", "HANG"}
_SOFT_LOCKUP = 14


def judge(recording: Recording) -> Iterator[Finding]:
    """Lockdep that switched itself off, and new taints, where nothing on the console says why."""
    types = {report.type for report in find(recording.console_head)}
    on, still_on = recording.before.get("debug_locks"), recording.after.get("debug_locks")
    if on == 0:
        yield Finding(NAME, "lockdep was off before the scenario began", "debug_locks is 0")
    elif on == 1 and still_on == 0 and not types - _NO_REASON_FOR_LOCKDEP:
        yield Finding(
            NAME,
            "lockdep switched itself off",
            "debug_locks went from 1 to 0, and no report on the console says why: nothing was checked from then on",
        )
    before, after = recording.before.get("taint", 0), recording.after.get("taint", 0)
    for bit, meaning in _TAINTS.items():
        explained = "HANG" in types if bit == _SOFT_LOCKUP else bool(types - {"HANG"})
        if (after & ~before) >> bit & 1 and not explained:
            yield Finding(
                NAME,
                f"the kernel became tainted: {meaning}",
                f"taint was {before:#x}, is {after:#x}, and no report on the console says why",
            )
