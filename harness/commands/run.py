# SPDX-License-Identifier: GPL-2.0-only
"""harness run: the main job."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import TYPE_CHECKING

from harness.commands import _names, _options
from harness.model.errors import UsageError
from harness.model.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from harness.model.run import RunVerdict
    from harness.model.verdict import ScenarioResult
    from harness.run.pipeline import RunRequest
    from harness.run.resuming import Unfinished
    from harness.terminal import Terminal

# What a run that is gone on with has decided: option or argument → its name among the arguments.
_DECIDED = {
    "SCENARIO": "scenarios",
    "--source": "source",
    "--built": "built",
    "--patch": "patch",
    "--config": "config",
    "--base-config": "base_config",
    "--contract": "contract",
    "--compiler": "compiler",
    "--accel": "accel",
    "--repeat": "repeat",
    "--timeout": "timeout",
    "--out": "out",
    "--maxfail": "maxfail",
    "--record": "record",
    "--require-patch-coverage or --no-patch-coverage": "require_patch_coverage",
    "--changed-since": "changed_since",
    "--print-recipe": "print_recipe",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _options.scenarios(parser)
    _options.kernel(parser)
    _options.machines(parser)
    stop = parser.add_mutually_exclusive_group()
    stop.add_argument(
        "--maxfail", type=_options.positive, default=0, metavar="N", help="stop after findings of N different causes"
    )
    stop.add_argument("-x", dest="maxfail", action="store_const", const=1, help="stop after the first finding")
    parser.add_argument(
        "--changed-since",
        default="",
        metavar="SOURCE",
        help="an earlier state of the source, as for --source: lines that changed from there are yours, too",
    )
    lines = parser.add_mutually_exclusive_group()
    lines.add_argument(
        "--require-patch-coverage",
        type=_options.percent,
        default=0.0,
        metavar="PERCENT",
        help="inconclusive when fewer of the lines that your patches change were executed",
    )
    lines.add_argument(
        "--no-patch-coverage",
        dest="require_patch_coverage",
        action="store_const",
        const=-1.0,
        help="set no probes on the lines that your patches change",
    )
    parser.add_argument(
        "--explain", action="store_true", help="say why the first scenario failed, as harness show RUN does"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="say only what did not pass, and the verdict, on standard error"
    )
    parser.add_argument("--record", action="store_true", help="record each machine, for harness replay (TCG, one CPU)")
    resume = parser.add_argument(
        "--resume", type=_options.run, metavar="RUN", help="go on with a run that was interrupted or killed"
    )
    _names.complete(resume, "runs")
    parser.add_argument(
        "--print-recipe",
        action="store_true",
        help="run nothing: print the commands that would, as a shell script",
    )
    # So that what is given can be told from what is not.
    parser.set_defaults(defaults={name: parser.get_default(name) for name in _DECIDED.values()})
    parser.set_defaults(**dict.fromkeys(_DECIDED.values()))


def main(arguments: argparse.Namespace) -> int:
    """Build, boot, press, judge; the exit code is the verdict's."""
    from harness.history import keeping
    from harness.host.workspace import cache_dir
    from harness.report import lines
    from harness.report.document import render
    from harness.run import pipeline, resuming
    from harness.terminal import Terminal
    from harness.variants import catalogue

    given = {name: word for word, name in _DECIDED.items() if getattr(arguments, name)}
    if arguments.resume is not None and given:
        raise UsageError(
            f"--resume {arguments.resume} and {', '.join(given.values())}: a run goes on as it began",
            f"harness run --resume {arguments.resume}",
        )
    # Before the folder changes.
    cache = cache_dir()
    with Terminal(quiet=arguments.quiet) as terminal:
        told = lines.Told(terminal.colour, terminal.width)

        def tell(result: ScenarioResult) -> None:
            if not arguments.quiet or result.outcome is not Outcome.PASS:
                terminal.lines(told.result(result))

        run = None if arguments.resume is None else resuming.read(arguments.resume.absolute())
        if run and run.complete:
            terminal.say(f"{run.folder}: is complete, nothing is left to run")
            verdict, folder = run.verdict, run.folder
        else:
            request = _rest(run, arguments.jobs, terminal) if run else _asked(arguments, given)
            if arguments.print_recipe:
                _options.print_script(pipeline.recipe(request, cache, terminal))
                return 0
            verdict, folder = pipeline.run(request, cache, terminal, tell)
            terminal.lines(keeping.enter(folder, verdict, cache))
            terminal.lines(keeping.tidy(cache))
    left = 0 if run or arguments.scenarios else sum(not one.default for one in catalogue.scenarios().values())
    summary = list(lines.summary(verdict, str(folder), terminal.colour, left))
    terminal.lines(summary[-1:] if arguments.quiet else summary)
    terminal.lines(resuming.hint(folder, verdict))
    if verdict.outcome is Outcome.FAIL:
        terminal.lines(_why(arguments.explain, folder, verdict, cache, terminal))
    if arguments.json:
        print(render(verdict), end="")
    return verdict.outcome.exit_code


