# SPDX-License-Identifier: GPL-2.0-only
"""harness mutants: break the patch, or a stock kernel, in every known way, and show which oracle sees it.

A `harness run` of its own builds, runs and judges each mutant, several at once.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.commands import _options, _slow
from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel import source, versions
from harness.model.contract import AUTO, Contract
from harness.model.errors import CannotTest, HarnessError, MachineError
from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import document
from harness.report.lines import Colour
from harness.report.text import one_line
from harness.run import pipeline
from harness.run.pipeline import KernelRequest, RunRequest
from harness.variants import catalogue, mutants
from harness.variants.mutants import Mutant

# For one `harness run`: a changed header with an empty ccache takes minutes, a kernel that hangs as long again.
_LIMIT_S = 7200


options = _slow.OPTIONS["mutants"]


def main(arguments: argparse.Namespace) -> int:
    """Try each mutant; 1 when one is not as it must be."""
    from harness.terminal import Terminal

    request = _options.run_request(arguments, ())
    with Terminal() as terminal:
        done = run(
            request,
            arguments.names,
            workspace.cache_dir(),
            terminal,
            lambda trial: terminal.lines(line(trial, terminal.colour)),
            whole=arguments.whole,
        )
    terminal.table(*matrix(done))
    terminal.lines(lines(done, terminal.colour))
    if arguments.json:
        print(json.dumps(done.document()))
    return done.exit_code


@dataclass(frozen=True)
class Trial:
    """What came of the run on a mutant. ran: its verdict, None with the reason in `error` if there is none."""

    mutant: Mutant
    ran: RunVerdict | None
    error: str = ""

    @cached_property
    def seen_by(self) -> Mapping[str, Mapping[str, str]]:
        """Oracle → scenario → the first thing that it found there."""
        found: dict[str, dict[str, str]] = {}
        # A mutant that the oracle `exercised` must see is seen by the finding that too little happened.
        heard = {Outcome.FAIL} | ({Outcome.INCONCLUSIVE} if self.mutant.expected == "exercised" else set())
        for result in self._results:
            if result.outcome in heard:
                for finding in result.findings:
                    found.setdefault(finding.oracle, {}).setdefault(result.name, finding.summary)
        return dict(sorted(found.items()))

    @property
    def killed_by(self) -> list[str]:
        """The oracles that found something, by name."""
        return list(self.seen_by)

    @property
    def accidental(self) -> list[str]:
        """Those oracles among them that the mutant's file does not name."""
        return [name for name in self.seen_by if name not in (self.mutant.expected, *self.mutant.also)]

    @property
    def verdict(self) -> str:
        """killed: by the oracle that its file names, or an equivalent by any. error: not judged. survived: neither."""
        if self.mutant.expected in self.seen_by or (self.mutant.equivalent and self.seen_by):
            return "killed"
        if self._outcome is Outcome.ERROR or self._stopped or not self._results:
            return "error"
        if self.mutant.equivalent and self._outcome is not Outcome.PASS:
            return "error"
        return "survived"

    @property
    def good(self) -> bool:
        """As it must be: killed by the named oracle and by none that it does not name; or an equivalent that passes."""
        return self.verdict == ("survived" if self.mutant.equivalent else "killed") and not self.accidental

    @property
    def exit_code(self) -> int:
        """0, 1 for a mutant that lives or is killed by accident, or why it could not be judged: 125, 128."""
        if self.good:
            return 0
        return 1 if self.verdict != "error" else max(125, self._outcome.exit_code)

    @property
    def note(self) -> str:
        """Why it is not as it must be, in one line; empty when it is."""
        if self.good:
            return ""
        if self.verdict == "error":
            told = (f"{result.name}: {result.reason}" for result in self._results if result.reason)
            return self.error or self._stopped or next(told, "not judged")
        if self.mutant.equivalent:
            return f"falsely accused: {self._said(self.killed_by)}"
        if self.verdict == "killed":
            return f"by accident also {self._said(self.accidental)}"
        short = [result.name for result in self._results if result.outcome is Outcome.INCONCLUSIVE]
        others = f"; but {self._said(self.killed_by)}" if self.seen_by else ""
        proved = f"; too little happened in {', '.join(short)}" if short else ""
        return f"{self.mutant.expected} saw nothing{others}{proved}"

    def told(self) -> dict[str, Any]:
        """As `harness mutants --json` tells it."""
        return {
            "name": self.mutant.name,
            "contract": self.mutant.contract.value,
            "expected": self.mutant.expected,
            "killed_by": self.killed_by,
            "verdict": self.verdict,
            "accidental": self.accidental,
            "note": self.note,
            "seen_by": {oracle: dict(where) for oracle, where in self.seen_by.items()},
            "scenarios": {result.name: result.outcome.value for result in self._results},
            "seconds": self.seconds,
        }

    @property
    def seconds(self) -> float:
        """What building and running it took."""
        return float(self.ran.seconds.get("total", 0.0)) if self.ran else 0.0

    @property
    def _results(self) -> Sequence[ScenarioResult]:
        return self.ran.scenarios if self.ran else ()

    @property
    def _stopped(self) -> str:
        return self.ran.error if self.ran else ""

    @property
    def _outcome(self) -> Outcome:
        return self.ran.outcome if self.ran else Outcome.ERROR

    def _said(self, names: Sequence[str]) -> str:
        """Oracles, each with the first thing that it found."""
        first = {name: next(iter(self.seen_by[name].items())) for name in names}
        return ", ".join(f"{name} ({scenario}: {summary})" for name, (scenario, summary) in first.items())


