# SPDX-License-Identifier: GPL-2.0-only
"""harness history: what is new, fixed, still failing, flaky, slower or exercised less since a time."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.commands import _options
from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.history.nights import Cause

_COLOURS = {"good": "32", "bad": "1;31", "doubt": "33"}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.runs(parser, "*", "a run elsewhere that was not entered; those in the cache are")
    _options.since(parser)
    parser.add_argument(
        "--cause",
        metavar="TEXT",
        help="all that is known of one cause: its name of 8 digits, or words of it; of all times without --since",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as a document on standard output")
    form.add_argument("--line", action="store_true", help="one line, to be pasted into a mail")
    form.add_argument(
        "--kcidb", action="store_true", help="the runs since then as KCIDB's JSON, for KernelCI, on standard output"
    )
    parser.add_argument(
        "--origin",
        type=_origin,
        default="kernel_harness",
        metavar="NAME",
        help="with --kcidb: the name under which KernelCI knows you (default kernel_harness)",
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="read every run again that is there, and keep what is known of others"
    )


def main(arguments: argparse.Namespace) -> int:
    """Take in what is missing, and tell what is different."""
    from harness.history import keeping, nights, text
    from harness.host.workspace import cache_dir
    from harness.report.text import one_line
    from harness.terminal import Terminal

    now_s = time.time()
    usual_s = now_s - nights.DAY_S if arguments.cause is None else 0.0
    since_s = arguments.since(now_s) if arguments.since else usual_s
    with Terminal() as terminal, keeping.opened(cache_dir(), terminal, arguments.runs, again=arguments.rebuild) as held:
        if arguments.kcidb:
            from harness.history import kcidb

            print(kcidb.render(held.entries(since_s), arguments.origin), end="")
            return 0
        night = nights.recent(held, since_s, now_s)
        left_out = {folder: reason for folder, reason in held.left_out().items() if reason}
    chosen = night.causes if arguments.cause is None else _chosen(night.causes, arguments.cause)
    if arguments.json:
        document = night.document() | {"left_out": left_out}
        document["causes"] = [one.document() for one in chosen]
        print(json.dumps(document, indent=1))
    elif arguments.line:
        print(text.mail(night))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        paint = _paint if _coloured() else text.plain
        told = (
            text.lines(night, width, paint)
            if arguments.cause is None
            else (line for one in chosen for line in text.cause(one, width, paint))
        )
        for line in told:
            print(line)
        for folder, reason in left_out.items() if arguments.cause is None else ():
            print(f"{'left out':12} {one_line(f'{folder}: {reason}', width - 13 if width > 40 else 1000)}")
    return 0


def _chosen(causes: Sequence[Cause], asked: str) -> Sequence[Cause]:
    """The causes that are asked for. Raises UsageError when there is none."""
    words = asked.casefold()
    found = [one for one in causes if one.id == words or words in f"[{one.oracle}] {one.summary}".casefold()]
    if not found:
        raise UsageError(f"--cause {asked}: no such cause was seen", "harness history --since 365d lists causes")
    return found


def _origin(text: str) -> str:
    """The name of a CI system, as KCIDB takes it."""
    if not re.fullmatch(r"[a-z0-9_]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of up to 64 of a-z, 0-9 and _")
    return text


def _coloured() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _paint(word: str, tone: str) -> str:
    return f"\x1b[{_COLOURS[tone]}m{word}\x1b[0m" if tone in _COLOURS else word
