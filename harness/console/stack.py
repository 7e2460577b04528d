# SPDX-License-Identifier: GPL-2.0-only
"""Functions on the stacks of a report, and the one that names the bug.

A stack looks different on each architecture, and has changed over the years::

    x86, arm64, riscv, s390     foo+0x1a/0x40         [<ffffffff8100>] foo+0x1a/0x40       ? foo+0x1a/0x40 (a guess)
    arm                          [<8028bd5c>] (foo) from [<80132060>] (bar+0x58c/0x1844)    foo from bar+0x58c/0x1844
    powerpc                      [c00000003ae5b800] [c00000000135c19c] foo+0x128/0x1cc (unreliable)
    decoded                      foo+0x1a/0x40 mm/foo.c:12          foo mm/foo.c:12 [inline]      foo (mm/foo.c:12)
    the CPU's own               RIP: 0010:foo+0x1a/0x40     pc : foo+0x1a/0x40      NIP [c000000000] foo+0x1a/0x40
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from harness.console.infrastructure import ARRIVAL, DISPATCH, IDLE, INTERRUPT, WAITING, WITNESS, relevant
from harness.console.pattern import LIMIT

_NAME = r"(?P<fn>[A-Za-z_$<][\w.$:<>&,{}#-]{0,250})"
_OFFSET = r"\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}"
_ADDRESS = r"\(?\[<?(?:(?:0x)?[0-9a-fx]{4,18}|\(ptrval\))>?\]\)?"
_FRAME = re.compile(
    rf"(?:<\w{{1,8}}>)?[ \t#\d]{{0,24}}(?:</?\w{{1,12}}> +){{0,3}}(?:{_ADDRESS} {{0,4}}){{0,2}}(?P<guess>\? "
    rf")?\(?{_NAME}(?:{_OFFSET}|\+0x)"
)
_ARM = re.compile(
    r"[ \t]{0,8}(?:\[<[0-9a-f]{8}>\] \()?(?P<fn>[A-Za-z_][\w.]{0,120})(?: \[\w{1,64}\])?\)? from (?:\[<[0-9a-f]{8}>\] "
    r"\()?(?P<caller>[A-Za-z_][\w.]{0,120})?"
)
_CPU = re.compile(
    r"(?:RIP: (?!0033|0023|002b)(?:[0-9a-f]{4}:)?|EIP: |IP: |pc : |PC is at |epc : |NIP:? {1,2}|ERA: |Krnl PSW : "
    r".{30,60}\()"
    rf"(?:{_ADDRESS} {{0,4}}){{0,2}}(?:[0-9a-f]{{16}} )?{_NAME}(?:{_OFFSET}| (?=\([\w./+-]{{1,160}}:\d|\(\?\?:))"
)
# By decode_stacktrace.sh, which takes away white space and offset.
_DECODED = re.compile(
    rf"[ \t]{{0,24}}(?:{_ADDRESS} {{0,4}}){{0,2}}(?P<guess>\? )?{_NAME} \((?:[\w./+-]{{1,160}}:(?:\d|\?)|\?\?:)"
)
_PPC_INTERRUPT = re.compile(rf"--- interrupt: [0-9a-f]{{3,4}} at {_NAME}{_OFFSET}")
# A frame at the start of a line has nothing else on it, but for its module with its build, and arm64's "(P)".
_BARE = re.compile(
    rf"(?:\? )?[\w.]{{1,200}}{_OFFSET}(?: \[\w{{1,64}}(?: [0-9a-f]{{1,64}})?\])?(?: \([A-Z]{{1,4}}\))?\s*$"
)
_USER = re.compile(r"RIP: (?:0033|0023|002b):|--- interrupt: c00 ")
_BEGIN = re.compile(
    r"(?:Call [Tt]race:|Backtrace:|backtrace:|stack backtrace:|NMI backtrace for cpu|task:\S|Task dump for CPU|"
    r"CPU: \d+ )"
)
# What every line that names a function holds.
_FRAMES = re.compile(r"\+0x| from | \((?=[\w./?+-]{1,160}:)")
# How all of these begin.
_HEADING = re.compile(
    r"[ \t]{0,40}(?:RIP: 0|--- int|Call |[Bb]ackt|stack b|NMI b|[tT]ask|CPU: |[AaFf](?:llocated|reed)|Last p|Second|"
    r"Uninit|Local v|Showing|Preempt|page last|-> #|the |\{|Origin|Chain)"
)
_TRACE = re.compile(r"(?:Call [Tt]race:|Backtrace:|backtrace:)")
_OTHER = re.compile(
    r"(?:Allocated by |Freed by |Last potentially related|Second to last|allocated by |freed by |Uninit was |"
    r"Local variable|Showing all locks|Preemption disabled at|page last (?:free|allocated)|"
    r"-> #\d|the existing dependency|\{[\w -]{1,40}\} state was registered|Origin:|Chain exists of|the "
    r"dependencies between)"
)
_SUFFIX = re.compile(
    r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv|cfi_jt|cfi|altinstr|clone)(?:\.\w{1,24})?|\.\d{1,24}|\$[0-9a-f]{16,40})$"
)
_SYSCALL = re.compile(
    r"(?:__(?:x64|ia32|arm64|s390x?|riscv|se|do|x32)_(?:compat_)?|compat_)?_{0,3}(?:sys|SyS|SYSC)_(?P<call>\w{2,60})"
)
# Variants of one function that the configuration or the caller's flavour chooses.
_VARIANT = re.compile(r"(?P<base>smp_call_function|on_each_cpu)_\w{1,40}")
# Waiting until every reader is done, in whichever flavour of RCU.
_GRACE_PERIOD = re.compile(r"_{0,3}synchronize_(?:rcu|srcu|net|sched)")


@dataclass(frozen=True)
class Call:
    """A function on a stack, innermost first. reliable: the unwinder is sure of it. registers: the CPU stood there."""

    function: str
    reliable: bool = True
    registers: bool = False


def plain_name(function: str) -> str:
    """A function's name as in the source, whatever the compiler made of it."""
    while (match := _SUFFIX.search(function)) is not None:
        function = function[: match.start()]
    return function


