# SPDX-License-Identifier: GPL-2.0-only
"""source → patch → build → image → boot → pressure → recording → verdict → report."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import oracles
from harness.guest import image as images
from harness.guest import tape as tapes
from harness.guest.boot import BootFailed
from harness.guest.lab import Lab
from harness.guest.machine import Machine
from harness.host import accelerator, fault, process, sandbox, workspace
from harness.host.progress import QUIET, Progress, Running, Table, view
from harness.kernel import build as builds
from harness.kernel import built, config, contracts, kconfig, modules, patches, source, toolchain, versions
from harness.model import begun
from harness.model import recording as recordings
from harness.model.begun import Begun
from harness.model.causes import causes
from harness.model.contract import AUTO, Contract, ContractFacts
from harness.model.errors import BuildError, CannotTest, GuestLost, HarnessError, MachineError, UsageError
from harness.model.instrument import Instrument
from harness.model.postmortem import PostMortem
from harness.model.recording import Ended, Recording
from harness.model.run import BUILT, AccelFacts, KernelFacts, MachineFacts, RunVerdict
from harness.model.scenario import Scenario, renamed
from harness.model.verdict import Outcome, ScenarioResult
from harness.postmortem import examine
from harness.report import manifest, templating
from harness.report.detail import Details
from harness.report.html import PATCHES
from harness.report.write import write
from harness.run import judging, order, reached
from harness.run import recipe as recipes
from harness.run.drive import Listener, drive, files

# In a run's folder: the module as it was loaded.
MODULES = "kernel/modules"
# What a patch is called may be anything.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# The same run by hand.
RECIPE = "kernel/recipe"


@dataclass(frozen=True)
class KernelRequest:
    """Which kernel: the options that every command with a kernel shares."""

    source: str = versions.DEFAULT
    patches: Sequence[str] = (versions.PATCH,)
    configs: Sequence[str] = ()
    compiler: str = "gcc"
    # The name of the one that it is judged by, or auto.
    contract: str = AUTO
    # A file with a whole .config of the user's, in the place of ours; empty for none.
    base_config: str = ""
    # What its inputs() must be, so that it is the kernel of an earlier run; empty for any.
    inputs: str = ""
    # Which work tree it is built in, beside others at the same time, and by how many compilers (0: one per CPU).
    lane: int = 0
    jobs: int = 0


@dataclass(frozen=True)
class Resumed:
    """The run that is gone on with: its folder, how it began, and what was judged. boots: its kernel may boot."""

    folder: Path
    begun: Begun
    verdict: RunVerdict
    boots: bool = True


@dataclass(frozen=True)
class RunRequest:
    """What to run on it, where, and how long."""

    kernel: KernelRequest
    instrument: Instrument
    scenarios: Sequence[Scenario]
    accel: str = "auto"
    jobs: int = 0
    repeat: int = 1
    timeout_s: float = 0
    out: Path | None = None
    record: bool = False
    # Findings of so many different causes end the run; 0: none does.
    maxfail: int = 0
    # Of the lines of the user's patches, how many percent must be executed; None: they are not watched.
    coverage: float | None = 0.0
    # Whether scenarios may be run in another order.
    sorts: bool = False
    # An earlier state of the source: what has changed from there is the user's, as well.
    changed_since: str = ""
    resumed: Resumed | None = None

    @property
    def rounds(self) -> Sequence[tuple[Scenario, Scenario]]:
        """Each scenario as often as it is asked for; and the same under the name of its folder."""
        return [
            (scenario, renamed(scenario, f"{scenario.name}.{number}" if self.repeat > 1 else scenario.name))
            for number in range(1, self.repeat + 1)
            for scenario in self.scenarios
        ]


@dataclass(frozen=True)
class Prepared:
    """A kernel that is built, the contract that it is judged by, and the module for it, if there is one."""

    kernel: builds.KernelBuild
    module: Path | None
    contract: ContractFacts

    @property
    def modules(self) -> Sequence[Path]:
        """What its guests load."""
        return [self.module] if self.module else []


# The phases that a person waits for, by the words for them; what the last one is at, its scenarios tell.
_PHASES = {
    "accel": "accelerator",
    "source": "source",
    "build": "build",
    "coverage": "your lines",
    "image": "guest image",
    "wall": "scenarios",
}


class Clock:
    """Adds up what each phase took, in seconds of wall time."""

    def __init__(self, progress: Progress = QUIET) -> None:
        """progress: is told which phase is under way."""
        self._view = view(progress)
        self.seconds: dict[str, float] = {}
        self._guard = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's time to a phase."""
        began = time.monotonic()
        self._view.phase(_PHASES.get(name, name))
        try:
            yield
        finally:
            self._view.phase("")
            self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a phase, from any thread."""
        with self._guard:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def recipe(request: RunRequest, cache: Path, progress: Progress) -> str:
    """The commands that would make and boot what a run is about, as a shell script; nothing is built."""
    kernel = request.kernel
    choice = accelerator.choose(request.accel, cache, progress)
    if tree := _owner(kernel):
        made = builds.owned(kernel.source, tree)
    else:
        found = source.fetch(kernel.source, cache, progress)
        series, fragments = patches.load(kernel.patches, found.version), config.load(kernel.configs, kernel.base_config)
        made = builds.Recipe(found, series, tuple(fragments), toolchain.find(kernel.compiler))
        builds.patched(made, cache)
    folder = workspace.claim(request.out) if request.out else recipes.place(cache, made, request.scenarios)
    text = recipes.write(made, request.scenarios, request.instrument, choice.used, folder, cache, progress)
    progress.say(f"{folder}: the script and the files that it needs")
    return text


def prepare(request: KernelRequest, instrument: Instrument, cache: Path, progress: Progress, clock: Clock) -> Prepared:
    """Fetch, patch, configure and build a kernel and the instrument's module, or take them from the store."""
    try:
        return _prepared(request, instrument, cache, progress, clock)
    except workspace.Damaged as damaged:
        progress.say(f"{damaged.message}; making it again")
        return _prepared(request, instrument, cache, progress, clock)


