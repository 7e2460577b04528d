# SPDX-License-Identifier: GPL-2.0-only
"""What `harness matrix` and `harness merge` share: where a matrix directory goes, and its last lines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.matrix.summary import Summary
    from harness.terminal import Terminal

FOLDER = "matrices"
# Jobs that are told on a terminal; the report has all.
_SHOWN = 50


def fresh(cache: Path, plan: str, part: str) -> Path:
    """A folder in the cache for a new matrix."""
    name = "-".join(filter(None, (time.strftime("%Y%m%d-%H%M%S"), Path(plan).name or "plan", part)))
    return cache / FOLDER / name


def before(folder: Path | None, terminal: Terminal) -> Summary | None:
    """What another night came to. The first night has none before it."""
    from harness.matrix import summary
    from harness.report.text import one_line

    if folder is None:
        return None
    if not folder.exists():
        terminal.say(f"--since {one_line(str(folder))}: there is no such folder; this is taken for the first night")
        return None
    return summary.read(folder)


def lines(told: Summary, folder: Path, terminal: Terminal) -> Iterator[str]:
    """The last lines of a matrix."""
    from harness.matrix import result
    from harness.model.verdict import Outcome
    from harness.report import matrix
    from harness.report.text import flat, one_line

    for cause in result.over_all(told.results)[:_SHOWN]:
        where = one_line(", ".join(cause.where))
        yield f"{'cause':12} [{one_line(cause.oracle)}] {one_line(cause.summary)}: in {where}"
    wrong = [one for one in told.results if one.counted is not Outcome.PASS]
    for one in wrong[:_SHOWN]:
        new = " (new)" if one.job.name in told.new else ""
        yield f"{terminal.colour(one.counted)} {one.job.name}{new}: {one_line(one.reason)}"
        yield f"{'':12} {flat(one.job.command)}"
    if len(wrong) > _SHOWN:
        yield f"{'':12} {len(wrong) - _SHOWN} more in the report"
    if told.not_run:
        yield f"{'not run':12} {one_line(', '.join(told.not_run))}"
    for command in told.searches:
        yield f"{'search':12} {flat(command)}"
    yield f"{'report':12} {flat(str(folder))}/report.html"
    part = f", shard {told.shard}" if told.shard else ""
    yield f"{terminal.colour(told.outcome)} {one_line(told.plan)}{part}: {matrix.said(told.document())}"