def title_name(function: str) -> str:
    """A name that is the same on every architecture and configuration."""
    function = plain_name(function)
    call = _SYSCALL.fullmatch(function)
    if call is not None:
        return f"sys_{call['call']}"
    variant = _VARIANT.match(function)
    if variant is not None:
        return variant["base"]
    return "synchronize_rcu" if _GRACE_PERIOD.match(function) is not None else function


def calls(line: str) -> Sequence[Call]:
    """The functions that a line of a stack, or of registers, names."""
    line = line[:LIMIT]
    if " from " in line:
        match = _ARM.match(line)
        if match is not None:
            # A return address at a function's first byte belongs to the function before, whose last call never returns.
            names = [match["fn"], "" if "+0x0/" in line[match.end("fn") :] else match["caller"]]
            return tuple(Call(plain_name(name)) for name in names if name)
    decoded = ":" in line and " (" in line
    if "0x" in line or decoded:
        for pattern in (_CPU, _PPC_INTERRUPT):
            match = pattern.match(line.lstrip(" \t"))
            if match is not None:
                return (Call(plain_name(match["fn"]), registers=True),)
        match = _FRAME.match(line)
        if match is None or not (line[:1] in " \t[<(?" or _BARE.match(line) is not None):
            match = _DECODED.match(line) if decoded else None
        if match is not None:
            return (Call(plain_name(match["fn"]), reliable=match["guess"] is None and "(unreliable)" not in line),)
    return ()


class Heading(Enum):
    """What a line says about the lines after it."""

    NONE = "nothing: possibly a frame"
    USER = "user space, which is not the kernel's"
    TRACE = "a stack"
    WHO = "a stack, and whose"
    QUOTED = "a stack of the past"


@dataclass(frozen=True, eq=False)
class Entry:
    """What a line is to the stacks of its report: a heading, or the functions that it names. trace: heads frames.

    Equal only to itself: there is one for each text that was seen lately.
    """

    heading: Heading
    trace: bool
    calls: Sequence[Call]


def entry(line: str) -> Entry | None:
    """What a line is to the stacks of its report; None when it is nothing to them."""
    return _entry(line[:LIMIT])


# The frames of a report are often those of another, and its registers never.
@lru_cache(maxsize=8192)
def _entry(line: str) -> Entry | None:
    text = line.lstrip(" \t")
    if _USER.match(text):
        return Entry(Heading.USER, trace=False, calls=())
    if _BEGIN.match(text):
        whose = text.startswith(("stack backtrace:", "CPU: "))
        return Entry(Heading.WHO if whose else Heading.TRACE, trace=_TRACE.match(text) is not None, calls=())
    if _OTHER.match(text):
        return Entry(Heading.QUOTED, trace=False, calls=())
    named = calls(line)
    return Entry(Heading.NONE, trace=False, calls=named) if named else None


