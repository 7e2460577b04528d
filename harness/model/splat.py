# SPDX-License-Identifier: GPL-2.0-only
"""Reports of a kernel on its console: where one starts, what it is called, where it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# "[    1.234567][  T123] text": PRINTK_TIME and PRINTK_CALLER, both optional.
_PREFIX = re.compile(r"^(?:<\d+>)?\[ *(\d+\.\d+)\](?:\[ *([TC]\d+)\])? ?")

# What opens a report. Each is anchored behind the prefix, so that a program's
# output that merely mentions a word does not count. Order matters: the first
# that matches names the kind.
_OPENERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("warning", re.compile(r"WARNING: CPU: \d+ PID: \d+ at (?P<site>\S+) (?P<where>[\w.]+)")),
    (
        "lockdep",
        re.compile(r"WARNING: (?P<what>possible .*|inconsistent lock state|suspicious RCU usage|.*lock.*held.*)"),
    ),
    ("lockdep", re.compile(r"BUG: (?P<what>MAX_LOCK\w+ too low|workqueue leaked lock.*)")),
    ("warning", re.compile(r"WARNING: (?P<what>.*)")),
    ("kasan", re.compile(r"BUG: KASAN: (?P<what>\S+) in (?P<where>[\w.]+)")),
    ("kasan", re.compile(r"BUG: KFENCE: (?P<what>.*?) in (?P<where>[\w.]+)")),
    ("hang", re.compile(r"(?:watchdog: )?BUG: (?P<what>(?:soft lockup|workqueue lockup))")),
    ("hang", re.compile(r"(?:watchdog: )?Watchdog detected (?P<what>hard LOCKUP)")),
    ("hang", re.compile(r"(?:rcu: )?INFO: (?P<what>rcu_\w+ (?:self-)?detected.*stall)")),
    ("hang", re.compile(r"INFO: (?P<what>task \S+ blocked for more than)")),
    ("oom", re.compile(r"(?P<what>(?:Memory cgroup out of memory|Out of memory): Killed process)")),
    ("oops", re.compile(r"BUG: (?P<what>kernel NULL pointer dereference|unable to handle .*?)(?:,|$)")),
    ("oops", re.compile(r"(?P<what>general protection fault|kernel BUG at \S+|divide error|invalid opcode|Oops)\b")),
    ("panic", re.compile(r"(?P<what>Kernel panic - not syncing.*)")),
    ("bug", re.compile(r"BUG: (?P<what>.*)")),
    ("bug", re.compile(r"(?P<what>UBSAN: .*|page allocation failure.*|refcount_t: .*|unregister_netdevice: .*)")),
)
_UNSTABLE = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d+")


@dataclass(frozen=True)
class Splat:
    """One report. `line` counts from 1; `site` is file:line of a WARN, where the kernel says it."""

    kind: str
    title: str
    line: int
    site: str = ""
    where: str = ""
    text: str = ""


def strip(line: str) -> str:
    """A console line without level, time and caller."""
    return _PREFIX.sub("", line)


def find(lines: Iterable[str], context: int = 40) -> Iterator[Splat]:
    """Every report in a console, in order, in one pass.

    The text of a report is its first `context` lines, or what stands before
    the next report.
    """
    pending: Splat | None = None
    body: list[str] = []
    for number, raw in enumerate(lines, 1):
        line = strip(raw)
        opened = opener(line, number)
        if opened is not None:
            if pending is not None:
                # An oops is announced by BUG: and then named by Oops:; both are one report.
                if pending.kind == "oops" and opened.title.startswith("Oops") and number - pending.line < 8:
                    body.append(line)
                    continue
                yield _closed(pending, body)
            pending, body = opened, [line]
        elif pending is not None and len(body) < context:
            body.append(line)
    if pending is not None:
        yield _closed(pending, body)


def opener(line: str, number: int) -> Splat | None:
    """The report that a line, already stripped of its prefix, opens."""
    if not ("WARNING" in line or "BUG" in line or "INFO" in line or "panic" in line or _rare(line)):
        return None
    for kind, pattern in _OPENERS:
        match = pattern.match(line)
        if match is None:
            continue
        groups = match.groupdict()
        site, where = groups.get("site") or "", (groups.get("where") or "").split("+")[0]
        what = groups.get("what") or (f"WARNING at {site.split(':')[0]} in {where}" if site else line)
        title = _UNSTABLE.sub("N", f"{what} in {where}" if where and not site else what)
        return Splat(kind, title.strip(), number, site, where)
    return None


def _rare(line: str) -> bool:
    return line.startswith(
        ("general protection", "kernel BUG", "divide error", "invalid opcode", "Oops", "UBSAN", "page allocation",
         "refcount_t", "Watchdog", "watchdog", "Memory cgroup out", "Out of memory", "unregister_netdevice")
    )  # fmt: skip


def _closed(splat: Splat, body: list[str]) -> Splat:
    return Splat(splat.kind, splat.title, splat.line, splat.site, splat.where, "\n".join(body))
