# SPDX-License-Identifier: GPL-2.0-only
"""What the text of a record is by itself, wherever it stands."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from harness.console import patterns
from harness.console.pattern import LIMIT, Frame, Pattern

REBOOT = Pattern(
    name="reboot",
    type="REBOOT",
    needles=("Linux version ", "Booting the kernel.", "SeaBIOS (version ", "U-Boot ", "coreboot-"),
    regex=r"Linux version \d+\.\d+|Booting the kernel\.|SeaBIOS \(version |U-Boot (?:SPL )?20\d\d|coreboot-\d",
    title="unexpected kernel reboot",
    frame=Frame.NONE,
    sample="Linux version 6.12.117 (h@h) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0)",
    near_miss="Linux version is unknown",
)

# journalctl writes them between boots.
MARKS = ("-- Boot ", "-- Reboot --")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
# How a line that belongs to a report begins; what follows the last such line is not shown as the report's text.
_BODY = re.compile(
    r"[ \t]{0,40}(?:"
    + "|".join((
        r"\? |\[<|[\w.]{1,120} \([\w./+-]{1,120}:\d",  # frames
        r"[^+]{0,60}\+0x[0-9a-f]{1,8}/0x|[^\[]{1,160}\[inline\]|</?[A-Z#]",  # frames
        r"Call |stack backtrace|backtrace:|NMI backtrace|Sending NMI|--- interrupt|task[: ]|comm |Showing",
        r"[ER]?[A-Z0-9]{2}: |[A-Z]{3}: |[a-z]{1,3}\d{0,2} ?: |NIP|LR |Code: |CPU: |\[[c-f][0-9a-f]{15}\]",  # registers
        r"[0-9a-f]{8,16}[ :]|>?[0-9a-f]{2} [0-9a-f]{2} |hex dump",  # memory
        r"Hardware name|Modules linked|Workqueue: |Kernel Offset|=====|-----|---\[ |\*\*\*",
        r"#\d|-> #|\d+ locks? held|other info|irq event|hard|soft|Possible|May be",  # lockdep
        r"Read of|Write of|Allocated|Freed|The buggy|Memory state|page:|INFO: |rcu: ",
    ))
    + ")"
)  # fmt: skip


class Sight(NamedTuple):
    """What is seen in a record's text.

    found: how it opens a report, and where. reboot: a kernel or a firmware begins. end: the report ends here.
    """

    found: tuple[Pattern, int] | None
    reboot: bool
    end: bool


NOTHING = Sight(None, reboot=False, end=False)


def sight(text: str) -> Sight:
    """What is seen in a text of any length."""
    return _sight(text[:LIMIT].strip(" \t"))


# A kernel that reports in a loop says nearly the same each time.
@lru_cache(maxsize=4096)
def _sight(text: str) -> Sight:
    found = patterns.match(text)
    reboot = text[:1] in "LBSUc" and REBOOT.compiled.match(text) is not None
    end = text.startswith("---[ end ") and _END.match(text) is not None
    return Sight(found, reboot, end) if found is not None or reboot or end or text.startswith(MARKS) else NOTHING


def belongs(text: str) -> bool:
    """The line is of a report."""
    return _BODY.match(text) is not None


def others(text: str) -> bool:
    """The stack of somebody else follows, who has nothing to do with the lines before: that of any task, or any CPU."""
    return text.lstrip(" \t").startswith(("task:", "sysrq: ", "SysRq : ", "NMI backtrace", "Sending NMI", "Task dump"))


def own(text: str) -> bool:
    """What dump_stack() writes first."""
    return text.lstrip(" \t").startswith(("CPU: ", "Call Trace:", "Call trace:", "Backtrace:"))


def trace(text: str) -> bool:
    """Frames follow."""
    return "race:" in text and text.lstrip(" \t").startswith(("Call Trace:", "Call trace:", "Backtrace:"))
