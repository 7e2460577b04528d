# SPDX-License-Identifier: GPL-2.0-only
"""From bytes of a console to records of the kernel's log.

A serial console carries what printk sent, and whatever programs wrote to the
same terminal. A record begins with what CONFIG_PRINTK_TIME and
CONFIG_PRINTK_CALLER put before it; a record that begins in the middle
of a line was written into the line of a program, or tore another record.
What other tools put before records, or in place of the stamp, is in prefix.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.console import patterns, prefix
from harness.console.sight import belongs

# How much of a line is looked at, in bytes. printk's own limit is 1024 for a record
# (CONSOLE_LOG_MAX in kernel/printk/internal.h is 1024, 2048 with extended headers).
LINE_LIMIT = 4096

# Terminal control: CSI and OSC sequences, and single escapes such as ESC 7 and ESC ( B.
_ANSI = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{0,2}[0-~])")

# "[    1.234567][  T123] ": print_time() and print_caller() of kernel/printk/printk.c.
# The level ("<4>") is there with console_msg_format=syslog.
_STAMP = r"\[ {0,8}\d{1,9}\.\d{6}\](?:\[ {0,8}[TC]\d{1,9}\])?"
# A whole line that is a record, for many at once; all others are left to Reader.
_RAW = re.compile(r"(?m)^\[ {0,8}(\d{1,9}\.\d{1,9})\](?:\[ {0,8}([TC]\d{1,9})\])? ?(.*)")
# What vendors and tools put behind the stamp.
_BEHIND = re.compile(
    r"\] {1,8}(?:[A-Z]?\[\d{1,3}[:,]|\[ {0,8}[TC]\d|\[ {0,12}\+?\d{1,9}\.|\[< {0,12}\d{1,9}\.|"
    r"\(\d{1,3}\)\[|c\d{1,2} )"
    r"|\](?:[A-Z]?\[\d{1,3}[:,]|\.?\(\d{1,3}\)\[|\[pid:)"
)
RAW_NAMES = (("stamp",), ("stamp", "caller"))
_MIDDLE = re.compile(rf"(?:<\d{{1,3}}>)?{_STAMP}(?= )")
# Every stamp holds one; sought first, because it begins with a letter that is rare.
_CLOCK = re.compile(r"\[ {0,8}\d{1,9}\.\d{6}\]")
# How syslogd writes a line's end within a record.
_NEWLINE = "#012"
_BOX_END = re.compile(r"[ \t]{0,200}[|\u2502\u2503\u2551\u2506]$")
_BORDER = re.compile(r"[\u2500-\u257f \t]{8,}$")
# What /dev/kmsg tells of a record behind its text.
_DICTIONARY = re.compile(r" [A-Z_]{1,40}=")
# Before a report's first line: white space, or what a tool put there. It ends with a sign, or what is torn does.
_ENDS = frozenset(" \t:|>]);,")


# Addresses, which are part of nothing that stands before a record.
_ADDRESS = re.compile(r"\b(?=\d{0,15}[a-f])[0-9a-f]{16}\b|(?<=0x)[0-9a-f]{5,16}\b")
# So many lines are remembered.
_BARE_LINES = 4096

_DATES = frozenset(("clock", "date", "unix"))


class Record(NamedTuple):
    """A record of the kernel's log, or a line of something else.

    line: from 1. caller: "T123" (task) or "C1" (CPU, in interrupt), empty where the kernel does not say.
    time_s: since boot, None where the kernel does not say. names: the elements of what stood before it (prefix.py).
    """

    line: int
    text: str
    caller: str = ""
    time_s: float | None = None
    names: tuple[str, ...] = ()

    @property
    def stamped(self) -> bool:
        """The line is from the kernel, by its prefix."""
        return self.time_s is not None

    @property
    def kernel(self) -> bool:
        """The kernel wrote it, by what stands before it."""
        return not prefix.KERNELS.isdisjoint(self.names)

    @property
    def program(self) -> bool:
        """A program wrote it, by what stands before it."""
        return not prefix.PROGRAMS.isdisjoint(self.names)

    @property
    def journal(self) -> bool:
        """It comes from what journald or syslogd keeps over reboots."""
        return "kernel" in self.names and not _DATES.isdisjoint(self.names)


def decode(raw: bytes) -> str:
    """A line as text: no terminal control, no line end, bytes that are not UTF-8 escaped."""
    raw = raw[:LINE_LIMIT]
    if raw.isascii() and (text := raw.decode("ascii").rstrip("\r\n")).isprintable():
        return text
    if b"\x1b" in raw:
        raw = _ANSI.sub(b"", raw)
    return raw.decode("utf-8", errors="backslashreplace").rstrip("\r\n").replace("\r", "").replace("\0", "")


def rows(text: str, count: int) -> Sequence[tuple[str, str, str]]:
    """Time, caller and text of `count` lines when each is one record without oddities, as nearly all are."""
    if _odd(text):
        return ()
    found: list[tuple[str, str, str]] = _RAW.findall(text)
    if len(found) != count:
        return ()
    # A stamp in the middle is one more.
    if text.count("[") > count + text.count("][") and len(_CLOCK.findall(text)) > count:
        return ()
    return found


def _odd(text: str) -> bool:
    """It may hold a tag, or several lines."""
    return "kernel:" in text or "]:" in text or _NEWLINE in text or _BEHIND.search(text) is not None


def records(text: str, line: int) -> Sequence[Record]:
    """The records in one line of the console: mostly one, more where a line was torn."""
    return Reader().records(text, line)


class Rows(NamedTuple):
    """Time, caller and text of whole lines that are one record each, and what stands before all of them.

    names: None for printk's own stamp, without or with a caller in each line.
    """

    names: tuple[str, ...] | None
    lines: Sequence[tuple[str, str, str]]

    def record(self, index: int, line: int) -> Record:
        """One of them."""
        time, caller, text = self.lines[index]
        return Record(line, text, caller, float(time) if time else None, self.named(index))

    def named(self, index: int) -> tuple[str, ...]:
        """What stands before one of them."""
        return RAW_NAMES[self.lines[index][1] != ""] if self.names is None else self.names


class Reader:
    """Reads lines one after the other, and learns what stands before each of them that prefix.py does not know."""

    def __init__(self) -> None:
        self._outer: re.Pattern[str] | None = None
        self._left: re.Pattern[str] | None = None
        self._shape: prefix.Shape | None = None
        self._begins: tuple[tuple[str, ...], str] | None = None
        # Lines, without their addresses, and whether nothing stands before them.
        self._bare: dict[str, bool] = {}

    def rows(self, raw: bytes) -> Rows | None:
        """What decode() and records() find in whole lines, at a fraction of the cost; None where lines are odd."""
        if not self.plain or not raw.endswith(b"\n") or not raw.isascii() or b"\x1b" in raw or b"\0" in raw:
            return None
        text = raw.decode("ascii")
        if "\r" in text:
            text = text.replace("\r", "")
        count = text.count("\n")
        if len(text) > LINE_LIMIT and max(map(len, text.split("\n"))) > LINE_LIMIT:
            return None
        if self._shape is None:
            if text.startswith("["):
                found = rows(text, count)
                return Rows(None, found) if found else None
            return self._bare_rows(text.split("\n")[:-1])
        found = self._shape.line.findall(text)
        said = "\n".join([line[2] for line in found])
        # A line that begins otherwise may be the kernel's as well.
        if len(found) != count or _odd(said) or ("[" in said and _CLOCK.search(said) is not None):
            return None
        return Rows(self._shape.names, found)

    def _bare_rows(self, texts: Sequence[str]) -> Rows | None:
        """Lines before which nothing stands: the same line, with other addresses, is judged once."""
        for look in _ADDRESS.sub("", "\n".join(texts)).split("\n"):
            bare = self._bare.get(look)
            if bare is None:
                found = Reader().records(look, 0)
                bare = self._bare[look] = len(found) == 1 and not found[0].names and found[0].text == look
                if len(self._bare) > _BARE_LINES:
                    del self._bare[next(iter(self._bare))]
            if not bare:
                return None
        self._begins = None
        return Rows((), [("", "", text) for text in texts])

    @property
    def plain(self) -> bool:
        """Nothing was learned: lines are what they seem."""
        return self._outer is None

    def learn(self, words: str) -> None:
        """`words` stand before the first line of a report; what looks the same before the next lines is no text."""
        self._outer = None
        if words and len(words) <= prefix.SHAPE_LIMIT and words[-1] in _ENDS:
            # White space is how far a report is indented: its own stays.
            self._outer = prefix.shape(words) if not words.isspace() else re.compile(re.escape(words))

    def records(self, text: str, line: int) -> Sequence[Record]:
        """The records in the next line."""
        if self._outer is None and (match := _RAW.match(text)) is not None:
            time, caller, said = match.groups()
            if not _odd(text) and ("[" not in said or _CLOCK.search(said) is None):
                self._shape = None
                return (Record(line, said, caller or "", float(time), RAW_NAMES[caller is not None]),)
        if self._outer is None and self._shape is not None and (match := self._shape.line.match(text)) is not None:
            time, caller, said = match["time"], match["caller"], match["text"]
            if not _odd(said) and ("[" not in said or _CLOCK.search(said) is None):
                return (Record(line, said, caller, float(time) if time else None, self._shape.names),)
        head = self._head(text, 0)
        if self._outer is None:
            # To compile an expression takes as long as to read many lines: once is no habit.
            begins, self._begins = self._begins, prefix.repeated(text, head)
            if begins is not None and begins == self._begins:
                self._shape = prefix.compiled(*begins)
        found: list[Record] = []
        if prefix.KERNELS.isdisjoint(head.names) and (first := _middle(text, head.end)) is not None:
            left = text[head.end : first.start()]
            known, self._left = self._left, None
            if left and len(left) <= prefix.SHAPE_LIMIT and left[-1] in _ENDS:
                self._left = prefix.shape(left)
            if left and (known is None or known is not self._left):
                found.append(Record(line, left))
            head = self._head(text, first.start())
        while True:
            following = _middle(text, head.end) if head.time_s is not None else None
            end = following.start() if following is not None else len(text)
            found += _parts(line, text[head.end : end], head)
            if following is None:
                return found
            head = self._head(text, end)

    def _head(self, text: str, position: int) -> prefix.Prefix:
        head = prefix.read(text, position)
        if head.names[-1:] == ("service",):
            found = patterns.match(text[head.end :])
            if belongs(text[head.end :]) or (found is not None and found[1] == 0):
                # "Call Trace:" is no host with a process.
                head = head._replace(names=head.names[:-1])
        if self._outer is None or (match := self._outer.match(text, head.end)) is None or match.end() == head.end:
            return head
        inner = prefix.read(text, match.end())
        time_s = inner.time_s if inner.time_s is not None else head.time_s
        return prefix.Prefix(inner.end, (*head.names, "learned", *inner.names), time_s, inner.caller or head.caller)


def _parts(line: int, text: str, head: prefix.Prefix) -> Sequence[Record]:
    """The record, or each of the lines that syslogd made one."""
    if "quote" in head.names:
        text = "" if _BORDER.match(text) else _BOX_END.sub("", text)
    if head.names[-1:] == ("kmsg",) and text.startswith(" ") and _DICTIONARY.match(text):
        return ()
    parts = text.split(_NEWLINE) if _NEWLINE in text else (text,)
    return [Record(line, part, head.caller, head.time_s, head.names) for part in parts]


def _middle(text: str, start: int) -> re.Match[str] | None:
    return _MIDDLE.search(text, start) if _CLOCK.search(text, start) is not None else None
