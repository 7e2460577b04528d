# SPDX-License-Identifier: GPL-2.0-only
"""What the user sees while a command works, on standard error.

A person at a terminal gets a few lines at its bottom that are drawn anew while
the work goes on; a log, a pipe and a dumb terminal get lines, now and then.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from harness.model.verdict import Outcome
from harness.report.text import one_line, plain

if TYPE_CHECKING:
    import rich.console
    import rich.live

    from harness.host.progress import Table

_STYLE = {Outcome.PASS: "32", Outcome.FAIL: "1;31", Outcome.ERROR: "1;33", Outcome.INCONCLUSIVE: "33"}
# Without a terminal, a stage prints a line when it has moved by this share, or when this time has passed.
_SHARE = 0.1
_QUIET_S = 5.0
# Without a terminal, a line says what is still going on when nothing was said for so long.
_STILL_S = 30.0
# A phase that took less leaves no line.
_WORTH_S = 1.0
# From then on, the pace of a bar tells its end.
_SURE_S = 3.0
# How often the lines at the bottom are drawn anew in a second.
_REFRESH_HZ = 4
# Columns: of the first word of a line; of a scenario's name; of a bar, which a narrow terminal does not get.
_FIRST, _NAME, _BAR, _NARROW = 12, 28, 20, 64
# Lines of the screen that are left to what was said before.
_SPARED = 8


@dataclass
class _Bar:
    """A stage that counts. total: 0 when nobody knows."""

    done: int
    total: int
    began: float = field(default_factory=time.monotonic)


@dataclass
class _Phase:
    """What is going on. detail: where it is."""

    name: str
    began: float = field(default_factory=time.monotonic)
    expected_s: float = 0.0
    detail: str = ""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began


class Terminal:
    """A harness.host.progress.View on standard error; a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        """quiet: nothing is said of what goes on, only what line() is given."""
        # https://no-color.org; a dumb terminal can move no cursor either.
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._quiet = quiet
        self._guard = threading.RLock()
        self._bars: dict[str, _Bar] = {}
        self._phase: _Phase | None = None
        self._look: Callable[[], Table] | None = None
        self._rich: rich.live.Live | None = None
        self._told: dict[str, tuple[float, float]] = {}
        self._said = time.monotonic()
        self._over = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._ticker is not None:
            self._ticker.join()
        # Its thread draws under our lock.
        if self._rich is not None:
            self._rich.stop()
        with self._guard:
            self._rich = None
            self._bars.clear()
            self._phase = self._look = None

    def say(self, text: str) -> None:
        """A line of its own, above what is drawn."""
        if not self._quiet:
            self.line(plain(text))

    def line(self, text: str) -> None:
        """A line that is already safe to print."""
        with self._guard:
            self._said = time.monotonic()
            self._end_bars()
            drawn = self._rich
            if drawn is None:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        # Its own lock is taken before ours by its thread.
        if drawn is not None:
            import rich.text

            # The colours are ours: everything else was made safe.
            drawn.console.print(rich.text.Text.from_ansi(text), soft_wrap=True, highlight=False)
            drawn.refresh()

    def lines(self, texts: Iterable[str]) -> None:
        """Lines that are already safe to print."""
        for text in texts:
            self.line(text)

    def advance(self, stage: str, done: int, total: int) -> None:
        """A bar on a terminal, a line now and then elsewhere."""
        if self._quiet:
            return
        if self._live:
            with self._guard:
                self._draw()
                if stage not in self._bars:
                    self._end_bars()
                if total and done >= total:
                    self._bars.pop(stage, None)
                else:
                    bar = self._bars.setdefault(stage, _Bar(done, total))
                    bar.done, bar.total = done, total
            return
        share = done / total if total else 0.0
        with self._guard:
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

    def phase(self, name: str) -> None:
        """Begin a phase. The one before leaves a line on a terminal, if it took a person's time."""
        if self._quiet:
            return
        with self._guard:
            ended, self._phase = self._phase, _Phase(name) if name else None
            if name and self._live:
                self._draw()
            elif name:
                self._tick()
        # What ran in the last one has told its end by itself.
        if ended and self._live and not self._look and ended.elapsed_s >= _WORTH_S:
            self.line(f"{ended.name:{_FIRST}} {duration(ended.elapsed_s)}")

    def expect(self, seconds: float) -> None:
        """Note how long the phase is likely to go on."""
        with self._guard:
            if self._phase:
                self._phase.expected_s = self._phase.elapsed_s + seconds

    def detail(self, what: str) -> None:
        """Note where the phase is."""
        with self._guard:
            if self._phase:
                self._phase.detail = what

    def watch(self, look: Callable[[], Table] | None) -> None:
        """Note how to look at the scenarios of a run."""
        with self._guard:
            self._look = look

    @property
    def width(self) -> int:
        """How many columns a terminal has; 0 for what is none."""
        return _size()[0] if self._live else 0

    def _draw(self) -> None:
        """Begin to draw at the bottom of the terminal; call it with the lock."""
        if self._rich is not None:
            return
        import rich.console
        import rich.live

        console = rich.console.Console(file=sys.stderr, no_color=not self._coloured, highlight=False, markup=False)
        self._rich = rich.live.Live(
            get_renderable=self._drawn, console=console, transient=True, refresh_per_second=_REFRESH_HZ,
            redirect_stdout=False, redirect_stderr=False, vertical_overflow="crop",
        )  # fmt: skip
        self._rich.start()

    def _drawn(self) -> rich.console.RenderableType:
        """What is at the bottom now: no line is longer than the terminal is wide, none wraps."""
        import rich.text

        columns, rows = _size()
        lines = list(self.bottom(columns))[: max(1, rows - _SPARED)]
        return rich.text.Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def bottom(self, columns: int) -> Iterator[str]:
        """The lines that are drawn on a terminal of so many columns."""
        with self._guard:
            phase, bars, look = self._phase, dict(self._bars), self._look
        now = time.monotonic()
        cut = max(columns - 1, 1)
        if phase and not look:
            yield _cut(f"{phase.name:{_FIRST}} {_since(phase)}{_behind(phase.detail)}", cut)
        for stage, bar in bars.items():
            yield _cut(_counted(stage, bar, now - bar.began, columns), cut)
        if look:
            yield from (_cut(line, cut) for line in _rows(look(), columns))

    def _end_bars(self) -> None:
        """Remove the bars of which nobody says when they are done: something else has begun."""
        self._bars = {stage: bar for stage, bar in self._bars.items() if bar.total}

    def _tick(self) -> None:
        """Say in a log, too, that something is still going on."""
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._ticking, name="ticker", daemon=True)
            self._ticker.start()

    def _ticking(self) -> None:
        while not self._over.wait(1.0):
            self.still(time.monotonic())

    def still(self, now: float) -> None:
        """Say what is going on, if nothing was said for long. now: as time.monotonic() has it."""
        with self._guard:
            if now - self._said < _STILL_S or self._phase is None:
                return
            phase, look = self._phase, self._look
        lines = list(_rows(look(), _NARROW)) if look else [f"{phase.name}: {_since(phase)}{_behind(phase.detail)}"]
        self.line(f"still at work: {'; '.join(' '.join(line.split()) for line in lines[:3])}")

    def colour(self, outcome: Outcome, word: str = "") -> str:
        """The outcome's word, or `word`, padded to a column; in the outcome's colour on a terminal."""
        word = f"{word or outcome.value:12}"
        return f"\x1b[{_STYLE[outcome]}m{word}\x1b[0m" if self._coloured else word

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


