# SPDX-License-Identifier: GPL-2.0-only
"""From the lines of a report to its class, title and where it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from harness.console import patterns, stack
from harness.console.infrastructure import relevant
from harness.console.pattern import LIMIT, Frame, Pattern
from harness.console.report import Report
from harness.console.sight import REBOOT

# Where a title needs a function and the report lost it.
UNKNOWN = "corrupted"

_WHO = re.compile(
    r"CPU: (?P<cpu>\d{1,5}) (?:UID: \d+ )?PID: (?P<pid>\d{1,10}) Comm: (?P<task>.{1,32}?) (?:Not tainted|"
    r"Tainted:|Kdump:)"
)
_BY_TASK = re.compile(r"(?:Read|Write) of size .{1,48} by task (?P<task>.{1,32})/(?P<pid>\d{1,10})$")
_LOCK = re.compile(r"(?:\[<[0-9a-f]{8,16}>\]|[0-9a-f]{8,16}|\(null\))?\s{0,8}(?P<fn>[A-Za-z_][\w.]{0,120})\+0x")
_UNSTABLE = (
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,16}\b"), "ADDR"),
    (re.compile(r"(?<![A-Za-z0-9_])\d+|\d{5,}"), "NUM"),
)
# The folders of a kernel tree.
_TOP = frozenset((
    "arch", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc", "kernel", "lib", "mm",
    "net", "rust", "samples", "security", "sound", "virt",
))  # fmt: skip
_CHOICE = {Frame.STALL: stack.stalled, Frame.HANG: stack.hung}
# A kernel that reports in a loop says the same each time, but for these, on which class and title do not depend: lines
# of registers, addresses, who it was, and how often the kernel died. Longer reports are not kept to see that.
REGISTERS = r"[ \t]{0,40}(?:[RE](?:[A-D]X|[SD]I|[SB]P): |R\d\d: |Code: |[CD]R\d: |[C-GS]S: |PGD )"
ADDRESS = r"ffff(?=[0-9a-f]{0,11}\d)[0-9a-f]{12}\b"
WHOSE = r"(?<=[CP][PI][UD]: )\d{1,10}\b"
DEATHS = r"(?<=\[#)\d{1,9}(?=\])"
USER = r"(?<=RIP: 0033:0x)[0-9a-f]{1,16}\b"
_REGISTERS = re.compile(rf"\n{REGISTERS}.*")
_ADDRESS = re.compile(ADDRESS)
_NUMBERS = re.compile(r"(CPU: |PID: |\[#|RIP: 0033:0x)[0-9a-f]{1,16}\b")
_REPEATED_CHARACTERS = 8000
_TITLE_LIMIT = 200
_BY_NAME = {pattern.name: pattern for pattern in (*patterns.PATTERNS, REBOOT)}
_SPACES = re.compile(r" {2,}")
# Behind an address, ": ", or a call's "at"; what is in a message's tail changes from run to run.
_TAIL = re.compile(r"[\s.,:;-]+$")


def stable(text: str) -> str:
    """`text` without what differs from run to run."""
    for pattern, word in _UNSTABLE:
        text = pattern.sub(word, text)
    return text


def source_path(path: str) -> str:
    """A file's path within the kernel's tree, wherever it was built: ../linux-6.12/mm/rmap.c → mm/rmap.c."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    start = next((index for index, part in enumerate(parts[:-1]) if part in _TOP), None)
    return path if start is None else "/".join(parts[start:])


class Who(NamedTuple):
    """Whom a line of a report names; empty where it does not say."""

    task: str
    pid: str
    cpu: str


def who(line: str) -> Who | None:
    """The task and the CPU that a line says its report is about."""
    if "PID: " not in line and " by task " not in line:
        return None
    match = _WHO.search(line[:LIMIT]) or _BY_TASK.match(line[:LIMIT])
    if match is None:
        return None
    return Who(match["task"], match["pid"], match["cpu"] if match.re is _WHO else "")


def judge(pattern: Pattern, body: Sequence[str], useful: int, line: int, boot: int, wrapping: str) -> Report:
    """The report that begins at `line` of the console with body[0]; `useful` of its lines are shown."""
    text = "\n".join(body)
    if len(text) <= _REPEATED_CHARACTERS:
        same = _NUMBERS.sub(r"\g<1>0", _ADDRESS.sub("ffff000000000000", _REGISTERS.sub("", text)))
        found = _judged_again(pattern.name, same)
    else:
        found = _judged(pattern, body)
    shown = text if useful == len(body) else "\n".join(body[:useful])
    return Report(line=line, boot=boot, wrapping=wrapping, text=shown, **found, **_whose(pattern, body))


@lru_cache(maxsize=64)
def _judged_again(name: str, text: str) -> Mapping[str, Any]:
    return _judged(_BY_NAME[name], text.split("\n"))


