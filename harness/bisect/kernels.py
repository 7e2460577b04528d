# SPDX-License-Identifier: GPL-2.0-only
"""The test of a kernel: scenarios, and the one finding among all that they may show that is searched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bisect.ask import Made, Ran, Target
from harness.host import workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import content, contracts, patches, source, worktree
from harness.kernel.source import KernelSource, series
from harness.model.causes import causes, key, rank, telling
from harness.model.errors import CannotTest, MachineError, PatchError
from harness.model.instrument import Instrument
from harness.model.run import RunVerdict
from harness.model.scenario import Scenario
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run import pipeline
from harness.run.pipeline import KernelRequest, RunRequest

_HANG = "no-hang"
_FUNCTION = re.compile(r"\b([A-Za-z_]\w{0,120})\+0x", re.ASCII)
# Fewer functions in a stack do not tell one hang from another.
_FEW = 3
# The rounds in which a failure is sought grow up to so many at once.
_ROUNDS = 16


@dataclass(frozen=True)
class How:
    """How scenarios are run. match: what a finding must match to be searched, oracle and summary; empty for any."""

    instrument: Instrument
    accel: str = "auto"
    jobs: int = 0
    timeout_s: float = 0.0
    match: str = ""


class KernelTest:
    """A harness.bisect.ask.Test of kernels."""

    def __init__(
        self, scenarios: Sequence[Scenario], how: How, fixes: Sequence[str], cache: Path, progress: Progress
    ) -> None:
        self._scenarios = scenarios
        self._how = how
        self._fixes = fixes
        self.cache = cache
        self.progress = progress
        self._sought: Mapping[str, str] = {}
        self._fitted: dict[str, KernelRequest] = {}
        self._lane = (0, 0)

    @property
    def at_once(self) -> int:
        """As many guests as there may be."""
        largest = max(scenario.shape.memory_mib for scenario in self._scenarios)
        return self._how.jobs or pipeline.auto_jobs(largest)

    def lane(self, number: int, lanes: int) -> KernelTest:
        """The same with its share of the guests and of the compilers."""
        how = replace(self._how, jobs=max(1, self.at_once // lanes))
        other = KernelTest(self._scenarios, how, self._fixes, self.cache, QUIET)
        other._sought = self._sought
        other._lane = (number, max(1, len(os.sched_getaffinity(0)) // lanes))
        return other

    def has_lane(self, target: Target, number: int) -> bool:
        """Whether it was built in before."""
        return has_lane(target.kernel.source, self.cache, number)

    def make(self, target: Target) -> Made:
        """Build the kernel and the module."""
        target.ready()
        prepared = pipeline.prepare(
            self.request(target), self._how.instrument, self.cache, self.progress, pipeline.Clock()
        )
        images = [content.digest(path) for path in (prepared.kernel.vmlinux, *prepared.modules)]
        return Made(workspace.digest(*images), prepared.kernel.cached)

    def request(self, target: Target) -> KernelRequest:
        """The kernel of a target, with the ports of its patches that fit it, and the fixes that apply."""
        if target.name not in self._fitted:
            tree = source.fetch(target.kernel.source, self.cache, self.progress)
            chosen = fitting(target.kernel.patches, self._fixes, tree, self.cache)
            lane, jobs = self._lane
            self._fitted[target.name] = replace(target.kernel, patches=chosen, lane=lane, jobs=jobs)
        return self._fitted[target.name]

    def seek(self, target: Target, limit: int, folder: Path) -> tuple[Mapping[str, str] | None, Ran]:
        """Run all scenarios in rounds until one shows a finding; lacking evidence counts from the first round on."""
        done, rounds = 0, 1
        results: list[ScenarioResult] = []
        while done < limit:
            place = folder / f"seek-{done + 1}"
            verdict = self._judged(target, self._scenarios, rounds, place, maxfail=0 if rounds == 1 else 1)
            results += [replace(result, name=_base(result.name, rounds)) for result in verdict.scenarios]
            done += rounds
            if sought := self._finding(results):
                self.take(sought)
                mine = [result for result in results if result.name == sought["scenario"]]
                return sought, replace(self._counted(mine), folder=str(place))
            rounds = min(rounds * 2, _ROUNDS, limit - done)
        return None, Ran(passes=done)

    def take(self, sought: Mapping[str, str]) -> None:
        """Search a finding of an earlier call."""
        self._sought = sought
        self._scenarios = [entry for entry in self._scenarios if entry.name == sought["scenario"]]

    def run(self, target: Target, runs: int, folder: Path, *, first: bool = True) -> Ran:
        """The scenario that shows the finding, on clones side by side."""
        verdict = self._judged(target, self._scenarios, runs, folder, maxfail=int(first))
        ran = self._counted(verdict.scenarios)
        if ran.fails or ran.void:
            return replace(ran, folder=str(folder))
        # Nobody looks at passes again, and each has megabytes of events.
        shutil.rmtree(folder)
        return ran

    def _judged(
        self, target: Target, scenarios: Sequence[Scenario], rounds: int, folder: Path, maxfail: int
    ) -> RunVerdict:
        jobs = self._how.jobs or min(self.at_once, rounds * len(scenarios))
        how = self._how
        request = RunRequest(
            self.request(target), how.instrument, scenarios, how.accel, jobs, rounds, how.timeout_s, folder,
            maxfail=maxfail, coverage=None,
        )  # fmt: skip
        verdict, _ = pipeline.run(request, self.cache, self.progress, lambda _: None)
        if not any(result.outcome is not Outcome.ERROR for result in verdict.scenarios):
            said = verdict.error or next((f"{one.name}: {one.reason}" for one in verdict.scenarios), "")
            if verdict.forced is Outcome.ERROR or verdict.scenarios:
                raise MachineError(said, f"{folder} holds what there is; the same command goes on")
            raise CannotTest(said or "; ".join(verdict.skipped.values()) or "nothing was judged")
        return verdict

    def _finding(self, results: Sequence[ScenarioResult]) -> Mapping[str, str] | None:
        """What is searched from now on: of the failures the cause that tells most, else what did not happen."""
        pattern = re.compile(self._how.match)
        for cause in sorted(causes(results), key=lambda cause: rank(cause.finding)):
            if pattern.search(_text(cause.finding)):
                quick = min(
                    (result for result in results if result.name in cause.scenarios and telling(result)),
                    key=lambda result: result.seconds,
                )
                return _document(cause.finding, quick, Outcome.FAIL)
        if self._how.match:
            # The finding that matches need not be the one that tells most.
            for result in results:
                for finding in result.findings:
                    if pattern.search(_text(finding)):
                        return _document(finding, result, result.outcome)
            return None
        short = [result for result in results if result.outcome is Outcome.INCONCLUSIVE and result.findings]
        return _document(short[0].findings[0], short[0], Outcome.INCONCLUSIVE) if short else None

    def _counted(self, results: Sequence[ScenarioResult]) -> Ran:
        fails = passes = void = 0
        note = ""
        for result in results:
            if any(self._same(finding) for finding in result.findings):
                fails += 1
            elif result.outcome is Outcome.PASS:
                passes += 1
            else:
                void += 1
                note = note or _told(result)
        return Ran(fails, passes, void, note)

    def _same(self, finding: Finding) -> bool:
        """Whether a finding is the one that is searched."""
        if self._how.match:
            return re.search(self._how.match, _text(finding)) is not None
        mine = Finding(self._sought["oracle"], self._sought["summary"], self._sought["evidence"])
        return claim(finding) == claim(mine) and (finding.oracle != _HANG or alike(finding.evidence, mine.evidence))


def claim(finding: Finding) -> tuple[str, str]:
    """The same for findings of one cause, whatever followed from it this time: that comes after a semicolon."""
    return key(replace(finding, summary=finding.summary.partition("; ")[0]))


def alike(one: str, other: str) -> bool:
    """Whether two guests hang in the same place: one summary serves many hangs, and the functions tell them apart.

    What names few functions tells nothing, and is like everything.
    """
    first, second = (set(_FUNCTION.findall(text)) for text in (one, other))
    common = len(first & second)
    return min(len(first), len(second)) < _FEW or common * 3 >= min(len(first), len(second))


def has_lane(spec: str, cache: Path, number: int) -> bool:
    """Whether a kernel's source has a work tree of a lane, and objects beside it."""
    lineage = source.fetch(spec, cache).in_lane(number).lineage
    return (worktree.place(cache, lineage) / "objects").exists()


