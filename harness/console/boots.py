# SPDX-License-Identifier: GPL-2.0-only
"""Which boot of a machine a line of its console is from, and whether the machine was reset in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.console.lines import Record

# So many lines of two boots have the same time, to the microsecond, only if they are the same lines.
_MOVES = 3


@dataclass
class Boots:
    """Counts boots from 1. undecided: a kernel has begun, and its clock does not move yet.

    heard: there was something before; SeaBIOS comes first of all, unless coreboot started it.
    """

    number: int = 1
    undecided: bool = False
    heard: bool = False
    _kernel: bool = False
    _stamped: bool = False
    _firmware: bool = False
    _counted: bool = False
    _first: list[tuple[float, str]] = field(default_factory=list)
    _steps: int = 0
    _reset: bool = False

    def begins(self, record: Record, time_s: float) -> bool:
        """A kernel, or the firmware before it, begins when the clock was at time_s; returns whether that is a reset."""
        if not record.text.lstrip().startswith("Linux version"):
            ran = self._kernel or (time_s > 1.0 and not self._firmware)
            early = record.text.startswith("SeaBIOS") and self.heard and not self._firmware
            self._kernel, self._firmware = False, True
            return self._count(ran or early, record)
        if self._kernel and record.time_s is None and self._stamped:
            # A program shows /proc/version.
            return False
        went_on = record.time_s is not None and 1.0 < time_s <= record.time_s
        again = self._kernel or (time_s > 1.0 and not self._firmware)
        self._kernel, self._firmware, self._stamped = True, False, record.stamped
        if went_on:
            return False
        reset = self._count(again, record)
        self._reset, self._steps = again, 0
        self.undecided = record.stamped and (again or not self._first)
        return reset

    def marked(self) -> None:
        """Journalctl says that another boot begins."""
        self.number += self._kernel
        self._counted = self._kernel

    def moves(self, time_s: float, text: str) -> bool | None:
        """The clock of the last boot moves with this line; returns whether it is the first boot again, dumped anew.

        None while that is not known yet.
        """
        if not self._reset:
            self._first.append((time_s, text))
            self.undecided = len(self._first) < _MOVES
            return None
        same = self._steps < len(self._first) and self._first[self._steps] == (time_s, text)
        self._steps += 1
        if same and self._steps < _MOVES:
            return None
        self.undecided = False
        self.number -= same
        return same

    def _count(self, again: bool, record: Record) -> bool:
        counted, self._counted = self._counted, False
        self.number += again and not counted
        # What journald and syslogd keep goes over many boots.
        return again and not record.journal
