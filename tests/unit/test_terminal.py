# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while a command works, on a terminal that is none of this test's."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from harness import terminal as terminals
from harness.model.verdict import Outcome
from harness.terminal import Terminal


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
        terminal.advance("compile", 3, 0)

    assert screen.getvalue() == "compile: 3\n"


def bars(terminal: Terminal) -> dict[str, float | None]:
    """What each bar that is drawn counts to."""
    assert terminal._rich is not None
    return {task.description: task.total for task in terminal._rich.tasks}


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("stage", ["compile", "compile\x1b[1m"])
def test_a_bar_without_an_end_goes_when_something_else_begins(stage: str) -> None:
    """Its builder never says that it is done; one that is still at work comes back, whatever it is called."""
    with Terminal() as terminal:
        terminal.advance(stage, 1, 0)
        assert list(bars(terminal).values()) == [None]
        terminal.advance("unpack", 1, 10)
        assert bars(terminal) == {"unpack": 10}

        terminal.advance(stage, 2, 0)
        assert len(bars(terminal)) == 2
        terminal.say("building module types")
        assert bars(terminal) == {"unpack": 10}
        terminal.advance("unpack", 10, 10)
        assert bars(terminal) == {}