def _prepared(
    request: KernelRequest, instrument: Instrument, cache: Path, progress: Progress, clock: Clock
) -> Prepared:
    kernel = _taken(request, cache, progress, clock) or _built(request, cache, progress, clock)
    with clock.phase("build"):
        folder = instrument.module
        module = modules.build_module(folder, kernel, cache, progress) if folder else None
        # Now, while the object tree is this kernel's, and not when a guest hangs: 1 s. No judgement depends on it.
        with contextlib.suppress(BuildError):
            examine.types(kernel, cache, progress)
    for line in kernel.told:
        progress.say(line)
    made = kernel.recipe
    contract = contracts.choose(
        request.contract, request.patches, lambda: contracts.defines(made.source, builds.patched(made, cache))
    )
    # harness gc removes what was used longest ago.
    os.utime(kernel.vmlinux.parent)
    return Prepared(kernel, module, contract)


def _owner(request: KernelRequest) -> built.BuiltTree | None:
    """The tree that its owner has built, if one is asked for."""
    if not request.source.startswith(BUILT):
        return None
    if request.patches or request.configs or request.base_config:
        other = "--patch" if request.patches else "--config" if request.configs else "--base-config"
        raise UsageError(
            f"--built {request.source.removeprefix(BUILT)} beside {other}: a kernel that is built already "
            "is taken as it is",
            f"leave out {other}, or name its source with --source",
        )
    return built.find(request.source)


def _taken(request: KernelRequest, cache: Path, progress: Progress, clock: Clock) -> builds.KernelBuild | None:
    """Its kernel."""
    with clock.phase("source"):
        tree = _owner(request)
        if tree is None:
            return None
        kernel = builds.take(request.source, tree, cache, progress, wanted=request.inputs)
        if warning := versions.untried(kernel.version):
            progress.say(warning)
    return kernel


