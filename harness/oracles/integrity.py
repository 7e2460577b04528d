# SPDX-License-Identifier: GPL-2.0-only
"""Held pages stay what they are: the same pages, with the same content, in the state that each step demands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.model.recording import Answer, Recording
from harness.model.verdict import Finding

NAME = "integrity"


def judge(recording: Recording) -> Iterator[Finding]:
    """Wrong content that a check found, and replies that are not what the scenario expects."""
    for answer in recording.answers:
        if not answer.ok:
            continue
        bad = answer.reply.get("bad", 0)
        if isinstance(bad, int) and bad:
            yield Finding(
                NAME,
                f"{answer.doing}: pages with the wrong content",
                f"step {answer.step}: {bad} pages; {_answered(answer)}",
            )
        for key, wanted in answer.expect.items():
            got = answer.reply.get(key)
            if not holds(wanted, got, answer.reply):
                yield Finding(
                    NAME,
                    f"{answer.doing}: {key} is not {wanted}",
                    f"step {answer.step}: {key} is {got!r}, expected {wanted!r}; {_answered(answer)}",
                )


def _answered(answer: Answer) -> str:
    """A command and its reply, as a person reads them; the driver counts its own steps, which are no scenario's."""
    reply = ", ".join(f"{key} {value}" for key, value in answer.reply.items() if key not in ("step", "verb", "ok"))
    return f"{answer.command} answered {reply or 'ok'}"


def holds(wanted: Any, got: Any, reply: Mapping[str, Any]) -> bool:
    """Whether a reply's value meets an expectation: a value, 'all' (as many as `held`), '>= N', '<= N'."""
    if wanted == "all":
        return got is not None and got == reply.get("held", reply.get("pages"))
    if isinstance(wanted, str) and wanted[:2] in (">=", "<="):
        if not isinstance(got, int):
            return False
        limit = int(wanted[2:])
        return got >= limit if wanted[0] == ">" else got <= limit
    return bool(wanted == got)
