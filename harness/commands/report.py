# SPDX-License-Identifier: GPL-2.0-only
"""harness report: write the reports of finished runs again, compare runs, write a trace, or a page of the history.

The runs are judged again for it. With several, each is compared with the first.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import _options, judge
from harness.host import workspace
from harness.model import files
from harness.model.errors import UsageError, unreadable
from harness.report.text import one_line

if TYPE_CHECKING:
    from harness.model.event import EventLog
    from harness.report.timeline import Timeline

# A path of the user's and a hundred lines of ours.
_LIMIT_BYTES = 1 << 20


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.runs(parser, "*")
    judge.json(parser)
    parser.add_argument(
        "--perfetto",
        type=Path,
        metavar="FILE",
        help="the event log of one run as a trace for ui.perfetto.dev and trace_processor; "
        "compressed if FILE ends in .gz",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the comparison of two runs goes (default: RUN/comparison.html), or the page of --history",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="no run: a page of what is new, fixed, flaky, slower or exercised less, as harness history tells it",
    )
    _options.since(parser)
    parser.add_argument(
        "--print-recipe",
        action="store_true",
        help="judge nothing: print the commands that made each run's kernel and boot it, as a shell script",
    )


def main(arguments: argparse.Namespace) -> int:
    """Judge each run again, and write what is asked for, or print the recipes; the exit code is that of the worst."""
    from harness.report import comparison, document
    from harness.terminal import Terminal

    runs: list[Path] = arguments.runs
    if arguments.history:
        return _history(arguments)
    if not runs:
        raise UsageError("no run is named", "harness report last, or harness report --history")
    if arguments.since:
        raise UsageError("--since: is for --history", "harness report --history --since 7d")
    if arguments.print_recipe:
        return _print_recipes(runs)
    if arguments.perfetto and len(runs) > 1:
        raise UsageError(f"--perfetto: one run at a time ({len(runs)} are named)", "harness report RUN --perfetto FILE")
    if arguments.out and len(runs) != 2:
        raise UsageError(
            f"--out: is for the comparison of two runs ({len(runs)} named)", "harness report RUN RUN --out FILE"
        )
    for path in filter(None, (arguments.perfetto, arguments.out)):
        _demand_place(path)
    status = judge.main(arguments)
    with Terminal() as terminal:
        for run in runs[1:]:
            place = arguments.out or run / comparison.NAME
            before, after = document.glance(runs[0]), document.glance(run)
            _write(place, comparison.render(before, after, (str(runs[0]), str(run))))
            terminal.lines([f"{'comparison':12} {one_line(str(place), 1000)}"])
        if arguments.perfetto:
            count = _trace(runs[0], arguments.perfetto)
            terminal.lines([f"{'trace':12} {one_line(str(arguments.perfetto), 1000)}: {count:,} entries"])
    return status


def _history(arguments: argparse.Namespace) -> int:
    """Write the page of the history."""
    from harness.history import keeping, nights, page, store
    from harness.terminal import Terminal

    excluded = {
        "a run": arguments.runs,
        "--perfetto": arguments.perfetto,
        "--print-recipe": arguments.print_recipe,
        "--json": arguments.json,
    }
    if others := [name for name, given in excluded.items() if given]:
        raise UsageError(f"--history beside {', '.join(others)}: it is about all runs", "harness report --history")
    if arguments.out:
        _demand_place(arguments.out)
    cache, now_s = workspace.cache_dir(), time.time()
    place = arguments.out or store.place(cache).with_name(page.NAME)
    with Terminal() as terminal:
        with keeping.opened(cache, terminal) as held:
            night = nights.recent(held, arguments.since(now_s) if arguments.since else now_s - nights.DAY_S, now_s)
            left_out = {folder: reason for folder, reason in held.left_out().items() if reason}
        _write(place, page.render(night, left_out))
        terminal.lines([f"{'history':12} {one_line(str(place), 1000)}"])
    return 0


def _write(path: Path, text: str) -> None:
    with _file_of_the_user(path):
        workspace.write_atomic(path, text)


def _trace(run: Path, path: Path) -> int:
    from harness.report import perfetto

    with _file_of_the_user(path):
        part = path.with_name(f".{path.name}.part{path.suffix}")
        try:
            with workspace.space(path.parent):
                count = perfetto.write(part, _logs(run))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return count


def _logs(run: Path) -> Iterator[tuple[str, EventLog, Timeline]]:
    from harness.model import recording as recordings
    from harness.report import document, timeline
    from harness.run import earlier

    for result in document.glance(run).scenarios:
        place = run / result.name
        if (place / "record.json").exists():
            recording = recordings.read(place, earlier.scenario_of(place, result.name))
            yield result.name, recording.events, timeline.of(recording, result.findings)


@contextlib.contextmanager
def _file_of_the_user(path: Path) -> Iterator[None]:
    """What cannot be written in the block is told with its name."""
    try:
        yield
    except PermissionError as refused:
        raise UsageError(f"{path}: {refused.strerror}", "name a file that you may write") from None


def _demand_place(path: Path) -> None:
    """Raise UsageError for a file that cannot be, before the runs are judged for it."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", "name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}")


def _print_recipes(runs: Sequence[Path]) -> int:
    from harness.run import pipeline, recipe

    for folder in runs:
        name = f"{pipeline.RECIPE}/{recipe.SCRIPT}"
        place = folder / name
        try:
            if not files.is_below(folder, name):
                raise UsageError(
                    f"{folder}: holds no {name}: an earlier version made this run", "harness run --print-recipe"
                )
            text = files.read(place, _LIMIT_BYTES)
        except (OSError, ValueError) as fault:
            raise unreadable(fault, f"{place}: {fault}", "harness run --print-recipe") from None
        _options.print_script(text.decode("utf-8", errors="surrogateescape"))
    return 0