def _why(explain: bool, folder: Path, verdict: RunVerdict, cache: Path, terminal: Terminal) -> Iterator[str]:
    """Why the first scenario failed, or how to find out."""
    from harness.report.text import flat
    from harness.run import explaining

    if not explain:
        yield f"{'why':12} harness show {flat(shlex.quote(str(folder)))}"
        return
    yield ""
    yield from explaining.explain(folder, verdict, explaining.failed(verdict, folder), cache, terminal)


def _asked(arguments: argparse.Namespace, given: Collection[str]) -> RunRequest:
    """The run that the options ask for. given: the names of those that were given."""
    from harness.kernel import patches
    from harness.variants import catalogue

    vars(arguments).update({name: value for name, value in arguments.defaults.items() if name not in given})
    if arguments.record and arguments.accel == "kvm":
        raise UsageError("--record and --accel kvm: QEMU records no guest on KVM", "leave out --accel, or --record")
    if arguments.built is not None and arguments.changed_since:
        raise UsageError(
            f"--built {arguments.built} beside --changed-since: no source is compiled here", "leave out --changed-since"
        )
    having = bool(arguments.changed_since) or patches.own(arguments.patch or ())
    if arguments.require_patch_coverage > 0 and not having:
        asked = f"--require-patch-coverage {arguments.require_patch_coverage:g}"
        raise UsageError(
            f"{asked}: no patch of yours is given, so none of its lines can run", "--patch FILE, or --changed-since"
        )
    return _options.run_request(
        arguments,
        catalogue.choose(arguments.scenarios),
        record=arguments.record,
        maxfail=arguments.maxfail,
        sorts=not arguments.scenarios or "all" in arguments.scenarios,
        coverage=arguments.require_patch_coverage if arguments.require_patch_coverage >= 0 else None,
        changed_since=arguments.changed_since,
    )


def _rest(run: Unfinished, jobs: int, terminal: Terminal) -> RunRequest:
    """The rest of a run. What its folder names is built, and so it is said."""
    from harness.model.run import subject
    from harness.report.text import one_line
    from harness.run import resuming
    from harness.variants import instruments

    terminal.lines(run.told)
    request = resuming.request(run, instruments.NOTIFIER_HOLD, jobs)
    assert request.resumed is not None
    done = sum(result.outcome is not Outcome.ERROR for result in run.verdict.scenarios)
    what = one_line(subject(request.kernel.source, request.kernel.patches), 1000)
    terminal.say(f"{run.folder}: {what}; {done} scenarios were judged, {len(run.left)} are left")
    try:
        os.chdir(request.resumed.begun.folder)
    except (OSError, ValueError) as fault:
        raise UsageError(f"--resume {run.folder}: the folder in which it was called is gone: {fault}") from None
    return request
