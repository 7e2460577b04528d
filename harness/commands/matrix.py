# SPDX-License-Identifier: GPL-2.0-only
"""harness matrix: many runs as one: kernels × patches × contracts × configurations × scenarios, from a plan."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import _matrix, _options
from harness.model.errors import LaunchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.matrix.engine import Selected
    from harness.matrix.executor import Executor
    from harness.matrix.plan import Plan
    from harness.matrix.summary import Summary
    from harness.terminal import Terminal


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("plan", type=Path, metavar="PLAN", help="a YAML file, as plans/nightly.yaml")
    parser.add_argument("--shard", default="", metavar="I/N", help="the Ith of N parts that take about as long")
    parser.add_argument(
        "--executor", default="local", metavar="WHERE", help="local (default), or dask:ADDRESS of a scheduler"
    )
    parser.add_argument("--source", default="", metavar="SOURCE", help="only the jobs of this kernel of the plan")
    _options.accel(parser)
    parser.add_argument(
        "--jobs", type=_options.positive, default=1, metavar="N", help="jobs at once on this machine (default 1)"
    )
    parser.add_argument("--again", action="store_true", help="run what has not changed since an earlier night, too")
    parser.add_argument(
        "--since",
        type=Path,
        metavar="DIR",
        help="the matrix directory of another night: its durations balance the shards, and what is worse than there "
        "is said to be new",
    )
    parser.add_argument("--dry-run", action="store_true", help="run nothing: print the jobs, and how long they take")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the matrix directory goes; the same one goes on where it was"
    )
    parser.add_argument("--json", action="store_true", help="matrix.json on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Run what has to run; the exit code is that of the worst job, by what is expected of it."""
    from harness.host import workspace
    from harness.matrix import engine, plan
    from harness.terminal import Terminal

    cache = workspace.cache_dir()
    wanted = plan.read(arguments.plan, kernel=arguments.source, accel=arguments.accel)
    with Terminal() as terminal:
        before = _matrix.before(arguments.since, terminal)
        if arguments.dry_run:
            selected = engine.select(
                wanted, arguments.shard, cache, terminal, again=arguments.again, before=before, fetches=False
            )
            print("\n".join(_jobs(selected)))
            return 0
        executor = _executor(arguments)
        folder, earlier = _folder(arguments, wanted, cache, terminal)
        selected = engine.select(
            wanted, arguments.shard, cache, terminal, again=arguments.again, earlier=earlier, before=before
        )
        terminal.say(_left(selected))
        try:
            told = engine.Run(selected, folder, cache, terminal).run(executor, before)
        except KeyboardInterrupt:
            terminal.say(f"{folder}: what has ended is kept; {_again(arguments, folder)} goes on")
            raise
        terminal.lines(_matrix.lines(told, folder, terminal))
    if arguments.json:
        print(json.dumps(told.document(), indent=1))
    return told.outcome.exit_code


def _jobs(selected: Selected) -> Iterator[str]:
    """Each job as a person types it, and how long all of them take."""
    from harness.terminal import duration

    for job in selected.jobs:
        done = selected.done.get(job.name)
        about = f"taken over, it ran {done.taken}" if done else f"about {duration(selected.durations.of(job))}"
        expected = f", must {job.expected.verdict.value}" if job.expected.verdict != "pass" else ""
        by = f" by {' or '.join(job.expected.oracles)}" if job.expected.oracles else ""
        yield f"# {job.title} ({about}{expected}{by})"
        yield job.command
    yield f"# {_left(selected)}"


def _left(selected: Selected) -> str:
    kernels = len({job.build for job in selected.left})
    taken = len(selected.jobs) - len(selected.left)
    where = f" of shard {selected.shard}" if selected.shard else ""
    minutes = max(1, round(selected.seconds / 60)) if selected.left else 0
    return (
        f"{_counted(len(selected.jobs), 'job')}{where}, {taken} taken over; {len(selected.left)} to run on "
        f"{_counted(kernels, 'kernel')}: about {_counted(minutes, 'minute')} one after another"
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _executor(arguments: argparse.Namespace) -> Executor:
    from harness.matrix.executor_local import Local
    from harness.model.strict_yaml import offer

    kind, _, address = arguments.executor.partition(":")
    if kind == "local" and not address:
        return Local(arguments.jobs)
    if kind == "dask" and address:
        try:
            from harness.matrix.executor_dask import Cluster
        except ImportError as fault:
            raise LaunchError(
                f"--executor {arguments.executor}: dask.distributed is not installed ({fault})",
                f"{shlex.quote(sys.executable)} -m pip install 'distributed>=2025.1'",
            ) from None
        return Cluster(address)
    raise UsageError(f"--executor {arguments.executor}: there is none", offer(kind, ["local", "dask:ADDRESS"]))


def _folder(
    arguments: argparse.Namespace, wanted: Plan, cache: Path, terminal: Terminal
) -> tuple[Path, Summary | None]:
    """The matrix directory, and what the same matrix came to there before it was ended."""
    from harness.host import workspace
    from harness.matrix import summary

    def same(place: Path) -> Summary | None:
        if not summary.is_matrix(place):
            return None
        found = summary.read(place)
        return found if (found.digest, found.shard) == (wanted.digest, arguments.shard) else None

    if arguments.out is not None:
        earlier = same(arguments.out)
        if earlier is None:
            return workspace.claim(arguments.out).absolute(), None
        place = arguments.out.absolute()
    else:
        places = sorted((cache / _matrix.FOLDER).glob("*"), reverse=True)
        place, earlier = next(((one, found) for one in places if (found := same(one)) and found.not_run), (None, None))
        if place is None:
            return workspace.claim(_matrix.fresh(cache, wanted.name, arguments.shard.replace("/", "of"))), None
    workspace.hold(place, str(place))
    terminal.say(f"{place}: goes on")
    return place, earlier


def _again(arguments: argparse.Namespace, folder: Path) -> str:
    words = ["harness", "matrix", str(arguments.plan)]
    words += ["--shard", arguments.shard] if arguments.shard else []
    words += ["--source", arguments.source] if arguments.source else []
    words += ["--accel", arguments.accel] if arguments.accel != "auto" else []
    words += ["--executor", arguments.executor] if arguments.executor != "local" else []
    words += ["--jobs", str(arguments.jobs)] if arguments.jobs != 1 else []
    words += ["--since", str(arguments.since)] if arguments.since else []
    words += ["--again"] if arguments.again else []
    return shlex.join([*words, "--out", str(folder)])
