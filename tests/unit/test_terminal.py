# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while a command works, on a terminal that is none of this test's."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pexpect
import pyte
import pytest

from harness import terminal as terminals
from harness.host.progress import QUIET, Running, Table, View, view
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import lines
from harness.terminal import Terminal, duration
from tests.unit.conftest import Said

ROOT = Path(__file__).resolve().parents[2]


class Screen(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(terminals, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard error that is a file."""
    log = io.StringIO()
    monkeypatch.setattr(terminals, "sys", SimpleNamespace(stderr=log))
    return log


def test_an_outcome_has_its_colour_on_a_terminal(screen: Screen) -> None:
    assert Terminal().colour(Outcome.FAIL) == "\x1b[1;31mfail        \x1b[0m"
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
@pytest.mark.usefixtures("screen")
def test_none_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    assert Terminal().colour(Outcome.FAIL) == "fail        "


def test_a_dumb_terminal_gets_lines_and_no_bar(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with Terminal() as terminal:
        terminal.phase("build")
        terminal.advance("compile", 3, 0)

    assert screen.getvalue() == "compile: 3\n"


def bars(terminal: Terminal) -> list[str]:
    """The first word of each line that is drawn."""
    return [line.split()[0] for line in terminal.bottom(80)]


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("stage", ["compile", "compile\x1b[1m"])
def test_a_bar_without_an_end_goes_when_something_else_begins(stage: str) -> None:
    """Its builder never says that it is done; one that is still at work comes back, whatever it is called."""
    with Terminal() as terminal:
        terminal.advance(stage, 1, 0)
        assert len(bars(terminal)) == 1
        terminal.advance("unpack", 1, 10)
        assert bars(terminal) == ["unpack"]

        terminal.advance(stage, 2, 0)
        assert len(bars(terminal)) == 2
        assert "\x1b" not in "".join(terminal.bottom(80))
        terminal.say("building module types")
        assert bars(terminal) == ["unpack"]
        terminal.advance("unpack", 10, 10)
        assert bars(terminal) == []


def table() -> Table:
    """A run half-way."""
    running = [Running("memcg-eagain-with-a-name-that-never-ends", 75, "step 4, charge size=40M"), Running("a", 2, "")]
    return Table((("pass", 12), ("fail", 1)), running, 66, 200)


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_at_the_bottom_is_wider_than_the_terminal(columns: int) -> None:
    with Terminal() as terminal:
        terminal.phase("build")
        terminal.expect(185)
        terminal.detail("drivers/gpu/drm/amd/display/dc/dml/dcn30/display_rq_dlg_calc_30.o" * 3)
        terminal.advance("compile", 512, 1347)
        drawn = list(terminal.bottom(columns))
        terminal.watch(table)
        drawn += terminal.bottom(columns)

    assert all(len(line) < columns for line in drawn)
    if columns >= 80:
        assert "of about 3 min 05 s  drivers/gpu" in drawn[0]
        assert "512 of 1347" in drawn[1]
        assert "scenarios    12 pass, 1 fail; 2 running; 66 left, about 3 min 20 s" in drawn
        assert "memcg-eagain-with-a-name-th… 1 min 15 s  step 4, charge" in drawn[-2]


def test_a_phase_that_has_ended_leaves_a_line(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "_WORTH_S", 0)
    with Terminal() as terminal:
        terminal.phase("source")
        terminal.phase("")

    assert "source       0.0 s" in screen.getvalue()


def test_a_log_gets_a_line_when_nothing_was_said_for_long(log: io.StringIO) -> None:
    with Terminal() as terminal:
        terminal.phase("build")
        terminal.detail("mm/vmscan.o")
        terminal.still(time.monotonic() + 29)
        assert log.getvalue() == ""
        terminal.still(time.monotonic() + 31)
        assert log.getvalue() == "still at work: build: 0.0 s mm/vmscan.o\n"
        terminal.still(time.monotonic() + 29)
        terminal.watch(table)
        terminal.still(time.monotonic() + 31)

    assert log.getvalue().splitlines()[1] == (
        "still at work: scenarios 12 pass, 1 fail; 2 running; 66 left, about 3 min 20 s; "
        "memcg-eagain-with-a-name-th… 1 min 15 s step 4, charge size=40M; a 2.0 s"
    )


def test_who_wants_to_hear_nothing_hears_what_is_printed_and_no_more(log: io.StringIO) -> None:
    with Terminal(quiet=True) as terminal:
        terminal.phase("build")
        terminal.say("building")
        terminal.advance("compile", 10, 10)
        terminal.still(time.monotonic() + 1000)
        terminal.line("fail")

    assert log.getvalue() == "fail\n"


def test_only_who_looks_on_is_told_what_goes_on(said: Said) -> None:
    view(said).phase("build")

    assert view(said) is QUIET
    assert isinstance(QUIET, View)
    assert isinstance(Terminal(), View)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.7, "60 s"),
        (61, "1 min 01 s"),
        (7320, "2 h 02 min"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("width", [0, 20, 40, 79, 80, 100, 200])
def test_the_line_of_a_result_does_not_wrap(width: int) -> None:
    exercised = {"callbacks": 8192, "direct_reclaim": 8192, "mayfail": 8192, "eagain": 4096}
    result = ScenarioResult("memcg-eagain-numa-balancing", Outcome.PASS, exercised=exercised, seconds=21.1)
    told = next(lines.Told(lambda outcome, word: f"{word or outcome.value:12}", width).result(result))

    assert not width or len(told) <= max(width, 32)
    assert "21.1 s" in told
    assert ("eagain 4096" in told) == (width in (0, 200))
    if width == 100:
        assert told.endswith("direct_reclaim 8192, …")


PROGRAM = """
import os, sys
from harness.host.progress import Running, Table
from harness.model.verdict import Outcome
from harness.terminal import Terminal

with Terminal() as terminal:
    terminal.phase("build")
    terminal.detail("drivers/" + "x" * 300)
    terminal.advance("compile", 512, 1347)
    terminal.line(terminal.colour(Outcome.FAIL) + "memcg-eagain")
    rows = [Running(f"scenario-{n}", n, "step 4, charge") for n in range(40)]
    terminal.watch(lambda: Table((("pass", 12),), rows, 66, 200))
    terminal.line("looks on")
    # Moves no cursor.
    os.write(2, b"\\x1b[39;39m")
    sys.stdin.readline()
print("done", flush=True)
"""


def run(columns: int, rows: int, **environment: str) -> tuple[list[str], list[str], str]:
    """What a real terminal shows while the program above works, and after it; and all that was written."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)
    clean = {name: word for name, word in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    child = pexpect.spawn(
        sys.executable,
        ["-c", PROGRAM],
        dimensions=(rows, columns),
        encoding="utf-8",
        timeout=60,
        cwd=str(ROOT),
        echo=False,
        env={**clean, "TERM": "xterm-256color", **environment},
    )
    child.expect_exact("\x1b[39;39m")
    said = str(child.before)
    stream.feed(said)
    during = [line.rstrip() for line in screen.display]
    child.sendline("")
    child.expect(pexpect.EOF)
    rest = str(child.before)
    stream.feed(rest)
    child.close()
    return during, [line.rstrip() for line in screen.display if line.strip()], said + rest


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12), (200, 50)])
def test_a_real_terminal_shows_what_goes_on_and_forgets_it(columns: int, rows: int) -> None:
    during, after, said = run(columns, rows)

    assert "fail        memcg-eagain" in during[0]
    assert sum("scenarios  " in line for line in during) == 1, during
    assert sum("scenario-" in line for line in during) == min(40, rows - 10)
    assert "\x1b[1;31m" in said
    assert after[0] == "fail        memcg-eagain"
    assert after[-1] == "done"
    assert not any("scenario-" in line or "compile" in line for line in after)


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_real_terminal_without_colours_gets_none(name: str, value: str) -> None:
    _, after, said = run(80, 24, **{name: value})

    assert "\x1b[1;31m" not in said
    assert "[31" not in said
    assert ("\x1b" in said) == (name == "NO_COLOR")
    assert "fail        memcg-eagain" in after