def _built(request: KernelRequest, cache: Path, progress: Progress, clock: Clock) -> builds.KernelBuild:
    """A kernel from its source, or from the store."""
    with clock.phase("source"):
        tree = source.fetch(request.source, cache, progress).in_lane(request.lane)
        if warning := versions.untried(tree.version):
            progress.say(warning)
        series = patches.load(request.patches, tree.version)
        fragments = config.load(request.configs, request.base_config)
    with clock.phase("build"):
        return builds.build(
            tree,
            series,
            fragments,
            cache,
            progress,
            compiler=request.compiler,
            jobs=request.jobs,
            wanted=request.inputs,
        )


def run(
    request: RunRequest, cache: Path, progress: Progress, tell: Callable[[ScenarioResult], None]
) -> tuple[RunVerdict, Path]:
    """The main job. Returns the verdict and the run directory that holds it.

    tell: called with each result, in the order of the scenarios. An error
    that stops the run half-way, a fault of ours among them, is in the verdict with what
    was judged before; only a UsageError, where there is nothing to judge, is raised. An
    interrupt is raised, too, once the verdict is written.
    """
    clock = Clock(progress)
    began = time.monotonic()
    before = len(workspace.damage())
    kept = request.resumed
    folder = kept.folder if kept else run_folder(request.out, cache)
    state = _State(request, folder)
    try:
        if kept is None:
            state.write()
        if kept is None or state.left:
            _go(state, cache, progress, clock, tell)
    except UsageError:
        state.forget()
        raise
    except KeyboardInterrupt:
        process.end_all()
        state.interrupted = True
    except Exception as error:
        process.end_all()
        state.error = fault.explained(error, folder)
        if isinstance(state.error, UsageError):
            state.forget()
            raise state.error from error
    clock.add("total", time.monotonic() - began)
    verdict = state.verdict(clock)
    noise = judging.known_noise(folder, [result.name for result in verdict.scenarios])
    verdict = dataclasses.replace(verdict, noise=noise, cache=(*verdict.cache, *workspace.damage()[before:]))
    _join_consoles(folder, verdict)
    state.recall(verdict.scenarios)
    write(verdict, folder, state.details)
    # It saves the next run time, and is not worth a verdict.
    with contextlib.suppress(OSError, HarnessError):
        state.remember(cache)
    if verdict.interrupted:
        progress.say(
            f"{folder}: {len(verdict.scenarios)} scenarios were judged, {len(verdict.not_run)} were not; "
            f"harness run --resume {shlex.quote(str(folder))} goes on"
        )
        raise KeyboardInterrupt
    return verdict, folder


def _go(state: _State, cache: Path, progress: Progress, clock: Clock, tell: Callable[[ScenarioResult], None]) -> None:
    """Build what is missing, and run what is left."""
    request, folder = state.request, state.folder
    with clock.phase("accel"):
        # A run that is gone on with stays with what it was measured on.
        choice = accelerator.choose(state.begun.used.used or request.accel, cache, progress)
        state.use(choice)
    with clock.phase("source"):
        since = reached.state(request.changed_since, cache, progress)
    prepared = prepare(request.kernel, request.instrument, cache, progress, clock)
    state.take(prepared, cache)
    state.sort(prepared.kernel, cache)
    with clock.phase("build"):
        applicable = state.applicable(prepared, cache, progress)
    with clock.phase("coverage"):
        if request.coverage is not None:
            state.watch = reached.watch(prepared.kernel, cache, progress, since)
    with clock.phase("image"):
        image = images.assemble(cache, [*prepared.modules, *state.watched], progress, request.instrument)
    state.carry(image.key)
    if state.watch:
        state.watch.recall(folder, state.judged)
    _keep_kernel(prepared, folder, request, choice.used, cache, progress)
    if request.record:
        tapes.keep(folder, prepared.kernel.image, image.path)
    with clock.phase("wall"):
        state.lab = lab = Lab(
            prepared.kernel, image, choice, cache, progress, instrument=request.instrument, record=request.record
        )
        lab.look = lambda machine, place: look(lab, machine, place)
        if applicable.scenarios:
            _run_all(applicable, lab, state, folder, clock, cache, progress, tell)