class Stacks:
    """The stacks in the lines of a report, in order, read no further than they are asked for.

    What the report quotes of the past (who allocated, …) is left out. guesses: those of the unwinder count, too.
    """

    def __init__(self, lines: Sequence[str], *, guesses: bool = False) -> None:
        self._known: list[tuple[int, Call]] = []
        self._rest = _numbered(lines)
        if guesses:
            self._rest = ((number, replace(call, reliable=True)) for number, call in self._rest)

    def calls(self) -> Iterator[Call]:
        """Of all stacks."""
        return (call for _, call in self._numbered())

    def __iter__(self) -> Iterator[list[Call]]:
        for _, group in groupby(self._numbered(), itemgetter(0)):
            yield [call for _, call in group]

    def _numbered(self) -> Iterator[tuple[int, Call]]:
        yield from self._known
        for item in self._rest:
            self._known.append(item)
            yield item


def _numbered(lines: Sequence[str]) -> Iterator[tuple[int, Call]]:
    """Each call with the number of its stack."""
    number = 0
    quoted = ended = False
    registers = True
    # Before the first trace, only registers count: the rest is a trace of somebody else.
    traced = not any("race:" in line and _TRACE.match(line[:LIMIT].lstrip(" \t")) for line in lines)
    for line in lines:
        # Nearly all other lines are registers, which are never twice the same.
        entry = _entry(line[:LIMIT]) if _FRAMES.search(line) or _HEADING.match(line) else None
        if entry is None:
            continue
        if entry.heading is Heading.NONE:
            for call in () if quoted or ended else entry.calls:
                if traced or call.registers:
                    registers = call.registers and registers
                    yield number, call
        elif entry.heading is Heading.USER:
            ended = True
        elif entry.heading is Heading.QUOTED:
            number += 1
            quoted = registers = True
        else:
            # Registers stand before the trace that they belong to.
            number += not registers
            registers = True
            quoted = quoted and entry.heading is not Heading.WHO
            ended = False
            traced = traced or entry.trace


def first_relevant(calls: Iterable[Call], besides: str = "") -> str:
    """The innermost function that is not infrastructure; empty when there is none."""
    for entry in calls:
        if entry.reliable and relevant(entry.function, besides):
            return entry.function
    return ""


def hung(calls: Sequence[Call], besides: str = "") -> str:
    """The function in which a hung task waits."""
    sure = [entry.function for entry in calls if entry.reliable and relevant(entry.function, besides)]
    for function in sure:
        # Every task waits there when one does not come back; whose system call it was tells nothing.
        if "rtnl_lock" in function or _GRACE_PERIOD.match(function) is not None:
            return function
    return next((function for function in sure if function not in WAITING), "")


def _interrupt_end(functions: Sequence[str]) -> int:
    """The index of the outermost function of the interrupt that found the stall; −1 where there was none."""
    last = -1
    for index, function in enumerate(functions):
        # A few frames that the table does not know may lie between; a second interrupt lies further out.
        if function in INTERRUPT and (last < 0 or index - last <= 4):
            last = index
    return last


def stalled(calls: Sequence[Call], besides: str = "") -> str:
    """What stuck code was asked to do; empty for an idle CPU, or when the stack does not say.

    An interrupt finds a loop anywhere, so its innermost functions differ from
    run to run. The function that called the loop does not: going outwards, it is
    the last function before the first that only dispatches.
    """
    sure = [entry.function for entry in calls if entry.reliable]
    if any(function in IDLE or function in WITNESS for function in sure):
        return ""
    # Switched out by itself: whatever keeps the CPU busy, it is not this task.
    if "schedule" in sure[:1] + sure[1:2] and not any("preempt" in function for function in sure):
        return ""
    # Waiting for other CPUs to answer: the one that waits is the victim.
    for function in sure:
        if function.lstrip("_").startswith("smp_call_function") and relevant(function):
            return function
    first = next((index for index, function in enumerate(sure) if function in ARRIVAL), len(sure))
    inner = sure[_interrupt_end(sure[:first]) + 1 :]
    asked = ""
    for function in inner:
        if title_name(function) in DISPATCH and (asked or function not in inner[:1]):
            break
        if relevant(function, besides) and function not in INTERRUPT:
            asked = function
    return asked
