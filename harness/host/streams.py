# SPDX-License-Identifier: GPL-2.0-only
"""Standard input, output and error as every command finds them: open, and able to print any text."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

_STDOUT, _STDERR = 1, 2


class _Errors(io.FileIO):
    """Standard error. What it cannot take is lost: no verdict depends on it."""

    def write(self, raw: Any, /) -> int:
        try:
            return super().write(raw)
        except OSError:
            return len(raw)


def prepare() -> None:
    """Open what is closed, on /dev/null: it would give its number to the next file that is opened.

    Text that the encoding of a stream lacks is escaped.
    """
    for number in (0, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as we do
    # A write() in Python could be interrupted when all is written, and would be repeated: only errors have one.
    sys.stdout = _text(io.FileIO(_STDOUT, "w", closefd=False), sys.stdout, lines=os.isatty(_STDOUT))
    sys.stderr = _text(_Errors(_STDERR, "w", closefd=False), sys.stderr, lines=True)


def _text(raw: io.FileIO, before: io.TextIOBase | Any, *, lines: bool) -> io.TextIOWrapper:
    encoding = before.encoding if before else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=lines)


def output_fault() -> OSError | None:
    """Why standard output takes nothing more; None when it took all. What it did not take is dropped.

    Python itself would end with status 120, which git bisect takes as *bad*.
    """
    try:
        sys.stdout.flush()
    except OSError as fault:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.close(nowhere)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        return fault
    return None