class _State:
    """What is known of a run so far. judged: by name, as it comes; results: in order, as they were told."""

    def __init__(self, request: RunRequest, folder: Path) -> None:
        self.request = request
        self.folder = folder
        self.kept = kept = request.resumed
        self.begun = (
            dataclasses.replace(kept.begun, maxfail=request.maxfail, sandbox=sandbox.name())
            if kept
            else _begun(request)
        )
        self.kernel: builds.KernelBuild | None = None
        self.lab: Lab | None = None
        self.accel = AccelFacts(request.accel, self.begun.used.used, self.begun.used.reason)
        # What could not be looked at for a reason of the host is looked at again.
        kept_results = kept.verdict.scenarios if kept else ()
        self.judged = {result.name: result for result in kept_results if result.outcome is not Outcome.ERROR}
        self.results: list[ScenarioResult] = []
        self.details = Details()
        self.skipped = dict(kept.verdict.skipped) if kept else {}
        self.error: HarnessError | None = None
        self.interrupted = False
        self.watch: reached.Watch | None = None

    @property
    def enough(self) -> bool:
        """Findings of as many causes as were asked for."""
        return 0 < self.request.maxfail <= len(causes(self.results))

    @property
    def left(self) -> Sequence[str]:
        """What has had no turn, and may have one."""
        if self.counted[1]:
            return []
        done = self.judged.keys() | self.skipped.keys()
        return [one.name for scenario, one in self.request.rounds if not {scenario.name, one.name} & done]

    @property
    def counted(self) -> tuple[Mapping[str, ScenarioResult], bool]:
        """The results of the run, by name, and whether they are enough.

        What ran beside the last finding that was asked for is not waited for, and does not count.
        """
        first: dict[str, ScenarioResult] = {}
        for scenario, one in self.request.rounds if self.request.maxfail else ():
            if one.name in self.judged:
                first[one.name] = self.judged[one.name]
                if len(causes(list(first.values()))) >= self.request.maxfail:
                    return first, True
            elif not {scenario.name, one.name} & self.skipped.keys():
                break
        return self.judged, False

    def recall(self, results: Sequence[ScenarioResult]) -> None:
        """Take the details of what was judged before the run was gone on with."""
        plans = {one.name: one for _, one in self.request.rounds} if self.kept else {}
        for result in results:
            if result.name in plans and result.name not in self.details.found:
                # They are of use to a reader, and no part of the verdict.
                with contextlib.suppress(HarnessError):
                    self.details.add(recordings.read(self.folder / result.name, plans[result.name]), result)

    def write(self) -> None:
        """Write run.json."""
        workspace.write_atomic(self.folder / begun.NAME, json.dumps(self.begun.document(), indent=1) + "\n")

    def forget(self) -> None:
        """Leave the folder of a run that asked for what does not exist as it was."""
        if self.kept is None:
            (self.folder / begun.NAME).unlink(missing_ok=True)

    def use(self, choice: accelerator.Choice) -> None:
        """Note the accelerator."""
        if not self.begun.used.used:
            self.accel = AccelFacts(self.request.accel, choice.used, choice.reason)
            self.begun = dataclasses.replace(self.begun, used=self.accel)

    def take(self, prepared: Prepared, cache: Path) -> None:
        """Note the kernel and its contract. Raises UsageError for another kernel than was judged before."""
        kernel = prepared.kernel
        facts = KernelFacts(kernel.release, kernel.build_id, kernel.cached, kernel.recipe.source.commit)
        if self.begun.kernel.build_id not in ("", kernel.build_id):
            raise UsageError(
                f"{self.folder}: its kernel had build id {self.begun.kernel.build_id[:12]}, "
                f"its inputs now make {kernel.build_id[:12]}",
                "begin again without --resume",
            )
        self.kernel = kernel
        inputs = builds.inputs(kernel.recipe, cache)
        self.begun = dataclasses.replace(self.begun, kernel=facts, inputs=inputs)
        if not self.begun.contract.used:
            self.begun = dataclasses.replace(self.begun, contract=prepared.contract)

    def carry(self, image: str) -> None:
        """Note what the guests carry, and write it all down. Raises UsageError when it is not what it was before."""
        if self.begun.image not in ("", image):
            raise UsageError(
                f"{self.folder}: the module or a program of its guests has changed since",
                "begin again without --resume",
            )
        self.begun = dataclasses.replace(self.begun, image=image, skipped=self.skipped)
        # From here on, the run is not what an earlier verdict says.
        (self.folder / manifest.NAME).unlink(missing_ok=True)
        self.write()

    @property
    def contract(self) -> Contract:
        """The one that the kernel is judged by, once the kernel is there."""
        return Contract(self.begun.contract.used)

    def applicable(self, prepared: Prepared, cache: Path, progress: Progress) -> RunRequest:
        """The request without the scenarios that do not apply to this kernel; the reasons are kept."""
        reasons = {
            scenario.name: missing(scenario, prepared.kernel, self.contract, cache, progress)
            for scenario in self.request.scenarios
        }
        self.skipped |= {name: reason for name, reason in reasons.items() if reason}
        left = [scenario for scenario in self.request.scenarios if not reasons[scenario.name]]
        return dataclasses.replace(self.request, scenarios=left)

    @property
    def watched(self) -> Sequence[Path]:
        """What guests load to count changed lines."""
        return self.watch.modules if self.watch else ()

    def sort(self, kernel: builds.KernelBuild, cache: Path) -> None:
        """Put what is likely to fail in front, unless the user named an order or the run has one."""
        if self.request.sorts and self.kept is None:
            scenarios = order.order(self.request.scenarios, kernel, self.request.kernel.source, cache)
            self.request = dataclasses.replace(self.request, scenarios=scenarios)
            self.begun = dataclasses.replace(self.begun, scenarios=tuple(scenario.name for scenario in scenarios))

    def remember(self, cache: Path) -> None:
        """Keep for the next run what failed, and which scenarios executed changed lines."""
        if self.kernel:
            ran = [name for name, _ in self.watch.coverage().scenarios] if self.watch else []
            order.remember(list(self.judged.values()), ran, self.kernel, self.request.kernel.source, cache)

    def verdict(self, clock: Clock) -> RunVerdict:
        """The verdict on the whole run."""
        asked, before = self.request, self.kept.verdict if self.kept else self.begun.unjudged()
        found, enough = self.counted
        results = tuple(found[one.name] for _, one in asked.rounds if one.name in found)
        done = found.keys() | self.skipped.keys()
        not_run = tuple(one.name for scenario, one in asked.rounds if not {scenario.name, one.name} & done)
        error, forced = str(self.error or ""), None
        if self.error is not None:
            forced = Outcome.INCONCLUSIVE if isinstance(self.error, CannotTest) else Outcome.ERROR
        elif self.interrupted:
            error, forced = f"interrupted; {len(not_run)} scenarios were not judged", Outcome.ERROR
        elif not_run and enough:
            error = f"stopped at --maxfail {asked.maxfail}; {len(not_run)} scenarios were not judged"
        for name, seconds in before.seconds.items():
            clock.add(name, seconds)
        return dataclasses.replace(
            before,
            kernel=self.begun.kernel,
            accel=self.accel,
            contract=self.begun.contract,
            sandbox=self.begun.sandbox,
            machines=MachineFacts(self.lab.refused, self.lab.came) if self.lab else before.machines,
            scenarios=results,
            skipped=self.skipped,
            seconds=clock.seconds,
            error=error,
            interrupted=self.interrupted,
            not_run=not_run,
            forced=forced,
            coverage=self.watch.coverage(asked.coverage or 0.0) if self.watch else None,
        )