@dataclass(frozen=True)
class Campaign:
    """All trials. skipped: mutants that have no port to this kernel. untried: those whose turn has not come."""

    trials: Sequence[Trial]
    skipped: Sequence[str]
    folder: Path
    untried: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """0 when all is as it must be, 1 when not, 125 and 128 when that could not be found out."""
        codes = {trial.exit_code for trial in self.trials}
        return next((code for code in (1, 128, 125) if code in codes), 0)

    def document(self) -> dict[str, Any]:
        """As `harness mutants --json` tells it: equivalent rewrites apart, because they are to survive."""
        return {
            "mutants": [trial.told() for trial in self.trials if not trial.mutant.equivalent],
            "equivalents": [trial.told() for trial in self.trials if trial.mutant.equivalent],
            "skipped": list(self.skipped),
            "untried": list(self.untried),
            "folder": str(self.folder),
        }


def line(trial: Trial, colour: Colour) -> Iterator[str]:
    """One line for a mutant, and one that says what is wrong with it."""
    word = colour(Outcome.PASS if trial.good else Outcome.FAIL, trial.verdict)
    stock = "" if trial.mutant.contract.marks else " (stock)"
    yield f"{word} {trial.mutant.name + stock:32} {trial.seconds:6.1f} s  {', '.join(trial.killed_by)}"
    if trial.note:
        yield f"             {one_line(trial.note, 400)}"


def matrix(campaign: Campaign) -> tuple[list[str], list[list[str]]]:
    """The kill matrix, mutant × oracle: its header and its rows."""
    trials = campaign.trials
    names = sorted({name for trial in trials for name in (trial.mutant.expected, *trial.killed_by) if name})
    rows = [[trial.mutant.name, *(_cell(trial, name) for name in names), trial.verdict] for trial in trials]
    return ["mutant", *names, "verdict"], rows


def lines(campaign: Campaign, colour: Colour) -> Iterator[str]:
    """What stands below the matrix: its legend, and the last line of a campaign."""
    yield "X killed it, as its file says   + may, as its file says   ! by accident   - was to and did not"
    if campaign.skipped:
        yield f"{'skipped':12} no port to this kernel: {', '.join(campaign.skipped)}"
    good = sum(trial.good for trial in campaign.trials)
    word = colour(Outcome.PASS if good == len(campaign.trials) else Outcome.FAIL, "")
    yield f"report       {campaign.folder}/mutants.json"
    yield f"{word} {good} of {len(campaign.trials)} mutants and equivalents as they must be"


