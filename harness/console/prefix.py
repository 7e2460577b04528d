# SPDX-License-Identifier: GPL-2.0-only
"""What tools put before a record of the kernel's log, or in place of its stamp.

dmesg, journalctl, syslogd, /dev/kmsg, vendors' kernels, continuous integration and mail each have
their own. A prefix is read element by element, by what a date, a tag or a quotation looks
like, in any order and language. What is none of these is learned: see Reader in lines.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_FACILITY = r"(?:kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local\d)"
_SEVERITY = r"(?:emerg|alert|crit|err|error|warn|warning|notice|info|debug|panic)"

# A line of KASAN's picture of the memory is marked with > and is no quotation.
_QUOTE = r"(?!>[0-9a-f]{8,16}:)(?:>{1,8}|[|\u2502\u2503\u2551\u2506])"
# "[    3.078160]" of printk, "[    3.078160 <    0.000012>]" of dmesg -d.
_STAMP = r"\[ {0,12}(?P<time>\d{1,9}\.\d{1,9})(?: <[ \d.]{1,20}>)?\]"
# "[  +0.000012]" of dmesg -e and -H, "[<    0.000012>]" of dmesg -d -t.
_DELTA = r"\[(?: {0,12}\+|< {0,12})\d{1,9}\.\d{1,9}>?\]"
# dmesg -T in the words of any language, and what else has a time of day in brackets.
_DATE = (
    r"\[(?:[^\]\[:\s]{1,16} {1,3}){0,5}(?:\d{4}-\d\d-\d\dT)?\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?![\d:])[^\]\[]{0,30}\]"
)
# "Sep  3 05:57:48", "Mon 2029-09-03 05:57:48 UTC", "2029-09-03T05:57:48,078160+02:00", "05:57:48.123".
_CLOCK = (
    r"(?:[\w./,-]{1,12} {1,2}){0,5}(?:\d{4}-\d\d-\d\d[T_])?\d{1,2}:\d\d:\d\d(?![\w:]\w)(?:[.,]\d{1,9})?"
    r"(?:Z|[+-]\d\d:?\d\d)?(?: \d{4}(?= ))?(?: (?:[AP]M|UTC|GMT|[A-Z]{2,4}T|[+-]\d{4})(?= ))?(?=[ \t\]|:,;]|$)"
)
_UNIX = r"\d{9,11}\.\d{3,9}(?= )"
# PRINTK_CALLER.
_CALLER = r"\[ {0,8}(?P<caller>[TC]\d{1,9})\]"
# Vendors name CPU and task: "[2:  swapper/0:    1]", "I[7:  swapper/0:    1]", "(2)[123:kworker/2:1]", "c0     1",
# "[pid:1,cpu0,swapper/0]".
_VENDOR = (
    r"[A-Z]?\[\d{1,3}[:,] {0,20}[^\]\[]{1,24}[:,] {0,8}\d{1,7}\]|\.?\(\d{1,3}\)\[\d{1,7}:[^\]\[]{1,24}\]"
    r"|\[pid:\d{1,7},cpu\d{1,3},[^\]\[]{1,32}\]|c\d{1,2}(?: {1,6}\d{1,6})?(?= )"
)
_LEVEL = r"<\d{1,3}>(?:1 (?=\d{4}-))?"
_NAMED_LEVEL = rf"{_FACILITY} {{0,6}}:{_SEVERITY} {{0,6}}:(?= |$)|{_FACILITY}\.{_SEVERITY}(?= )"
# Of journald and syslogd, and in RFC 5424.
_TAG = r"(?:[^\s:\[<]{1,64} )?kernel(?:\[\d{1,7}\])?(?::(?= |$|\[)| (?:-|\d{1,7}) \S{1,40} -(?= |$))"
_PROGRAM = r"(?:[^\s:\[<]{1,64} )?[\w./@+:()~-]{1,64}?\[\d{1,8}\]:(?= |$)"
_HOST = r"[^\s:\[<]{1,64} [\w./@+:()~-]{1,64}?\[\d{1,8}\]:(?= |$)"
# syslogd names the host always, and the process not always.
_SERVICE = r"[^\s:\[<]{1,64} [\w./@+-]{1,64}:(?= |$)"
_SYSLOG_DATE = re.compile(r"[^\W\d]{3,5} [ \d]\d \d\d:\d\d:\d\d")
# /dev/kmsg, and netconsole with the release before it.
_KMSG = r"(?:[\w.+~-]{1,64},)?\d{1,4},\d{1,12},(?P<us>\d{1,18}),[^,;\s]{1,2}(?P<more>,[^;]{0,100})?;"
_KMSG_CALLER = re.compile(r",caller=(?P<caller>[TC]\d{1,9})")


class Element(NamedTuple):
    """A kind of element. follows: what may stand behind it. blank: one blank behind it is its own."""

    name: str
    pattern: re.Pattern[str]
    starts: str
    follows: frozenset[str]
    blank: bool = True


_INNER = frozenset(("stamp", "delta", "caller", "vendor", "level", "date"))
_BEHIND = frozenset(("caller", "vendor", "kernel", "host"))
_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALL = frozenset((
    "quote", "stamp", "delta", "date", "clock", "unix", "caller", "vendor", "level", "facility", "kernel", "program",
    "service", "host", "kmsg",
))  # fmt: skip
_OUTER = _ALL - {"program", "service", "host"}
_ELEMENTS = (
    Element("quote", re.compile(_QUOTE), ">|\u2502\u2503\u2551\u2506", _OUTER),
    Element("stamp", re.compile(_STAMP), "[", _BEHIND),
    Element("caller", re.compile(_CALLER), "[", _BEHIND),
    Element("delta", re.compile(_DELTA), "[", _BEHIND),
    Element("date", re.compile(_DATE), "[", _ALL - {"service"}),
    Element("vendor", re.compile(_VENDOR), "[(.c" + _UPPER, _BEHIND),
    Element("level", re.compile(_LEVEL), "<", _OUTER, blank=False),
    Element("facility", re.compile(_NAMED_LEVEL), "kumdaslncf", _OUTER),
    Element("kernel", re.compile(_TAG), "", _INNER),
    Element("kmsg", re.compile(_KMSG), "", frozenset(), blank=False),
    Element("unix", re.compile(_UNIX), _DIGITS, _ALL - {"service"}),
    Element("clock", re.compile(_CLOCK), "", _ALL),
    Element("program", re.compile(_PROGRAM), "", frozenset()),
    Element("host", re.compile(_HOST), "", frozenset()),
    Element("service", re.compile(_SERVICE), "", frozenset()),
)
# Behind what a record of the kernel stands, and nobody else's.
KERNELS = frozenset(("stamp", "delta", "caller", "vendor", "kernel", "kmsg"))
PROGRAMS = frozenset(("program", "service", "host"))


@lru_cache(maxsize=1024)
def _candidates(letter: str, follows: frozenset[str]) -> tuple[Element, ...]:
    word = letter.isalnum() or letter in "_./-,"
    return tuple(
        element
        for element in _ELEMENTS
        if element.name in follows and (letter in element.starts if element.starts else word)
    )


class Prefix(NamedTuple):
    """What stands before a record's text, which begins at `end`.

    names: its elements. time_s, caller: as in Record. kernel, program: whose record it is, where the prefix says so.
    """

    end: int
    names: tuple[str, ...] = ()
    time_s: float | None = None
    caller: str = ""

    @property
    def kernel(self) -> bool:
        """The kernel wrote it."""
        return not KERNELS.isdisjoint(self.names) and not self.program

    @property
    def program(self) -> bool:
        """A program wrote it, and not the kernel."""
        return not PROGRAMS.isdisjoint(self.names)


def read(text: str, position: int = 0) -> Prefix:
    """The prefix of the record that begins at `position`."""
    names: list[str] = []
    time_s, caller, said = None, "", ""
    follows = _OUTER
    for _ in range(10):
        start = position
        while text.startswith((" ", "\t"), start) and start - position < 40:
            start += 1
        for element in _candidates(text[start : start + 1], follows):
            match = element.pattern.match(text, start)
            if match is not None and (element.name != "service" or _SYSLOG_DATE.match(said) is not None):
                break
        else:
            break
        names.append(element.name)
        if element.name == "service":
            # Or the two words are the kernel's: see Reader.
            return Prefix(start, tuple(names), time_s, caller)
        said = match[0]
        follows = element.follows
        position = match.end() + (element.blank and text.startswith(" ", match.end()))
        if element.name == "stamp":
            time_s = float(match["time"])
        elif element.name == "caller":
            caller = match["caller"]
        elif element.name == "kmsg":
            time_s = int(match["us"]) / 1e6
            told = _KMSG_CALLER.search(match["more"] or "")
            caller = told["caller"] if told is not None else ""
    return Prefix(position, tuple(names), time_s, caller)


# What the kernel itself or its vendor writes, where a line's text would begin.
_MORE = "|".join((_STAMP, _DELTA, _DATE, _CALLER, _VENDOR, _LEVEL, _QUOTE)).replace("(?P<time>", "(?:")
_MORE = _MORE.replace("(?P<caller>", "(?:")
_PIECE = re.compile(rf"(?P<stamp>{_STAMP})|(?P<name>{_CALLER})|(?P<digits>\d+)|(?P<blanks> +)|.", re.DOTALL)
# Elements whose text is taken apart further, and those that other tools' lines have, too.
_UNLIKE = PROGRAMS | {"quote", "kmsg"}


class Shape(NamedTuple):
    """How the kernel's lines begin in a log, over and over. line: a line with its time, caller and text."""

    names: tuple[str, ...]
    line: re.Pattern[str]