def _begun(request: RunRequest) -> Begun:
    """A request as run.json holds it."""
    kernel = request.kernel
    return Begun(
        source=kernel.source,
        patches=tuple(kernel.patches),
        configs=tuple(kernel.configs),
        base_config=kernel.base_config,
        compiler=kernel.compiler,
        accel=request.accel,
        jobs=request.jobs,
        repeat=request.repeat,
        timeout_s=request.timeout_s,
        record=request.record,
        maxfail=request.maxfail,
        coverage=request.coverage,
        changed_since=request.changed_since,
        folder=str(Path.cwd()),
        files={str(scenario.path): scenario.text for scenario in request.scenarios},
        scenarios=tuple(scenario.name for scenario in request.scenarios),
        contract=ContractFacts(kernel.contract, "", ""),
        sandbox=sandbox.name(),
        id=uuid.uuid4().hex,
        began_s=round(time.time(), 3),
    )


class _Turns:
    """Gives scenarios their turn, from any thread. before: what needs none."""

    def __init__(self, lab: Lab, state: _State, folder: Path, clock: Clock, timeout_s: float) -> None:
        self._lab = lab
        self._state = state
        self._folder = folder
        self._clock = clock
        self._timeout_s = timeout_s
        self.before = dict(state.judged)
        # Set when the run has ended and nothing more may start.
        self.over = threading.Event()
        self.running: dict[str, Listener] = {}
        self._boots = state.kept is None or state.kept.boots

    def take(self, scenario: Scenario) -> ScenarioResult | None:
        """The result of a scenario; None when it gets no turn any more."""
        if scenario.name in self.before:
            return self.before[scenario.name]
        if not self._boots or self.over.is_set():
            return None
        if self._state.kept:
            _clear(self._folder, scenario.name)
        result, ended = judge_on(
            self._lab,
            scenario,
            self._folder,
            self._clock,
            contract=self._state.contract,
            timeout_s=self._timeout_s,
            over=self.over,
            watch=self._state.watch,
            told=self._state.details.add,
            running=self.running,
        )
        if ended is Ended.NO_BOOT:
            self._boots = False
        # A machine that was ended with the run says nothing.
        if not self.over.is_set():
            self._state.judged[scenario.name] = result
        return result


