# SPDX-License-Identifier: GPL-2.0-only
"""harness explore: run generated scenarios on fresh clones until one fails, shrink it, and write it down."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import secrets
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import pressures
from harness.commands import _options, _slow
from harness.guest.lab import Lab
from harness.host import process
from harness.host.clock import Deadline
from harness.host.progress import Progress
from harness.host.workspace import digest, write_atomic
from harness.kernel import patches
from harness.kernel.places import Line
from harness.model import scenario, strict_yaml
from harness.model.contract import Contract
from harness.model.errors import UsageError
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report.text import one_line, plain
from harness.run import pipeline, reached

# A scenario as YAML holds it.
Document = dict[str, Any]

# Shrinking a failure may take this long, or a quarter of the search's time if that is longer.
_SHRINK_S = 30.0
_EXAMPLES_MAX = 1_000_000
# Towards a patch, a search has rounds: in the second half of each, Hypothesis varies what scored best in the first.
_ROUND = 60


@dataclass
class Hunt:
    """What a search did. failing: the smallest scenario that failed, and its findings.

    seed: where the search began; once something is found, the seed of its searcher, which finds it again alone.
    """

    folder: Path
    seed: int
    examples: int = 0
    inconclusive: int = 0
    errors: int = 0
    seconds: float = 0.0
    failing: Document | None = None
    findings: tuple[Finding, ...] = ()
    path: Path | None = None
    again: str = ""
    # What guests count of the user's patches, and how many examples reached each changed line.
    watch: reached.Watch | None = None
    contract: Contract = Contract.MAYFAIL
    hits: Counter[Line] = field(default_factory=Counter, repr=False)
    _reached: dict[str, frozenset[Line]] = field(default_factory=dict, repr=False)
    _seen: dict[str, ScenarioResult] = field(default_factory=dict, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def score(self, document: Document) -> float:
        """How much an example that was judged does for changed lines: one that few others reach counts for more."""
        with self._guard:
            return sum(1 / self.hits[line] for line in self._reached.get(digest(strict_yaml.dump(document)), ()))

    @property
    def rate(self) -> float:
        """Examples a minute."""
        return 60 * self.examples / self.seconds if self.seconds else 0.0


options = _slow.OPTIONS["explore"]


def main(arguments: argparse.Namespace) -> int:
    """Search on a kernel; the exit code is that of what was found."""
    from harness.model.shape import MachineShape
    from harness.run.session import Session
    from harness.terminal import Terminal
    from harness.variants import instruments

    with Terminal() as terminal:
        request = _options.kernel_request(arguments)
        if arguments.toward_patch and not patches.own(request.patches):
            raise UsageError("--toward-patch: no patch of yours is given", "--patch FILE")
        session = Session(
            request,
            instruments.NOTIFIER_HOLD,
            arguments.accel,
            terminal,
            arguments.out,
            watching=arguments.toward_patch,
        )
        jobs = arguments.jobs or pipeline.auto_jobs(MachineShape().memory_mib)
        folder = session.folder  # Before anything is built: it may be refused.
        hunt = explore(
            session.lab,
            folder,
            arguments.seconds,
            arguments.seed,
            terminal,
            jobs=jobs,
            watch=session.watch,
            contract=session.contract,
        )
    print("\n".join(lines(hunt)), file=sys.stderr)
    if arguments.json:
        print(json.dumps(document(hunt)))
    return outcome(hunt).exit_code


class _TimeUp(BaseException):
    """Ends Hypothesis from within an example; not an Exception, which would be taken for a failure of the example."""


class _Failed(Exception):
    """An example that failed."""


def explore(
    lab: Lab,
    folder: Path,
    seconds: float,
    seed: int | None,
    progress: Progress,
    judge: Callable[[scenario.Scenario], ScenarioResult] | None = None,
    jobs: int = 1,
    watch: reached.Watch | None = None,
    contract: Contract = Contract.MAYFAIL,
) -> Hunt:
    """Search for `seconds`, or until a scenario failed and was shrunk; that scenario is in folder/found.

    judge: runs a scenario (default: on a fresh machine of the lab's).
    jobs: how many searchers run at once, with seeds from `seed` on; the first that finds something ends the others.
    watch: the lines that the search goes towards. contract: the one that the kernel is judged by.
    """
    hunt = Hunt(folder, secrets.randbits(32) if seed is None else seed, watch=watch, contract=contract)
    progress.say(f"exploring for {seconds:g} s by the contract {contract}, seed {hunt.seed}, {jobs} at once")
    clock = pipeline.Clock()
    run = judge or (lambda item: pipeline.judge_on(lab, item, folder, clock, contract=contract, watch=watch)[0])
    began = time.monotonic()
    seeds = [range(its, 1 << 62, jobs) for its in range(hunt.seed, hunt.seed + jobs)]
    with concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="searcher") as pool:
        searches = [pool.submit(_search, hunt, its, seconds, run, progress) for its in seeds]
        try:
            for search in searches:
                search.result()
        except BaseException:
            hunt._over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            process.end_all()
            if hunt.failing is not None:
                progress.say(f"what was found, as small as it is by now: {_kept(hunt)}")
            raise
    if hunt.failing is not None:
        _run_again(hunt, _kept(hunt), run)
    hunt.seconds = time.monotonic() - began
    return hunt


def _search(
    hunt: Hunt,
    seeds: Sequence[int],
    seconds: float,
    run: Callable[[scenario.Scenario], ScenarioResult],
    progress: Progress,
) -> None:
    """What one searcher does until the time is up, it has shrunk what it found, or another one has found something.

    seeds: of its rounds, of which there is one unless it goes towards a patch.
    """
    deadline = Deadline(seconds)
    for seed in seeds:
        _round(hunt, seed, deadline, run, progress)
        if hunt.watch is None or deadline.expired or hunt._over.is_set():
            return


def _round(
    hunt: Hunt,
    seed: int,
    until: Deadline,
    run: Callable[[scenario.Scenario], ScenarioResult],
    progress: Progress,
) -> None:
    import hypothesis
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis.errors import HypothesisException

    from harness.variants import generated

    deadline = [until]
    watched = hunt.watch is not None
    found = False

    @hypothesis.seed(seed)
    @settings(
        max_examples=_ROUND if watched else _EXAMPLES_MAX,
        deadline=None,
        database=None,
        phases=(Phase.generate, *([Phase.target] if watched else []), Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @hypothesis.given(generated.scenarios(hunt.contract))
    def example(document: Document) -> None:
        nonlocal found
        # Even when the time is up, one example is judged: without any, it would be no search.
        if (deadline[0].expired and hunt.examples) or (hunt._over.is_set() and not found):
            raise _TimeUp
        result = _judged(hunt, document, run, progress)
        if result.outcome is not Outcome.FAIL:
            if watched:
                hypothesis.target(hunt.score(document))
            return
        with hunt._guard:
            if not found:
                if hunt._over.is_set():
                    raise _TimeUp
                hunt._over.set()
                found, hunt.seed = True, seed
                progress.say(f"found after {hunt.examples} examples: {_words(result)}; shrinking it")
                deadline[0] = Deadline(max(_SHRINK_S, until.limit_s / 4))
            if hunt.failing is None or generated.size(document) < generated.size(hunt.failing):
                hunt.failing, hunt.findings = document, tuple(result.findings)
        raise _Failed

    # HypothesisException: an example that failed once and not again (Flaky); it is kept all the same.
    with contextlib.suppress(_TimeUp, _Failed, HypothesisException, ExceptionGroup):
        example()


def outcome(hunt: Hunt) -> Outcome:
    """The verdict on the kernel: a search that could judge nothing has none."""
    if hunt.failing is not None:
        return Outcome.FAIL
    if hunt.errors == hunt.examples:
        return Outcome.ERROR
    return Outcome.PASS if hunt.examples > hunt.inconclusive + hunt.errors else Outcome.INCONCLUSIVE


def lines(hunt: Hunt) -> list[str]:
    """What a search came to, for people."""
    looked = f"{hunt.examples} examples in {hunt.seconds:.0f} s, {hunt.rate:.1f} a minute; seed {hunt.seed}"
    told = [f"explored     {looked}; {hunt.inconclusive} inconclusive, {hunt.errors} errors"]
    if hunt.watch is not None:
        told.append(f"your lines   {one_line(hunt.watch.coverage().sentence, 1000)}")
    if hunt.path is not None:
        told += [f"             [{finding.oracle}] {plain(finding.summary)}" for finding in hunt.findings]
        told.append(f"found        {hunt.path} (failed {hunt.again} times when run again)")
    return [*told, outcome(hunt).value]


def document(hunt: Hunt) -> dict[str, Any]:
    """What a search came to, for programs."""
    return {
        "verdict": outcome(hunt).value,
        "contract": hunt.contract.value,
        "seed": hunt.seed,
        "examples": hunt.examples,
        "inconclusive": hunt.inconclusive,
        "errors": hunt.errors,
        "examples_per_minute": round(hunt.rate, 1),
        "seconds": round(hunt.seconds, 1),
        "found": str(hunt.path) if hunt.path else None,
        "failed_again": hunt.again,
        "patch_coverage": hunt.watch.coverage().document() if hunt.watch else None,
        "findings": [{"oracle": finding.oracle, "summary": finding.summary} for finding in hunt.findings],
    }


def _judged(
    hunt: Hunt, document: Document, run: Callable[[scenario.Scenario], ScenarioResult], progress: Progress
) -> ScenarioResult:
    """Run a document once; the same document has the same result."""
    text = strict_yaml.dump(document)
    key = digest(text)
    with hunt._guard:
        if key in hunt._seen:
            return hunt._seen[key]
        number, hunt.examples = hunt.examples, hunt.examples + 1
    result = run(_scenario(hunt.folder / "examples" / f"example-{number}.yaml", text))
    with hunt._guard:
        hunt.inconclusive += result.outcome is Outcome.INCONCLUSIVE
        hunt.errors += result.outcome is Outcome.ERROR
        progress.advance("examples", hunt.examples, 0)
        # Failures are not remembered, so that one that does not come again can show that.
        if result.outcome is not Outcome.FAIL:
            hunt._seen[key] = result
    if hunt.watch is not None:
        _toward(hunt, hunt.watch.reached(result.name), key, text)
    if result.outcome is not Outcome.FAIL:
        shutil.rmtree(hunt.folder / result.name, ignore_errors=True)
        (hunt.folder / "events" / f"{result.name}.bin").unlink(missing_ok=True)
        (hunt.folder / "examples" / f"{result.name}.yaml").unlink()
    return result


def _toward(hunt: Hunt, lines: frozenset[Line], key: str, text: str) -> None:
    """Note which changed lines an example reached; keep one that is the first to reach a line."""
    with hunt._guard:
        new = sorted(line for line in lines if not hunt.hits[line])
        hunt.hits.update(lines)
        hunt._reached[key] = lines
    if new:
        write_atomic(hunt.folder / "reached" / f"reached-{key[:6]}.yaml", text)


def _kept(hunt: Hunt) -> Path:
    """Write the smallest failing scenario, ready to commit."""
    assert hunt.failing is not None
    oracles = sorted({finding.oracle for finding in hunt.findings})
    stock = "" if hunt.contract.marks else f" --contract {hunt.contract}"
    summary = "; ".join(dict.fromkeys(f"{finding.oracle}: {finding.summary}" for finding in hunt.findings))
    document = hunt.failing | {"summary": f"Found by harness explore{stock} --seed {hunt.seed}. {summary}"}
    hunt.path = hunt.folder / "found" / f"found-{'-'.join(oracles)}-{digest(strict_yaml.dump(hunt.failing))[:6]}.yaml"
    write_atomic(hunt.path, "# SPDX-License-Identifier: GPL-2.0-only\n" + strict_yaml.dump(document))
    return hunt.path


def _run_again(hunt: Hunt, path: Path, run: Callable[[scenario.Scenario], ScenarioResult]) -> None:
    """Find out how often the scenario that was found fails."""
    (item,) = scenario.load(path, _keys())
    rounds = 3
    failed = sum(
        run(scenario.renamed(item, f"{item.name}.{number}")).outcome is Outcome.FAIL for number in range(1, rounds + 1)
    )
    hunt.again = f"{failed} of {rounds}"


def _scenario(path: Path, text: str) -> scenario.Scenario:
    write_atomic(path, text)
    (item,) = scenario.load(path, _keys())
    return item


def _keys() -> dict[str, Any]:
    return {name: pressure.keys for name, pressure in pressures.catalogue().items()}


def _words(result: ScenarioResult) -> str:
    return "; ".join(f"[{finding.oracle}] {finding.summary}" for finding in result.findings)