def _size() -> tuple[int, int]:
    """Columns and rows; those of the smallest terminal that is usual where it does not say."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or 80, rows or 24


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _since(phase: _Phase) -> str:
    """How long a phase has gone on, and how long it is likely to take."""
    said = duration(phase.elapsed_s)
    return f"{said} of about {duration(phase.expected_s)}" if phase.expected_s >= _WORTH_S else said


def _behind(detail: str) -> str:
    return f"  {one_line(detail, 200)}" if detail else ""


def _counted(stage: str, bar: _Bar, seconds: float, columns: int) -> str:
    said = f"{bar.done} of {bar.total}" if bar.total else f"{bar.done}"
    drawn = ""
    if bar.total and columns >= _NARROW:
        full = min(_BAR, _BAR * bar.done // bar.total)
        drawn = f"{'━' * full}{'╌' * (_BAR - full)}  "
    left = ""
    if bar.total and bar.done and seconds >= _SURE_S:
        left = f", about {duration(seconds / bar.done * (bar.total - bar.done))} left"
    return f"{one_line(stage):{_FIRST}} {drawn}{said}  {duration(seconds)}{left}"


def _rows(table: Table, columns: int) -> Iterator[str]:
    """The scenarios of a run: all of them in a line, and one line for each that runs."""
    ended = ", ".join(f"{number} {word}" for word, number in table.ended)
    about = f", about {duration(table.left_s)}" if table.left_s >= _WORTH_S else ""
    left = f"{table.left} left{about}" if table.left else "none left"
    yield f"{'scenarios':{_FIRST}} {'; '.join(filter(None, (ended, f'{len(table.running)} running', left)))}"
    name = max(_FIRST, min(_NAME, columns - _NAME))
    for one in sorted(table.running, key=lambda one: -one.seconds):
        yield f"  {one_line(one.name, name):{name}} {duration(one.seconds):>6}{_behind(one.doing)}"


def _cut(line: str, columns: int) -> str:
    """A line that fits, by the cells that a terminal gives its characters."""
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1) + "…"
