# SPDX-License-Identifier: GPL-2.0-only
"""From bytes of a console to records of the kernel's log.

A serial console carries what printk sent, and whatever programs wrote to the
same terminal. A record begins with what CONFIG_PRINTK_TIME and
CONFIG_PRINTK_CALLER put before it; a record that begins in the middle
of a line was written into the line of a program, or tore another record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# How much of a line is looked at, in bytes. printk's own limit is 1024 for a record
# (CONSOLE_LOG_MAX in kernel/printk/internal.h is 1024, 2048 with extended headers).
LINE_LIMIT = 4096

# Terminal control: CSI and OSC sequences, and single escapes such as ESC 7 and ESC ( B.
_ANSI = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{0,2}[0-~])")

# "[    1.234567][  T123] ": print_time() and print_caller() of kernel/printk/printk.c.
# The level ("<4>") is there with console_msg_format=syslog; vendors add "[4: task: 123]" (Android) after the time.
_STAMP = r"\[ {0,8}\d{1,9}\.\d{6}\](?:\[ {0,8}[TC]\d{1,9}\])?"
_RECORD = re.compile(
    r"(?:<\d{1,3}>)?\[ {0,8}(?P<time>\d{1,9}\.\d{1,9})\](?:\[ {0,8}(?P<caller>[TC]\d{1,9})\])?"
    r"(?: \[\d{1,3}: {0,20}[^\]\[]{1,24}: {0,8}\d{1,7}\])? ?"
)
# A whole line that is a record, for many at once; vendors' are left to _RECORD.
_ROW = re.compile(r"(?m)^(?:<\d{1,3}>)?\[ {0,8}(\d{1,9}\.\d{1,9})\](?:\[ {0,8}([TC]\d{1,9})\])?(?! \[\d{1,3}: ) ?(.*)")
_MIDDLE = re.compile(rf"(?:<\d{{1,3}}>)?{_STAMP}(?= )")
# Every stamp holds one; sought first, because it begins with a letter that is rare.
_CLOCK = re.compile(r"\[ {0,8}\d{1,9}\.\d{6}\]")
# A log that went through syslogd, journald or dmesg -T.
_SYSLOG = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,64} kernel: ")
_CALENDAR = re.compile(r"(?:kern {0,2}:\w{1,8} {0,8}: )?\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ")
_LEVEL = re.compile(r"<\d{1,3}>")


class Record(NamedTuple):
    """A record of the kernel's log, or a line of something else.

    line: from 1. caller: "T123" (task) or "C1" (CPU, in interrupt), empty where the kernel does not say.
    time_s: since boot, None where the kernel does not say. stamped: printk's prefix was there.
    """

    line: int
    text: str
    caller: str = ""
    time_s: float | None = None

    @property
    def stamped(self) -> bool:
        """The line is from the kernel, by its prefix."""
        return self.time_s is not None


def decode(raw: bytes) -> str:
    """A line as text: no terminal control, no line end, bytes that are not UTF-8 escaped."""
    raw = raw[:LINE_LIMIT]
    if b"\x1b" in raw:
        raw = _ANSI.sub(b"", raw)
    return raw.decode("utf-8", errors="backslashreplace").rstrip("\r\n").replace("\r", "").replace("\0", "")


def rows(raw: bytes) -> Sequence[tuple[str, str, str]]:
    """Time, caller and text of whole lines when each is one record without oddities, as nearly all are; else nothing.

    This is what decode() and records() find, line by line, at several times the cost.
    """
    if not raw.endswith(b"\n") or not raw.isascii() or b"\x1b" in raw or b"\0" in raw:
        return ()
    text = raw.decode("ascii").replace("\r", "")
    found: list[tuple[str, str, str]] = _ROW.findall(text)
    count = text.count("\n")
    # A stamp in the middle is one more.
    if len(found) != count or len(_CLOCK.findall(text)) > count or max(map(len, text.split("\n"))) > LINE_LIMIT:
        return ()
    return found


def records(text: str, line: int) -> Sequence[Record]:
    """The records in one line of the console: mostly one, more where a line was torn."""
    match = _RECORD.match(text)
    if match is not None and text.find("[", match.end()) < 0:
        time, caller = match.groups()
        return (Record(line, text[match.end() :], caller or "", float(time)),)
    if match is None:
        text = _unwrap(text)
        match = _RECORD.match(text)
    found = []
    if match is None:
        first = _middle(text, 0)
        if first is None:
            return (Record(line, _LEVEL.sub("", text, count=1) if text.startswith("<") else text),)
        if first.start():
            found.append(Record(line, text[: first.start()]))
        match = _RECORD.match(text, first.start())
    while match is not None:
        following = _middle(text, match.end())
        end = following.start() if following is not None else len(text)
        found.append(Record(line, text[match.end() : end], match["caller"] or "", float(match["time"])))
        match = _RECORD.match(text, end) if following is not None else None
    return found


def _middle(text: str, start: int) -> re.Match[str] | None:
    return _MIDDLE.search(text, start) if _CLOCK.search(text, start) is not None else None


def _unwrap(text: str) -> str:
    """The line without what syslogd or dmesg -T put before the record."""
    if text[:1].isalpha() or (text.startswith("[") and text[1:2].isalpha()):
        for pattern in (_SYSLOG, _CALENDAR):
            match = pattern.match(text)
            if match is not None:
                return text[match.end() :]
    return text
