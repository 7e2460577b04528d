# SPDX-License-Identifier: GPL-2.0-only
"""docs/how-to/history.md: its commands run as they are typed, and its words and numbers are those of the code."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from pathlib import Path

import pytest

from harness import cli
from harness.commands import gc, history
from harness.history import change, nights, store, text
from harness.host import collect
from tests.unit.test_history_store import a_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/history.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ harness (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "cache" / "runs" / "20260101-000000")

    assert cli.main(shlex.split(command)) == 0
    if "--out" in command:
        assert (tmp_path / "history.html").is_file()


def test_each_option_and_word_that_it_names_exists() -> None:
    known = set()
    for options in (history.options, gc.options):
        parser = argparse.ArgumentParser()
        options(parser)
        known |= {word for action in parser._actions for word in action.option_strings}
    # Of harness run and report.
    known |= {"--out"}

    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known
    words = re.findall(r"^\| ([a-z ]+) \| ", PAGE.partition("## The words")[2].partition("## Chance")[0], re.MULTILINE)
    said = inspect.getsource(text) + inspect.getsource(history)
    assert [word for word in words[1:] if f'"{word}"' not in said and f"'{word}'" not in said] == []
    assert len(words) == 11


def test_its_numbers_are_those_of_the_code() -> None:
    keep = collect.Keep()

    assert f"newest {keep.runs} runs" in PAGE
    assert f"last {keep.days:g} days, and those that failed for {keep.days * collect._FAILED_LONGER:g}" in PAGE
    assert f"up to {nights.LOOKBACK_S / nights.DAY_S:g} days" in PAGE
    assert f"less than {nights._LUCK:.0%}".replace("%", " %") in PAGE
    assert change.ALARM == 1 / 100
    assert f"history/{store.NAME}" in PAGE