def _run_all(
    request: RunRequest,
    lab: Lab,
    state: _State,
    folder: Path,
    clock: Clock,
    cache: Path,
    progress: Progress,
    tell: Callable[[ScenarioResult], None],
) -> None:
    """Every scenario that is left on a machine of its own, several at once, the results told in order."""
    turns = _Turns(lab, state, folder, clock, request.timeout_s)
    rounds = [scenario for _, scenario in request.rounds]
    largest_mib = max(scenario.shape.memory_mib for scenario in request.scenarios)
    jobs = request.jobs or min(auto_jobs(largest_mib), len(request.scenarios))
    took = order.seconds(cache)

    def table() -> Table:
        """The scenarios as they are now."""
        ended = Counter(result.outcome.value for result in dict(state.judged).values())
        running = dict(turns.running)
        left = [one.name for one in rounds if one.name not in state.judged and one.name not in running]
        left_s = sum(took.get(order.plain(name), 0.0) for name in left) / jobs
        rows = [Running(name, one.elapsed_s, one.doing) for name, one in running.items()]
        return Table(tuple(ended.items()), rows, len(left), left_s)

    view(progress).watch(table)
    with concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="guest") as pool:

        def stop() -> None:
            """Nothing more begins, and what runs ends."""
            turns.over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            process.end_all()

        futures = [pool.submit(turns.take, scenario) for scenario in rounds]
        try:
            # Here nothing waits for it; after a panic, the verdict would.
            oracles.prepare()
            templating.prepare()
            for scenario, future in zip(rounds, futures, strict=True):
                result = future.result()
                if result is None:
                    state.skipped[scenario.name] = "not tried: this kernel does not boot"
                else:
                    state.results.append(result)
                    if scenario.name not in turns.before:
                        tell(result)
                    if state.enough:
                        stop()
                        return
        except BaseException:
            stop()
            raise
        finally:
            view(progress).watch(None)


def _clear(folder: Path, name: str) -> None:
    """Remove what is left of a scenario that was under way when its run ended."""
    place = folder / name
    if place.exists():
        shutil.rmtree(place)
    for suffix in (".bin", ".part"):
        (folder / "events" / f"{name}{suffix}").unlink(missing_ok=True)


