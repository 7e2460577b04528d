# SPDX-License-Identifier: GPL-2.0-only
"""Standard input, output and error as every command finds them: open, and able to print any text."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

# What an OSError of standard output names in place of a file.
OUTPUT = "standard output"

_STDOUT, _STDERR = 1, 2


class _Stream(io.FileIO):
    """A standard stream. What standard error cannot take is lost: no verdict depends on it."""

    def write(self, raw: Any, /) -> int:
        try:
            return super().write(raw)
        except OSError as error:
            if self.fileno() == _STDERR:
                return len(raw)
            raise OSError(error.errno, error.strerror, OUTPUT) from None


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
    sys.stdout = _text(_STDOUT, sys.stdout)
    sys.stderr = _text(_STDERR, sys.stderr)


def _text(number: int, before: io.TextIOBase | Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(number, "w", closefd=False)),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=number == _STDERR or os.isatty(number),
    )


def drop_output() -> None:
    """Send what is still to be written on standard output to nowhere; Python would end with status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