def repeated(text: str, found: Prefix) -> tuple[tuple[str, ...], str] | None:
    """How a line with the prefix `found` begins, with any numbers; None where the next line may be another's."""
    head = text[: found.end]
    if KERNELS.isdisjoint(found.names) or not _UNLIKE.isdisjoint(found.names) or len(head) > SHAPE_LIMIT:
        return None
    return found.names, _PIECE.sub(_any_number, head.removesuffix(" "))


def _any_number(piece: re.Match[str]) -> str:
    if piece["stamp"]:
        return r"\[ {0,12}(?P<time>\d{1,9}\.\d{1,9})\]" if "<" not in piece["stamp"] else "(?!)"
    if piece["name"]:
        return _CALLER
    if piece["digits"]:
        return r"\d{1,18}"
    return " {1,12}" if piece["blanks"] else re.escape(piece[0])


@lru_cache(maxsize=64)
def compiled(names: tuple[str, ...], head: str) -> Shape | None:
    """The shape of lines that begin as repeated() says."""
    if head.count("(?P<time>") > 1 or head.count("(?P<caller>") > 1:
        return None
    time = "" if "(?P<time>" in head else "(?P<time>)"
    caller = "" if "(?P<caller>" in head else "(?P<caller>)"
    blank = "" if names[-1] == "level" else " ?"
    line = rf"(?m)^{time}{head}{caller}{blank}(?![ \t]{{0,40}}(?:{_MORE}))(?P<text>.*)"
    return Shape(names, re.compile(line))


_TOKEN = re.compile(r"\d+|\s+|[^\W\d_]+|.", re.DOTALL)
_TIME_OF_DAY = re.compile(r"\d\d:\d\d")
# A longer prefix is none.
SHAPE_LIMIT = 100


def shape(words: str) -> re.Pattern[str]:
    """What looks like `words`, with other numbers, and with other names in a date."""
    dated = _TIME_OF_DAY.search(words) is not None
    parts = []
    for token in _TOKEN.findall(words[:SHAPE_LIMIT]):
        if token.isdecimal():
            parts.append(r"\d{1,18}")
        elif token.isspace():
            parts.append(r"\s{1,20}")
        elif dated and token.isalpha():
            parts.append(r"[^\W\d_]{1,20}")
        elif token in {":", "-"} and parts and parts[-1].startswith(r"\d"):
            # grep -n -A: "118:" before what was sought, "119-" before the lines around it.
            parts.append("[:-]")
        else:
            parts.append(re.escape(token))
    return _compiled("".join(parts))


@lru_cache(maxsize=64)
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex)