def look(lab: Lab, machine: Machine, folder: Path) -> PostMortem:
    """The post-mortem of a machine of a lab."""
    return examine.examine(machine, lab.kernel, lab.cache, folder, lab.instrument.sections)


def missing(scenario: Scenario, kernel: builds.KernelBuild, contract: Contract, cache: Path, progress: Progress) -> str:
    """Why a scenario does not apply to a kernel; empty when it does. Builds what it needs from the kernel's tree."""
    options = kconfig.values(kernel.config.read_text(encoding="utf-8"))
    needs = dataclasses.replace(scenario.needs, options=tuple(scenario.needed))
    lacking = needs.missing(options, kernel.release, contract)
    if lacking:
        return lacking
    loaded = {name.rpartition("/")[2].upper() for name in scenario.modules}
    if modules_only := [name for name in needs.options if options.get(name) == "m" and name not in loaded]:
        named = ", ".join(f"CONFIG_{name}" for name in modules_only)
        return f"needs {named} built in, and this kernel has it as a module, which guests do not load"
    if not contract.demanded(scenario.exercised, scenario.policies):
        return f"exercises {', '.join(scenario.exercised)} alone, of which the contract {contract} has none"
    try:
        files(scenario, kernel, cache, progress)
    except CannotTest as error:
        return str(error)
    return ""


def judge_on(
    lab: Lab,
    scenario: Scenario,
    folder: Path,
    clock: Clock,
    *,
    contract: Contract = Contract.MAYFAIL,
    timeout_s: float = 0,
    over: threading.Event | None = None,
    watch: reached.Watch | None = None,
    told: Callable[[Recording, ScenarioResult], None] | None = None,
    running: dict[str, Listener] | None = None,
) -> tuple[ScenarioResult, Ended | None]:
    """Record a scenario on a fresh machine and judge it.

    A machine that was lost for a reason on the host costs one more try, and never
    causes a verdict on the kernel; nor does one that by chance came to too little, which is
    tried again, too, and is inconclusive only if it is so twice. contract: the one that the kernel
    is judged by. timeout_s: replaces the scenario's own, unscaled.
    over: set when the run has ended and nothing more may start. watch: counts what the guest executes.
    told: called with the recording that the result rests on.
    running: gets the scenario for as long as it is under way.
    """
    running = {} if running is None else running
    for attempt in (1, 2):
        try:
            listener = running[scenario.name] = Listener()
            limit_s = timeout_s or scenario.timeout_s
            recording, ready = _record(lab, scenario, folder, contract, limit_s, watch, listener)
        except GuestLost as lost:
            if attempt == 1 and not (over and over.is_set()):
                continue
            return ScenarioResult(scenario.name, Outcome.ERROR, reason=str(lost), attempts=attempt), None
        finally:
            running.pop(scenario.name, None)
        began = time.monotonic()
        result = judging.judge(recording)
        if result.outcome is Outcome.INCONCLUSIVE and attempt == 1 and not (over and over.is_set()):
            continue
        if result.outcome is Outcome.FAIL:
            lab.hangs.learn(scenario.name, recording.postmortem.waits)
        if told:
            told(recording, result)
        phases = {**ready, "scenario": recording.seconds, "judge": time.monotonic() - began}
        if recording.postmortem_s:
            phases["postmortem"] = recording.postmortem_s
        for name, seconds in ready.items():
            clock.add(name, seconds)
        clock.add("scenarios", recording.seconds)
        taped = tapes.TAPE if (folder / scenario.name / tapes.TAPE).exists() else ""
        return dataclasses.replace(result, attempts=attempt, phases=phases, tape=taped), recording.ended
    raise AssertionError("unreachable")