def _cell(trial: Trial, oracle: str) -> str:
    """What an oracle said of a mutant, in one character."""
    if oracle == trial.mutant.expected:
        return "X" if oracle in trial.killed_by else "-"
    if oracle not in trial.killed_by:
        return ""
    return "!" if oracle in trial.accidental else "+"


def run(
    request: RunRequest,
    names: Sequence[str],
    cache: Path,
    progress: Progress,
    tell: Callable[[Trial], None],
    *,
    whole: bool = False,
) -> Campaign:
    """Try mutants. The unbroken kernel goes first and must pass their scenarios, or nothing would be proved.

    There is one for each contract and each configuration that mutants ask for: a mutant is tried by the first contract
    that it has a file for, or by the one that is asked for alone. A scenario in which too little happens even then is
    left out, and named.
    request: its kernel is what is mutated, for the contract stock without our patch; its scenarios do not count; jobs:
    mutants at once. whole: each on the whole default set as well, to see that no
    oracle speaks that its file does not name, and equivalents on all scenarios.
    An unbroken kernel that fails leaves its own mutants untried; when each does, CannotTest or MachineError is raised.
    """
    folder = pipeline.run_folder(request.out, cache)
    version = source.fetch(request.kernel.source, cache, progress).version
    asked = request.kernel.contract
    contracts = tuple(Contract) if asked == AUTO else (Contract(asked),)
    chosen, skipped = mutants.choose(names, version, contracts)
    plans = {mutant.name: _plan(mutant, version, whole=whole) for mutant in chosen if not mutant.in_module}
    # One more than there are CPUs: a guest that hangs asleep and a linker leave their CPUs to others.
    jobs = request.jobs or len(os.sched_getaffinity(0)) + 1
    bases = dict.fromkeys(mutant.base for mutant in chosen)
    requests = {base: replace(request, kernel=_kernel(request.kernel, *base)) for base in bases}
    useless: dict[tuple[Contract, tuple[str, ...]], set[str]] = {}
    refused: dict[tuple[Contract, tuple[str, ...]], HarnessError] = {}
    for base in bases:
        contract, configs = base
        wanted = dict.fromkeys(name for one in chosen if one.base == base for name in plans.get(one.name, ()))
        useless[base] = set()
        if wanted:
            what = " ".join(["patch" if contract.marks else "stock kernel", *(f"--config {name}" for name in configs)])
            place = "-".join(["unbroken", *([] if contract.marks else ["stock"]), *configs])
            progress.say(f"the {what} as it is")
            try:
                useless[base] = _prove(what, *_run(requests[base], (), list(wanted), folder / place, jobs))
            except (CannotTest, MachineError) as error:
                refused[base] = error
                progress.say(str(error))
        if useless[base]:
            progress.say(f"left out, because too little happens there: {', '.join(sorted(useless[base]))}")

    if refused and len(refused) == len(bases):
        raise next(iter(refused.values()))

    def tried(mutant: Mutant) -> Trial:
        if mutant.base in refused:
            return Trial(mutant, None, str(refused[mutant.base]))
        patches = () if mutant.in_module else (str(mutant.path),)
        names = [name for name in plans.get(mutant.name, mutant.scenarios) if name not in useless[mutant.base]]
        if not names:
            return Trial(mutant, None, "too little happens in each of its scenarios, even on the unbroken kernel")
        asked = replace(requests[mutant.base], timeout_s=request.timeout_s or mutant.timeout_s)
        return Trial(mutant, *_run(asked, patches, names, folder / mutant.name, 1))

    def kept(trials: Sequence[Trial]) -> Campaign:
        """Write what there is so far to disk: hours of work outlive an interrupt."""
        campaign = Campaign(tuple(trials), skipped, folder, [mutant.name for mutant in chosen[len(trials) :]])
        workspace.write_atomic(folder / "mutants.json", json.dumps(campaign.document(), indent=1) + "\n")
        return campaign

    trials: list[Trial] = []
    campaign = kept(trials)
    with concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="mutant") as pool:
        futures = [pool.submit(tried, mutant) for mutant in chosen]
        try:
            for future in futures:
                trials.append(future.result())
                campaign = kept(trials)
                tell(trials[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            process.end_all()
            progress.say(f"{len(trials)} of {len(chosen)} were tried: {folder}/mutants.json")
            raise
    return campaign


def _kernel(kernel: KernelRequest, contract: Contract, configs: Sequence[str]) -> KernelRequest:
    """The kernel that the mutants of a contract and of more fragments break."""
    patches = [name for name in kernel.patches if name != "none" and (contract.marks or name != versions.PATCH)]
    return replace(
        kernel,
        patches=tuple(patches) or ("none",),
        contract=contract.value,
        configs=tuple(dict.fromkeys((*kernel.configs, *configs))),
    )


def _plan(mutant: Mutant, version: str, *, whole: bool) -> list[str]:
    """The scenarios for a mutant, by name, each once.

    An equivalent that names none gets the default set and all that any mutant is
    tried with. With `whole` it gets every scenario: minutes for each equivalent,
    because of a soak and of guests that hang.
    """
    everywhere = mutant.equivalent and not mutant.scenarios
    names = mutant.scenarios
    if everywhere:
        names = ("all",) if whole else mutants.scenarios(version, mutant.contract)
    default = catalogue.choose(()) if whole or everywhere else []
    return list(dict.fromkeys(scenario.name for scenario in [*catalogue.choose(names), *default]))


def _run(
    request: RunRequest, patches: Sequence[str], scenarios: Sequence[str], out: Path, jobs: int
) -> tuple[RunVerdict | None, str]:
    """`harness run` in a process of its own; its verdict, or None and what went wrong.

    A process, because judging in the threads of one process would take turns, and
    because whatever a mutant does to a run stays in its process.
    """
    kernel = request.kernel
    own = [name for name in kernel.patches if name != "none"]
    options = [
        ("--source", kernel.source),
        *(("--patch", patch) for patch in (*own, *patches) or ("none",)),
        ("--contract", kernel.contract),
        *([("--base-config", kernel.base_config)] if kernel.base_config else []),
        *(("--config", fragment) for fragment in kernel.configs),
        ("--compiler", kernel.compiler),
        ("--accel", request.accel),
        ("--jobs", str(jobs)),
        ("--repeat", str(request.repeat)),
        *([("--timeout", str(request.timeout_s))] if request.timeout_s else []),
        ("--out", str(out)),
    ]
    words = [word for option in options for word in option]
    argv = [sys.executable, "-m", "harness.cli", "run", "--json", "--no-patch-coverage", *words, *scenarios]
    done = process.run(argv, timeout_s=_LIMIT_S, env=os.environ)
    try:
        return document.parse(done.stdout), ""
    except ValueError:
        said = [line for line in done.stderr.splitlines() if line.startswith("harness: ")]
        return None, said[-1] if said else f"harness run ended with {done.status}: {done.stderr[-300:]}"


def _prove(what: str, ran: RunVerdict | None, error: str) -> set[str]:
    """Demand that the unbroken kernel does not fail; returns the scenarios in which too little happens for a proof."""
    outcome = ran.outcome if ran else Outcome.ERROR
    results = ran.scenarios if ran else ()
    if outcome in (Outcome.FAIL, Outcome.ERROR) or not results:
        bad = [result.name for result in results if result.outcome in (Outcome.FAIL, Outcome.ERROR)]
        kind = MachineError if outcome is Outcome.ERROR else CannotTest
        raise kind(
            f"the {what} as it is does not pass, so its mutants prove nothing: "
            f"{error or (ran.error if ran else '') or ', '.join(bad)}",
            "harness run says more",
        )
    return {result.name for result in results if result.outcome is Outcome.INCONCLUSIVE}