def _judged(pattern: Pattern, body: Sequence[str]) -> Mapping[str, Any]:
    fields = _fields(pattern, body)
    calls = stack.Stacks(body[1:])
    if not any(call.reliable for call in calls.calls()):
        # An unwinder without frame pointers is sure of nothing.
        calls = stack.Stacks(body[1:], guesses=True)
    frame = _frame(pattern, fields.get("fn", ""), body, calls)
    words = {name: value if name == "fn" else stable(value) for name, value in fields.items()}
    words["frame"] = stack.title_name(frame) or UNKNOWN
    words["fn"] = stack.title_name(fields.get("fn", ""))
    for name, value in tuple(words.items()):
        words.setdefault(name.upper(), value.upper())
    for name in pattern.wanted:
        words.setdefault(name, pattern.missing.get(name, UNKNOWN))
    return {
        "type": pattern.type.format_map(words),
        "title": _TAIL.sub("", _SPACES.sub(" ", pattern.title.format_map(words)))[:_TITLE_LIMIT],
        "torn": _torn(pattern, frame, calls),
        "frame": frame,
        "function": stack.plain_name(fields.get("fn", "")),
        "site": source_path(fields.get("site", "")),
    }


def _fields(pattern: Pattern, body: Sequence[str]) -> dict[str, str]:
    """What the first line says, and the details that follow."""
    match = pattern.compiled.match(body[0][:LIMIT])
    assert match is not None, "body[0] begins with what the pattern matched"
    fields = {name: value for name, value in match.groupdict().items() if value}
    if not fields.get("fn", "_")[0].isidentifier():
        # "0x0", where the kernel could not tell.
        del fields["fn"]
    return _details(pattern, body) | fields


def _whose(pattern: Pattern, body: Sequence[str]) -> Mapping[str, Any]:
    """The task and the CPU that the report is about."""
    fields = _fields(pattern, body)
    about = next(filter(None, map(who, body)), Who("", "", ""))
    return {
        "task": fields.get("task") or about.task,
        "pid": _number(fields.get("pid") or about.pid),
        "cpu": _number(fields.get("cpu") or about.cpu),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _details(pattern: Pattern, body: Sequence[str]) -> dict[str, str]:
    if not pattern.detail:
        return {}
    for line in body[1:40]:
        match = pattern.detail_compiled.search(line[:LIMIT].rstrip(" \t"))
        if match is not None:
            return {name: value for name, value in match.groupdict().items() if value}
    return {}


def _frame(pattern: Pattern, function: str, body: Sequence[str], calls: stack.Stacks) -> str:
    function = stack.plain_name(function)
    if pattern.frame is Frame.NONE:
        return ""
    if pattern.frame is Frame.LINE and function and relevant(function, pattern.skip):
        return function
    if pattern.frame in _QUOTED and (found := _QUOTED[pattern.frame](body, pattern.skip)):
        return found
    choose = _CHOICE.get(pattern.frame)
    if choose is None:
        found = stack.first_relevant(calls.calls(), pattern.skip)
    else:
        found = next(filter(None, (choose(entries, pattern.skip) for entries in calls)), "")
    if found:
        return found
    # An infrastructure function is better than none.
    stood = next((call.function for call in calls.calls() if call.registers), "")
    return function or stood or next(_takers(body), "")


def _takers(body: Sequence[str]) -> Iterator[str]:
    """The functions that took, or wanted, the locks that a report of lockdep lists at its beginning."""
    for line in body[:30]:
        if line.startswith(("the existing dependency", "stack backtrace")):
            break
        _, found, place = line.partition("at: ")
        match = _LOCK.match(place[:LIMIT]) if found else None
        if match is not None:
            yield stack.plain_name(match["fn"])


def _wanted(body: Sequence[str], skip: str) -> str:
    """The function that wanted the lock, or took the one before; when both tell nothing, the one that set the order."""
    for function in _takers(body):
        if relevant(function, skip):
            return function
    return _after(body, "the existing dependency chain", skip)


def _held(body: Sequence[str], _skip: str) -> str:
    return next(_takers(body), "")


def _became(body: Sequence[str], skip: str) -> str:
    return _after(body, " which became ", skip)


def _asked(body: Sequence[str], skip: str) -> str:
    return _after(body, "page last allocated", skip)


def _after(body: Sequence[str], heading: str, skip: str) -> str:
    """The first function that tells something, after a line that holds `heading`."""
    start = next(
        (index for index, line in enumerate(body) if heading in line or line.startswith(heading.strip())), None
    )
    if start is None:
        return ""
    quoted = [entry for line in body[start + 1 : start + 60] for entry in stack.calls(line)]
    return stack.first_relevant(quoted, skip)


_QUOTED = {Frame.LOCK: _wanted, Frame.HOLDER: _held, Frame.BECAME: _became, Frame.PAGE: _asked}


def _torn(pattern: Pattern, frame: str, calls: stack.Stacks) -> bool:
    """A report of this kind has a stack, and this one has none; registers are no stack."""
    if pattern.frame is Frame.NONE and not pattern.traced:
        return False
    whole = any(call.reliable and not call.registers for call in calls.calls())
    return not whole or (pattern.frame is not Frame.NONE and not frame)