def _record(
    lab: Lab,
    scenario: Scenario,
    folder: Path,
    contract: Contract,
    timeout_s: float,
    watch: reached.Watch | None,
    listener: Listener,
) -> tuple[Recording, dict[str, float]]:
    """Drive a fresh machine and write the recording down; returns it with the seconds of "boot" and "restore".

    A kernel that does not boot makes a recording too: the console is its evidence.
    """
    place = folder / scenario.name
    place.mkdir(parents=True, exist_ok=True)
    given = files(scenario, lab.kernel, lab.cache)
    if watch:
        watch.expect(scenario.name)
    began = time.monotonic()
    try:
        with lab.machine(scenario.shape, place, listener) as machine:
            waited_s = time.monotonic() - began
            restored_s = machine.ready_s if machine.cloned else 0.0
            ready = {"boot": waited_s - restored_s, "restore": restored_s}
            pace = lab.pace(machine)
            if watch:
                watch.begin(machine)
            recording = drive(
                scenario,
                machine,
                lab.instrument,
                listener,
                timeout_s,
                folder / "events" / f"{scenario.name}.bin",
                functools.partial(look, lab, machine, place),
                given,
                pace.slowdown,
                lab.hangs,
            )
            if watch:
                watch.end(machine, scenario.name, recording.ended)
            recording = dataclasses.replace(recording, slowdown=pace.slowdown, loop_ms=pace.loop_ms)
    except BootFailed as failed:
        ready = {"boot": time.monotonic() - began}
        console = (place / "console.log").read_bytes()
        recording = recordings.no_boot(scenario, str(failed), console, ready["boot"])
        recording = dataclasses.replace(recording, postmortem=PostMortem(examine.cause(place)))
    recording = recordings.settled(dataclasses.replace(recording, contract=contract))
    with workspace.space(place):
        workspace.write_atomic(place / "scenario.yaml", scenario.text)
        if watch and (counts := watch.document(scenario.name)):
            workspace.write_atomic(place / reached.FILE, counts)
        digests = recordings.digests(place, scenario.name)
        workspace.write_atomic(place / "record.json", recordings.document(recording, digests))
    return recording, ready


def auto_jobs(memory_mib: int) -> int:
    """As many guests as the host has CPUs, as long as each finds its memory and a quarter more for QEMU itself."""
    need_kib = memory_mib * 1024 * 5 // 4
    free_kib = 0
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free_kib = int(line.split()[1])
    return max(1, min(len(os.sched_getaffinity(0)), free_kib // need_kib))


def run_folder(out: Path | None, cache: Path) -> Path:
    """A run directory that no other run uses."""
    if out is not None:
        return workspace.claim(out)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = cache / "runs" / (f"{stamp}-{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        workspace.hold(folder, str(folder))
        return folder
    raise MachineError(f"{cache / 'runs'}: a thousand runs began in this second")


def _keep_kernel(
    prepared: Prepared, folder: Path, request: RunRequest, accel: str, cache: Path, progress: Progress
) -> None:
    kernel = prepared.kernel
    for name, path in (("config", kernel.config), ("build.log", kernel.log)):
        workspace.write_atomic(folder / "kernel" / name, path.read_bytes())
    workspace.write_atomic(folder / "kernel" / "build-id", kernel.build_id + "\n")
    for number, patch in enumerate(kernel.recipe.series.patches, 1):
        name = _UNSAFE.sub("_", patch.name.rpartition("/")[2].lstrip("0123456789-"))[:80].removesuffix(".patch")
        workspace.write_atomic(folder / PATCHES / f"{number:04}-{name}.patch", patch.text)
    if kernel.told:
        workspace.write_atomic(folder / "kernel" / "config.told", "".join(f"{line}\n" for line in kernel.told))
    for module in prepared.modules:
        workspace.link(module, folder / MODULES / module.name)
    recipes.write(kernel.recipe, request.scenarios, request.instrument, accel, folder / RECIPE, cache, progress)


def _join_consoles(folder: Path, verdict: RunVerdict) -> None:
    """console.log of the run: each scenario's console behind a line with its name."""
    parts = []
    for result in verdict.scenarios:
        path = folder / result.name / "console.log"
        if path.exists():
            parts.append(f"===== {result.name} =====\n".encode() + path.read_bytes())
    workspace.write_atomic(folder / "console.log", b"\n".join(parts))
