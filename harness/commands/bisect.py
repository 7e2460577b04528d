# SPDX-License-Identifier: GPL-2.0-only
"""harness bisect: which commit, which patch of a series, or which option makes a kernel fail."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands import _options
from harness.kernel import contracts, versions
from harness.model.contract import Contract
from harness.model.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.bisect.ask import Test
    from harness.bisect.engine import Answer
    from harness.bisect.history import History
    from harness.bisect.subjects import Commits, Options, Patches, Subject
    from harness.model.scenario import Scenario
    from harness.terminal import Terminal

_DECODE_S = 600
_DECODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from harness import cli; sys.exit(cli.main())"
# The mark of our folder: the question that it answers.
_QUESTION = "question.json"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes; what follows `--` are paths."""
    parser.usage = "harness bisect --good G --bad B [OPTION…] [SCENARIO…] [-- PATH…]"
    _options.scenarios(parser)
    parser.add_argument("--tree", metavar="DIR", help="a git repository (default: the current folder)")
    parser.add_argument("--good", metavar="REV", help="a revision that does not fail")
    parser.add_argument("--bad", metavar="REV", help="a revision that fails")
    parser.add_argument("--series", metavar="SERIES", help="which patch of a folder or mailbox, on --source")
    parser.add_argument("--config-good", metavar="FRAGMENT", help="which option: the configuration that does not fail")
    parser.add_argument("--config-bad", metavar="FRAGMENT", help="the configuration that fails")
    parser.add_argument("--test", metavar="COMMAND", help="a shell command in place of scenarios: 0 good, 125 skip")
    parser.add_argument("--match", default="", metavar="REGEX", help="search what matches, not what comes first")
    parser.add_argument("--fix", action="append", default=[], metavar="PATCH", help="a patch, where it applies")
    parser.add_argument(
        "--confidence", type=_probability, default=0.99, metavar="P", help="how sure the answer must be (0.99)"
    )
    parser.add_argument(
        "--repeat", type=_options.positive, default=4000, metavar="N", help="the most runs of one state"
    )
    _options.kernel(parser)
    _options.accel(parser)
    parser.add_argument(
        "--jobs", type=_options.jobs, default=0, metavar="N", help="machines, commands or commits at once"
    )
    parser.add_argument(
        "--timeout", type=_options.seconds, default=0.0, metavar="S", help="as harness run; of a command: its limit"
    )
    _options.out(parser)
    parser.add_argument("--json", action="store_true", help="the answer as a document on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Search; 0 when there is an answer, 1 when there is none."""
    from harness.bisect import report
    from harness.bisect.engine import Bisection
    from harness.bisect.journal import Journal
    from harness.host import workspace
    from harness.terminal import Terminal
    from harness.variants import catalogue

    _check(arguments)
    cache = workspace.cache_dir()
    scenarios = [] if arguments.test else catalogue.choose(arguments.scenarios)
    began = time.monotonic()
    history = _history(arguments)
    question = _question(arguments, history, scenarios)
    key = workspace.digest(json.dumps(question, sort_keys=True))
    state = cache / "bisect" / key
    folder = _folder(arguments.out, cache, key, question)
    with Terminal() as terminal, workspace.lock(state / "lock", terminal, "the same search"):
        subject = _subject(arguments, history, state)
        if not arguments.test:
            subject = _agreed(subject, cache, terminal)
        test = _test(arguments, scenarios, state, terminal)
        # The mixtures of options are in one file, so they take turns.
        lanes = 1 if arguments.config_good else test.at_once
        journal = Journal(state / "journal")
        if journal.entries:
            terminal.say(f"going on with {len(journal.entries)} answers in {journal.path}")
        search = Bisection(
            subject,
            test,
            journal,
            folder,
            terminal,
            lambda step: terminal.lines(report.step(step, terminal.colour)),
            confidence=arguments.confidence,
            limit=arguments.repeat,
            lanes=lanes,
        )
        if (count := len(subject.space.candidates)) > 1:
            terminal.say(f"{count} {subject.kind}s between the two ends{'' if lanes > 1 else ', one at a time'}")
        answer = search.run()
        facts = report.Facts(_reproduce(arguments, subject, answer), history, _stack(answer), time.monotonic() - began)
        report.write(answer, facts, folder)
    terminal.lines(report.lines(answer, facts, folder, terminal.colour))
    if arguments.json:
        print(json.dumps(answer.document()))
    return answer.exit_code


def _probability(text: str) -> float:
    return _options.between(text, 0.5, 0.999999, "a probability")


def _check(arguments: argparse.Namespace) -> None:
    """Which of the three searches is asked for; exactly one."""
    commits = bool(arguments.good or arguments.bad or arguments.tree)
    configs = bool(arguments.config_good or arguments.config_bad)
    if commits + configs + bool(arguments.series) != 1:
        raise UsageError(
            "harness bisect searches a commit (--good and --bad), a patch (--series) or an option "
            "(--config-good and --config-bad): name one of the three",
            "harness bisect --help",
        )
    for one, other in (("good", "bad"), ("config_good", "config_bad")):
        if bool(getattr(arguments, one)) != bool(getattr(arguments, other)):
            lacking = other if getattr(arguments, one) else one
            raise UsageError(f"--{lacking.replace('_', '-')} is missing", "both ends must be named")
    if commits and not arguments.good:
        raise UsageError("--good and --bad are missing", "harness bisect --tree DIR --good REV --bad REV")
    if commits and arguments.source != versions.DEFAULT:
        raise UsageError(
            f"--source {arguments.source} beside --good and --bad: --tree names the source", "leave one out"
        )
    if arguments.test and arguments.scenarios:
        raise UsageError(
            f"--test beside {arguments.scenarios[0]}: a command takes the place of scenarios", "leave one out"
        )
    if arguments.paths and not commits:
        raise UsageError(f"-- {arguments.paths[0]}: paths choose among commits", "leave them out")
    try:
        re.compile(arguments.match)
    except re.error as error:
        raise UsageError(f"--match {arguments.match}: is no regular expression: {error}") from None


def _history(arguments: argparse.Namespace) -> History | None:
    if not arguments.good:
        return None
    from harness.bisect import history

    return history.read(arguments.tree or ".", arguments.good, arguments.bad, arguments.paths)


def _question(arguments: argparse.Namespace, history: History | None, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """All that decides what the answers mean; the same question goes on with the answers of an earlier call."""
    from harness.host import given, workspace
    from harness.kernel import config, patches

    def texts(names: Sequence[str]) -> list[str]:
        own = [name for name in names if not (workspace.data("patches") / name).is_dir() and name != "none"]
        return [*names, *(workspace.digest(patch.text) for patch in patches.load(own, "").patches)]

    mixed = [name for name in (arguments.config_good, arguments.config_bad) if name]
    kernel = _options.kernel_request(arguments)
    return {
        "commits": [str(history.git_dir), history.good, history.bad, *history.paths] if history else [],
        "source": "" if history else str(given.path(kernel.source) if given.exists(kernel.source) else kernel.source),
        "series": texts([arguments.series]) if arguments.series else [],
        "configs": [
            workspace.digest(name, fragment.text)
            for name in (*kernel.configs, *mixed)
            for fragment in config.load([name])[-1:]
        ]
        + [workspace.digest(fragment.text) for fragment in config.load([], kernel.base_config) if fragment.whole],
        "patches": texts(kernel.patches),
        "fixes": texts(arguments.fix),
        "compiler": kernel.compiler,
        "contract": kernel.contract,
        "scenarios": [workspace.digest(entry.name, entry.path.read_bytes()) for entry in scenarios],
        "test": arguments.test or "",
        "match": arguments.match,
        "accel": arguments.accel,
        "timeout": arguments.timeout,
    }


def _folder(out: Path | None, cache: Path, key: str, question: dict[str, Any]) -> Path:
    """Where the report goes: a folder of this question, a new or an empty one."""
    from harness.host import workspace

    folder = out or cache / "runs" / f"bisect-{key}"
    mark = folder / _QUESTION
    text = json.dumps({"key": key, **question}, indent=1) + "\n"
    try:
        ours = mark.read_text(encoding="utf-8", errors="replace") == text
    except OSError:
        ours = False
    if not ours:
        folder = workspace.claim(folder)
        workspace.write_atomic(folder / _QUESTION, text)
    return folder


def _agreed(subject: Commits | Patches | Options, cache: Path, terminal: Terminal) -> Commits | Patches | Options:
    """A subject whose states are all judged by the contract of its bad end."""
    from harness.bisect import kernels

    if not subject.space.states:
        return subject
    end = subject.target(len(subject.space.states) - 1).kernel
    chosen = kernels.contract(end, cache, terminal)
    return dataclasses.replace(subject, kernel=dataclasses.replace(subject.kernel, contract=chosen))


def _subject(arguments: argparse.Namespace, history: History | None, state: Path) -> Commits | Patches | Options:
    from harness.bisect import subjects
    from harness.host.workspace import cache_dir
    from harness.kernel import source

    kernel = _options.kernel_request(arguments)
    if history is not None:
        return subjects.Commits(history, kernel, state)
    version = source.fetch(kernel.source, cache_dir()).version
    if arguments.series:
        return subjects.series(arguments.series, kernel, version, state)
    return subjects.options(arguments.config_good, arguments.config_bad, kernel, version, state)


def _test(arguments: argparse.Namespace, scenarios: Sequence[Scenario], state: Path, terminal: Terminal) -> Test:
    from harness.bisect.commands import CommandTest
    from harness.bisect.kernels import How, KernelTest
    from harness.host.workspace import cache_dir
    from harness.variants import instruments

    if arguments.test:
        return CommandTest(
            arguments.test,
            state / "tree",
            instruments.NOTIFIER_HOLD,
            tuple(arguments.fix),
            cache_dir(),
            terminal,
            match=arguments.match,
            jobs=arguments.jobs or 1,
            timeout_s=arguments.timeout,
        )
    how = How(instruments.NOTIFIER_HOLD, arguments.accel, arguments.jobs, arguments.timeout, arguments.match)
    return KernelTest(scenarios, how, arguments.fix, cache_dir(), terminal)


def _reproduce(arguments: argparse.Namespace, subject: Subject, answer: Answer) -> list[str]:
    """How to see the failure, and the state before it, by hand."""
    if answer.first_bad is None or answer.sought is None:
        return []
    number = list(subject.space.states).index(answer.first_bad) if answer.first_bad in subject.space.states else -1
    from harness.host import sandbox

    told = []
    for target in (subject.target(number), subject.before(answer.first_bad)):
        kernel = target.kernel
        words = ["harness", "run", "--source", kernel.source]
        words += [word for patch in kernel.patches for word in ("--patch", patch)]
        words += ["--base-config", kernel.base_config] if kernel.base_config else []
        words += [word for fragment in kernel.configs for word in ("--config", fragment)]
        if kernel.contract == Contract.STOCK or not contracts.is_plain(kernel.patches):
            words += ["--contract", kernel.contract]
        words += ["--sandbox"] * sandbox.demanded()
        told.append(shlex.join([*words, answer.sought.get("scenario", "")]) if "scenario" in answer.sought
                    else f"{arguments.test}    # {target.name}")  # fmt: skip
    return told


def _stack(answer: Answer) -> str:
    """The report of the bad end, with file and line behind each function; empty where there is none."""
    from harness.host import process, workspace

    if answer.sought is None or "scenario" not in answer.sought:
        return ""
    place = next((Path(folder) for step in answer.steps if step.fails for folder in step.folders), None)
    if place is None or not (place / "verdict.json").exists():
        return ""
    try:
        # With -P, a file of the folder where the user is cannot pass for a module of ours.
        argv = [sys.executable, "-P", "-c", _DECODE, str(workspace.ROOT), "decode", str(place)]
        done = process.run(argv, timeout_s=_DECODE_S)
    except HarnessError:
        return ""
    texts = [Path(line) for line in done.stdout.splitlines() if line.endswith("decoded.txt")]
    return texts[0].read_text(encoding="utf-8", errors="backslashreplace")[:20_000] if texts else ""
