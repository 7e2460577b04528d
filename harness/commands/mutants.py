# SPDX-License-Identifier: GPL-2.0-only
"""Breaks the patch in every known way: a harness of its own builds, runs and judges each mutant, several at once."""

from __future__ import annotations

import concurrent.futures
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel import source
from harness.model.errors import CannotTest, MachineError
from harness.model.verdict import Outcome
from harness.run import pipeline
from harness.run.pipeline import RunRequest
from harness.variants import catalogue, mutants
from harness.variants.mutants import Mutant, Trial

# One run of `harness run`: a header changed and nothing in ccache takes minutes, a kernel that hangs as long again.
_LIMIT_S = 7200


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


def run(
    request: RunRequest,
    names: Sequence[str],
    cache: Path,
    progress: Progress,
    tell: Callable[[Trial], None],
    *,
    whole: bool = False,
) -> Campaign:
    """Try mutants. The unbroken patch goes first and must pass what they are tried with, or nothing would be proved.

    A scenario in which too little happens even then is left out, and said.
    request: its kernel is what is mutated, its scenarios do not count; jobs:
    mutants at once. whole: each on the whole default set as well, to see that no
    oracle speaks that its file does not name, and equivalents on all scenarios.
    Raises CannotTest when the patch itself fails.
    """
    version = source.fetch(request.kernel.source, cache, progress).version
    chosen, skipped = mutants.choose(names, version)
    plans = {mutant.name: _plan(mutant, version, whole=whole) for mutant in chosen if not mutant.in_module}
    folder = pipeline.run_folder(request.out, cache)
    # One more than there are CPUs: a guest that hangs asleep, and a link, leave theirs to others.
    jobs = request.jobs or len(os.sched_getaffinity(0)) + 1
    progress.say("the patch as it is")
    wanted = dict.fromkeys(name for plan in plans.values() for name in plan)
    useless = _prove(*_run(request, (), list(wanted), folder / "unbroken", jobs)) if wanted else set()
    if useless:
        progress.say(f"left out, because too little happens there: {', '.join(sorted(useless))}")

    def one(mutant: Mutant) -> Trial:
        patches = () if mutant.in_module else (str(mutant.path),)
        names = [name for name in plans.get(mutant.name, mutant.scenarios) if name not in useless]
        if not names:
            return Trial(mutant, {}, "too little happens in any of its scenarios, on the unbroken patch as well")
        asked = replace(request, timeout_s=request.timeout_s or mutant.timeout_s)
        return Trial(mutant, *_run(asked, patches, names, folder / mutant.name, 1))

    def kept(trials: Sequence[Trial]) -> Campaign:
        """What there is so far, on disk: hours of work outlive an interrupt."""
        campaign = Campaign(tuple(trials), skipped, folder, [mutant.name for mutant in chosen[len(trials) :]])
        workspace.write_atomic(folder / "mutants.json", json.dumps(campaign.document(), indent=1) + "\n")
        return campaign

    trials: list[Trial] = []
    campaign = kept(trials)
    with concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="mutant") as pool:
        futures = [pool.submit(one, mutant) for mutant in chosen]
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


def _plan(mutant: Mutant, version: str, *, whole: bool) -> list[str]:
    """The scenarios for a mutant, by name, each once.

    An equivalent that names none gets the default set and all that any mutant is
    tried with, or with `whole` every scenario: minutes for each of them, of a
    soak and of guests that hang.
    """
    everywhere = mutant.equivalent and not mutant.scenarios
    names = mutant.scenarios
    if everywhere:
        names = ("all",) if whole else mutants.scenarios(version)
    default = catalogue.choose(()) if whole or everywhere else []
    return list(dict.fromkeys(scenario.name for scenario in [*catalogue.choose(names), *default]))


def _run(
    request: RunRequest, patches: Sequence[str], scenarios: Sequence[str], out: Path, jobs: int
) -> tuple[Mapping[str, Any], str]:
    """`harness run` in a process of its own; its verdict document, or an empty one and what went wrong.

    A process, because judging in threads of one would take turns, and because
    whatever a mutant does to a run stays in it.
    """
    kernel = request.kernel
    options = [
        ("--source", kernel.source),
        *(("--patch", patch) for patch in (*kernel.patches, *patches)),
        *(("--config", fragment) for fragment in kernel.configs),
        ("--compiler", kernel.compiler),
        ("--accel", request.accel),
        ("--jobs", str(jobs)),
        ("--repeat", str(request.repeat)),
        *([("--timeout", str(request.timeout_s))] if request.timeout_s else []),
        ("--out", str(out)),
    ]
    words = [word for option in options for word in option]
    argv = [sys.executable, "-m", "harness.cli", "run", "--json", *words, *scenarios]
    done = process.run(argv, timeout_s=_LIMIT_S, env=os.environ)
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = [line for line in done.stderr.splitlines() if line.startswith("harness: ")]
        return {}, said[-1] if said else f"harness run ended with {done.status}: {done.stderr[-300:]}"
    return document, ""


def _prove(document: Mapping[str, Any], error: str) -> set[str]:
    """Nothing is proved where the unbroken patch fails; returns the scenarios in which nothing is proved of either."""
    outcome = Outcome(document.get("verdict", "error"))
    verdicts = {result["name"]: result["verdict"] for result in document.get("scenarios", ())}
    if outcome in (Outcome.FAIL, Outcome.ERROR) or not verdicts:
        bad = [name for name, verdict in verdicts.items() if verdict in (Outcome.FAIL, Outcome.ERROR)]
        kind = MachineError if outcome is Outcome.ERROR else CannotTest
        raise kind(
            f"the patch as it is does not pass, so its mutants prove nothing: "
            f"{error or document.get('error') or ', '.join(bad)}",
            "harness run says more",
        )
    return {name for name, verdict in verdicts.items() if verdict == Outcome.INCONCLUSIVE}
