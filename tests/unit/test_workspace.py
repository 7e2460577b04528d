# SPDX-License-Identifier: GPL-2.0-only
"""Paths, locks, and writes that are whole or absent."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from harness.host import workspace
from harness.model.errors import OutOfSpace
from tests.unit.conftest import Said


def test_keys_see_where_a_part_ends():
    """The same letters in different parts make another key."""
    assert workspace.digest("ab", "c") != workspace.digest("a", "bc")
    assert workspace.digest("ab") == workspace.digest(b"ab")
    assert len(workspace.digest()) == 20


def test_a_write_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure leaves the old file and no leftovers."""
    target = tmp_path / "f"
    workspace.write_atomic(target, "old")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutOfSpace, match="no space left"):
        workspace.write_atomic(target, "new")

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_published_whole(tmp_path: Path):
    """It appears when it is done, and the leftovers of a killed process go."""
    target = tmp_path / "t"
    (tmp_path / ".t.stale").mkdir()

    with workspace.publishing(target) as fresh:
        (fresh / "f").write_text("x")
        assert not target.exists()

    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert (target / "f").read_text() == "x"


def test_a_folder_that_failed_is_not_published(tmp_path: Path):
    """Nothing is left of it."""
    with pytest.raises(ZeroDivisionError), workspace.publishing(tmp_path / "t"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_waited_for_and_says_so(tmp_path: Path, said: Said):
    """One holder at a time, and a waiting process says what it waits for."""
    order: list[str] = []
    waiting = threading.Event()

    class Waiting(Said):
        def say(self, text: str) -> None:
            super().say(text)
            waiting.set()

    heard = Waiting()

    def second() -> None:
        with workspace.lock(tmp_path / "l", heard, "the tree"):
            order.append("second")

    thread = threading.Thread(target=second)
    with workspace.lock(tmp_path / "l", said):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]
    assert heard.lines == ["the tree: another harness is at work on it, waiting"]
    assert said.lines == []


def test_the_cache_may_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """$HARNESS_CACHE is where everything goes."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "c"))

    assert workspace.cache_dir() == tmp_path / "c"
