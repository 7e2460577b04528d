# SPDX-License-Identifier: GPL-2.0-only
"""What the user sees while a command works: bars and lines on standard error; only lines if it is no terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from harness.model.verdict import Outcome
from harness.report.text import plain

if TYPE_CHECKING:
    import rich.progress

_STYLE = {Outcome.PASS: "32", Outcome.FAIL: "1;31", Outcome.ERROR: "1;33", Outcome.INCONCLUSIVE: "33"}
# Without a terminal, a stage prints a line when it has moved by this share, or when this time has passed.
_SHARE = 0.1
_QUIET_S = 5.0


class Terminal:
    """A harness.host.progress.Progress on standard error; a context manager."""

    def __init__(self) -> None:
        # https://no-color.org; a dumb terminal can move no cursor either.
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._guard = threading.RLock()
        self._bars: dict[str, rich.progress.TaskID] = {}
        self._rich: rich.progress.Progress | None = None
        self._told: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._rich is not None:
                self._rich.stop()
                self._rich = None

    def say(self, text: str) -> None:
        """A line of its own, above any bar."""
        self.line(plain(text))

    def line(self, text: str) -> None:
        """A line that is already safe to print."""
        with self._guard:
            if self._rich is not None:
                self._end_bars()
                self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def lines(self, texts: Iterable[str]) -> None:
        """Lines that are already safe to print."""
        for text in texts:
            self.line(text)

    def advance(self, stage: str, done: int, total: int) -> None:
        """A bar on a terminal, a line now and then elsewhere."""
        with self._guard:
            if self._live:
                self._bar(stage, done, total)
                return
            share = done / total if total else 0.0
            last_share, last_time = self._told.get(stage, (-1.0, 0.0))
            now = time.monotonic()
            ended = bool(total) and done >= total
            if (
                (ended and last_share < 1)
                or now - last_time >= _QUIET_S
                or (share - last_share >= _SHARE and now - last_time >= 1)
            ):
                self._told[stage] = (share, now)
                self.line(f"{stage}: {done}" + (f" of {total} ({share:.0%})" if total else ""))

    def _bar(self, stage: str, done: int, total: int) -> None:
        import rich.console
        from rich import progress

        if self._rich is None:
            self._rich = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                console=rich.console.Console(stderr=True),
                transient=True,
            )
            self._rich.start()
        if stage not in self._bars:
            self._end_bars()
            self._bars[stage] = self._rich.add_task(plain(stage), total=total or None)
        self._rich.update(self._bars[stage], completed=done, total=total or None)
        if total and done >= total:
            self._rich.remove_task(self._bars.pop(stage))

    def _end_bars(self) -> None:
        """Remove the bars of which nobody says when they are done: something else has begun."""
        assert self._rich is not None
        endless = {task.id for task in self._rich.tasks if task.total is None}
        for stage in [stage for stage, task in self._bars.items() if task in endless]:
            self._rich.remove_task(self._bars.pop(stage))

    def colour(self, outcome: Outcome, word: str = "") -> str:
        """The outcome's word, or `word`, padded to a column; in the outcome's colour on a terminal."""
        word = f"{word or outcome.value:12}"
        return f"\x1b[{_STYLE[outcome]}m{word}\x1b[0m" if self._coloured and self._rich is None else word

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """A table on a terminal, aligned columns elsewhere."""
        if self._live:
            import rich.console
            import rich.table

            drawn = rich.table.Table(*header)
            for row in rows:
                drawn.add_row(*row)
            rich.console.Console(stderr=True, markup=False).print(drawn)
            return
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
