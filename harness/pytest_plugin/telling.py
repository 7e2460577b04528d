# SPDX-License-Identifier: GPL-2.0-only
"""What a person is told of a test that failed: decoded stacks, events, post-mortem, and how to do it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin import sessions

if TYPE_CHECKING:
    from harness.pytest_plugin.guest import Guest
    from harness.run.session import Session
    from harness.run.watching import Watched

# How many events are shown.
_EVENTS = 24


def decoded(session: Session, texts: Sequence[str], loaded: Sequence[Path]) -> list[str]:
    """Reports with file and line behind each function, or as they are, when their kernel can no longer be asked."""
    from harness.model.errors import HarnessError
    from harness.report.text import plain

    try:
        return session.decoded(texts, loaded)
    except HarnessError as error:
        return [*map(plain, texts), plain(f"no source lines: {error}")]


def sections(guest: Guest) -> Iterator[tuple[str, str]]:
    """Title → text of what is known of a guest beside the findings."""
    for number, life in enumerate(guest.lives, 1):
        suffix = f", boot {number}" if len(guest.lives) > 1 else ""
        if events := _events(life):
            yield f"kernel events{suffix}", "\n".join(events)
        if cause := _cause(life):
            yield f"kernel post-mortem{suffix}", cause


def repeat(item: pytest.Item, lives: Sequence[Watched] = ()) -> str:
    """The command that runs a test again on the same kernel, from where pytest was started.

    lives: of the test's guest, of which each that was given steps has left a scenario that has them.
    """
    here = item.config.invocation_params.dir
    path, colons, rest = item.nodeid.partition("::")
    place = os.path.relpath(item.config.rootpath / path, here)
    words = ["pytest", *sessions.chosen(item.config)]
    kept = [str(life.driven.kept) for life in lives if life.driven.kept.exists()]
    commands = [
        shlex.join([*words, f"{place}{colons}{rest}"]),
        *(f"{shlex.join([*words, path])}    # its steps" for path in kept),
    ]
    return "\n".join(commands)


def _events(life: Watched) -> list[str]:
    from harness.model import event
    from harness.model.errors import HarnessError
    from harness.report import around

    try:
        log = event.read(life.driven.events)
        texts = [finding.evidence for finding in life.result.findings] if life.result else []
        number = next((found for text in texts if (found := around.named(text)) is not None), None)
        recording = life.driven.recorded()
        events = around.last(log, _EVENTS) if number is None else around.near(log, number, _EVENTS)
        return around.lines(events, recording.subscriber, number)
    except HarnessError:
        return []


def _cause(life: Watched) -> str:
    from harness.postmortem import examine
    from harness.report.text import plain

    return plain(examine.cause(life.machine.console.log.parent))
