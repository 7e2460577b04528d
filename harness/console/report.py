# SPDX-License-Identifier: GPL-2.0-only
"""One report of the kernel, as found on a console."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What the kernel reported, and where the report is on the console.

    type: the class, by the names of patterns/ (HANG, WARNING, LOCKDEP, KASAN-…).
    title: one line that is the same for the same bug: no address, pid, offset, CPU or time in it.
    line: where the report begins, counted from 1.
    frame: the first function that tells this bug from others; empty where the report names none.
    function, site: what a WARN or BUG says of itself: its function, and file:line in the source.
    torn: a part that a whole report has is missing.
    text: the report's lines, without what stands before each of them.
    count: how often it was found: a log may be dumped again. boot: in which boot of the machine, from 1.
    wrapping: what stands before its first line, as in "clock+kernel+stamp"; "none" where nothing does.
    """

    type: str
    title: str
    line: int
    torn: bool = False
    frame: str = ""
    function: str = ""
    site: str = ""
    task: str = ""
    pid: int | None = None
    cpu: int | None = None
    text: str = ""
    count: int = field(default=1, compare=False)
    boot: int = 1
    wrapping: str = "none"