def contract(kernel: KernelRequest, cache: Path, progress: Progress) -> str:
    """The contract by which each state of a search is judged: that of its bad end, whatever patches a state has."""

    def defines() -> bool:
        tree = source.fetch(kernel.source, cache, progress)
        return contracts.defines(tree, patches.apply(patches.load(kernel.patches, tree.version), tree, cache))

    return contracts.choose(kernel.contract, kernel.patches, defines).used


def fitting(names: Sequence[str], fixes: Sequence[str], tree: KernelSource, cache: Path) -> tuple[str, ...]:
    """What `--patch` must say for a source: for each patch the port that applies, none where it is in the source.

    fixes: patches that are added where they apply. Raises PatchError where no port does.
    """
    chosen: list[str] = []
    for name in names:
        if name == "none":
            continue
        refused: PatchError | None = None
        for port in _ports(name, tree.version):
            try:
                patches.apply(patches.load([*chosen, port], tree.version), tree, cache)
            except patches.AlreadyThere:
                refused = None
                break
            except PatchError as error:
                refused = refused or error
            else:
                chosen.append(port)
                refused = None
                break
        if refused is not None:
            raise refused
    for fix in fixes:
        try:
            patches.apply(patches.load([*chosen, fix], tree.version), tree, cache)
        except PatchError:
            continue
        chosen.append(fix)
    return tuple(chosen) or ("none",)


def _ports(name: str, version: str) -> list[str]:
    """A patch, and the other ports of a built-in one, the nearest first."""
    folder = workspace.data("patches") / name
    if "/" in name or not folder.is_dir():
        return [name]
    have = sorted(patches.ports(name), key=lambda port: series(port) > series(version))
    older = [port for port in have if series(port) <= series(version)]
    newer = [port for port in have if port not in older]
    near = [*reversed(older), *newer]
    # By its own name where it is the port that is taken anyway: reports say what a user would type.
    return [name if port in older[-1:] else str(folder / port) for port in near]


def _base(name: str, rounds: int) -> str:
    """The name of a scenario without the number of its round."""
    return name.rpartition(".")[0] if rounds > 1 else name


def _text(finding: Finding) -> str:
    return f"{finding.oracle}: {finding.summary}"


def _told(result: ScenarioResult) -> str:
    finding = telling(result)
    if finding is not None:
        return f"another failure: [{finding.oracle}] {finding.summary}"
    if result.outcome is Outcome.INCONCLUSIVE:
        return f"too little happened: {result.reason}"
    return result.reason or result.outcome.value


def _document(finding: Finding, result: ScenarioResult, outcome: Outcome) -> Mapping[str, str]:
    return {**finding.document(), "scenario": result.name, "kind": outcome.value}
