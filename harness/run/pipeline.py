# SPDX-License-Identifier: GPL-2.0-only
"""source → patch → build → image → boot → pressure → recording → verdict → report."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import oracles
from harness.guest import image as images
from harness.guest import tape as tapes
from harness.guest.boot import BootFailed
from harness.guest.lab import Lab
from harness.guest.machine import Machine
from harness.host import accelerator, fault, process, workspace
from harness.host.progress import Progress
from harness.kernel import build as builds
from harness.kernel import config, kconfig, modules, patches, source, versions
from harness.model import recording as recordings
from harness.model.causes import causes
from harness.model.errors import BuildError, CannotTest, GuestLost, HarnessError, MachineError, UsageError
from harness.model.instrument import Instrument
from harness.model.postmortem import PostMortem
from harness.model.recording import Ended, Recording
from harness.model.run import AccelFacts, KernelFacts, MachineFacts, RunVerdict
from harness.model.scenario import Scenario, renamed
from harness.model.verdict import Outcome, ScenarioResult
from harness.postmortem import examine
from harness.report.write import write
from harness.run import judging
from harness.run.drive import Listener, drive, files

# In a run's folder: the module as it was loaded.
MODULES = "kernel/modules"


@dataclass(frozen=True)
class KernelRequest:
    """Which kernel: the options that every command with a kernel shares."""

    source: str = versions.DEFAULT
    patches: Sequence[str] = (versions.PATCH,)
    configs: Sequence[str] = ()
    compiler: str = "gcc"


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


@dataclass(frozen=True)
class Prepared:
    """A kernel that is built, and the module for it, if there is one."""

    kernel: builds.KernelBuild
    module: Path | None

    @property
    def modules(self) -> Sequence[Path]:
        """What its guests load."""
        return [self.module] if self.module else []


class Clock:
    """Adds up what each phase took, in seconds of wall time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._guard = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's time to a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a phase, from any thread."""
        with self._guard:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


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
    with clock.phase("source"):
        tree = source.fetch(request.source, cache, progress)
        if warning := versions.untried(tree.version):
            progress.say(warning)
        series = patches.load(request.patches, tree.version)
        fragments = config.load(request.configs)
    with clock.phase("build"):
        kernel = builds.build(tree, series, fragments, cache, progress, compiler=request.compiler)
        folder = instrument.module
        module = modules.build_module(folder, kernel, cache, progress) if folder else None
        # Now, while the object tree is this kernel's, and not when a guest hangs: 1 s. No judgement depends on it.
        with contextlib.suppress(BuildError):
            examine.types(kernel, cache, progress)
    # harness gc removes what was used longest ago.
    os.utime(kernel.vmlinux.parent)
    return Prepared(kernel, module)


def run(
    request: RunRequest, cache: Path, progress: Progress, tell: Callable[[ScenarioResult], None]
) -> tuple[RunVerdict, Path]:
    """The main job. Returns the verdict and the run directory that holds it.

    tell: called with each result, in the order of the scenarios. An error
    that stops the run half-way, a fault of ours among them, is in the verdict with what
    was judged before; only a UsageError, where there is nothing to judge, is raised. An
    interrupt is raised, too, once the verdict is written.
    """
    clock = Clock()
    began = time.monotonic()
    before = len(workspace.damage())
    folder = run_folder(request.out, cache)
    state = _State(request)
    try:
        with clock.phase("accel"):
            choice = accelerator.choose(request.accel, cache, progress)
            state.accel = AccelFacts(request.accel, choice.used, choice.reason)
        prepared = prepare(request.kernel, request.instrument, cache, progress, clock)
        state.kernel = prepared.kernel
        _keep_kernel(prepared, folder)
        with clock.phase("build"):
            request = state.applicable(prepared.kernel, cache, progress)
        with clock.phase("image"):
            image = images.assemble(cache, prepared.modules, progress, request.instrument)
        if request.record:
            tapes.keep(folder, prepared.kernel.vmlinux, image.path)
        with clock.phase("wall"):
            state.lab = lab = Lab(
                prepared.kernel, image, choice, cache, progress, instrument=request.instrument, record=request.record
            )
            lab.look = lambda machine, place: look(lab, machine, place)
            if request.scenarios:
                _run_all(request, lab, state, folder, clock, tell)
    except UsageError:
        raise
    except KeyboardInterrupt:
        process.end_all()
        state.interrupted = True
    except Exception as error:
        process.end_all()
        state.error = fault.explained(error, folder)
        if isinstance(state.error, UsageError):
            raise state.error from error
    clock.add("total", time.monotonic() - began)
    verdict = state.verdict(clock)
    noise = judging.known_noise(folder, [result.name for result in verdict.scenarios])
    verdict = dataclasses.replace(verdict, noise=noise, cache=tuple(workspace.damage()[before:]))
    _join_consoles(folder, verdict)
    write(verdict, folder)
    if verdict.interrupted:
        progress.say(f"{folder}: {len(verdict.scenarios)} scenarios were judged, {len(verdict.not_run)} were not")
        raise KeyboardInterrupt
    return verdict, folder


class _State:
    """What is known of a run so far."""

    def __init__(self, request: RunRequest) -> None:
        self.request = request
        self.kernel: builds.KernelBuild | None = None
        self.lab: Lab | None = None
        self.accel = AccelFacts(request.accel, "", "")
        self.results: list[ScenarioResult] = []
        self.skipped: dict[str, str] = {}
        self.error: HarnessError | None = None
        self.interrupted = False

    @property
    def enough(self) -> bool:
        """Findings of as many causes as were asked for."""
        return 0 < self.request.maxfail <= len(causes(self.results))

    def applicable(self, kernel: builds.KernelBuild, cache: Path, progress: Progress) -> RunRequest:
        """The request without the scenarios that do not apply to this kernel; the reasons are kept."""
        reasons = {scenario.name: missing(scenario, kernel, cache, progress) for scenario in self.request.scenarios}
        self.skipped |= {name: reason for name, reason in reasons.items() if reason}
        left = [scenario for scenario in self.request.scenarios if not reasons[scenario.name]]
        return dataclasses.replace(self.request, scenarios=left)

    def verdict(self, clock: Clock) -> RunVerdict:
        """The verdict on the whole run."""
        kernel, asked = self.kernel, self.request
        done = {result.name for result in self.results} | self.skipped.keys()
        not_run = tuple(scenario.name for scenario in _rounds(asked) if scenario.name not in done)
        error, forced = str(self.error or ""), None
        if self.error is not None:
            forced = Outcome.INCONCLUSIVE if isinstance(self.error, CannotTest) else Outcome.ERROR
        elif self.interrupted:
            error, forced = f"interrupted; {len(not_run)} scenarios were not judged", Outcome.ERROR
        elif not_run and self.enough:
            error = f"stopped at --maxfail {asked.maxfail}; {len(not_run)} scenarios were not judged"
        return RunVerdict(
            source=asked.kernel.source,
            patches=tuple(asked.kernel.patches),
            configs=tuple(dict.fromkeys(("base", *asked.kernel.configs))),
            kernel=KernelFacts(kernel.release, kernel.build_id, kernel.cached)
            if kernel
            else KernelFacts("", "", False),
            accel=self.accel,
            machines=MachineFacts(self.lab.refused, self.lab.came) if self.lab else MachineFacts(),
            scenarios=tuple(self.results),
            skipped=self.skipped,
            seconds=clock.seconds,
            error=error,
            interrupted=self.interrupted,
            not_run=not_run,
            forced=forced,
        )


def _rounds(request: RunRequest) -> list[Scenario]:
    """Each scenario as often as it is asked for, under the name of its folder."""
    return [
        renamed(scenario, f"{scenario.name}.{number}" if request.repeat > 1 else scenario.name)
        for number in range(1, request.repeat + 1)
        for scenario in request.scenarios
    ]


def _run_all(
    request: RunRequest,
    lab: Lab,
    state: _State,
    folder: Path,
    clock: Clock,
    tell: Callable[[ScenarioResult], None],
) -> None:
    """Every scenario on a machine of its own, several at once, the results told in order."""
    broken = threading.Event()

    def one(scenario: Scenario) -> ScenarioResult | None:
        if broken.is_set():
            return None
        result, ended = judge_on(lab, scenario, folder, clock, timeout_s=request.timeout_s, over=broken)
        if ended is Ended.NO_BOOT:
            broken.set()
        return result

    rounds = _rounds(request)
    largest_mib = max(scenario.shape.memory_mib for scenario in request.scenarios)
    jobs = request.jobs or min(auto_jobs(largest_mib), len(request.scenarios))
    with concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="guest") as pool:

        def stop() -> None:
            """Nothing more begins, and what runs ends."""
            broken.set()
            pool.shutdown(wait=False, cancel_futures=True)
            process.end_all()

        futures = [pool.submit(one, scenario) for scenario in rounds]
        try:
            # Here nothing waits for it; after a panic, the verdict would.
            oracles.prepare()
            for scenario, future in zip(rounds, futures, strict=True):
                result = future.result()
                if result is None:
                    state.skipped[scenario.name] = "not tried: this kernel does not boot"
                else:
                    state.results.append(result)
                    tell(result)
                    if state.enough:
                        stop()
                        return
        except BaseException:
            stop()
            raise


def look(lab: Lab, machine: Machine, folder: Path) -> PostMortem:
    """The post-mortem of a machine of a lab."""
    return examine.examine(machine, lab.kernel, lab.cache, folder, lab.instrument.sections)


def missing(scenario: Scenario, kernel: builds.KernelBuild, cache: Path, progress: Progress) -> str:
    """Why a scenario does not apply to a kernel; empty when it does. Builds what it needs from the kernel's tree."""
    lacking = scenario.needs.missing(kconfig.values(kernel.config.read_text(encoding="utf-8")), kernel.release)
    if lacking:
        return lacking
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
    timeout_s: float = 0,
    over: threading.Event | None = None,
) -> tuple[ScenarioResult, Ended | None]:
    """Record a scenario on a fresh machine and judge it.

    A machine that was lost for a reason on the host costs one more try, and never
    causes a verdict on the kernel. timeout_s: replaces the scenario's own, unscaled.
    over: set when the run has ended and nothing more may start.
    """
    for attempt in (1, 2):
        try:
            recording, ready = _record(lab, scenario, folder, timeout_s or scenario.timeout_s)
        except GuestLost as lost:
            if attempt == 1 and not (over and over.is_set()):
                continue
            return ScenarioResult(scenario.name, Outcome.ERROR, reason=str(lost), attempts=attempt), None
        began = time.monotonic()
        result = judging.judge(recording)
        phases = {**ready, "scenario": recording.seconds, "judge": time.monotonic() - began}
        if recording.postmortem_s:
            phases["postmortem"] = recording.postmortem_s
        for name, seconds in ready.items():
            clock.add(name, seconds)
        clock.add("scenarios", recording.seconds)
        taped = tapes.TAPE if (folder / scenario.name / tapes.TAPE).exists() else ""
        return dataclasses.replace(result, attempts=attempt, phases=phases, tape=taped), recording.ended
    raise AssertionError("unreachable")


def _record(lab: Lab, scenario: Scenario, folder: Path, timeout_s: float) -> tuple[Recording, dict[str, float]]:
    """Drive a fresh machine and write the recording down; returns it with the seconds of "boot" and "restore".

    A kernel that does not boot makes a recording too: the console is its evidence.
    """
    place = folder / scenario.name
    place.mkdir(parents=True, exist_ok=True)
    given = files(scenario, lab.kernel, lab.cache)
    began = time.monotonic()
    try:
        listener = Listener()
        with lab.machine(scenario.shape, place, listener) as machine:
            waited_s = time.monotonic() - began
            restored_s = machine.ready_s if machine.cloned else 0.0
            ready = {"boot": waited_s - restored_s, "restore": restored_s}
            slowdown = lab.slowdown(machine)
            recording = drive(
                scenario,
                machine,
                lab.instrument,
                listener,
                timeout_s,
                folder / "events" / f"{scenario.name}.bin",
                functools.partial(look, lab, machine, place),
                given,
                slowdown,
            )
            recording = dataclasses.replace(recording, slowdown=slowdown)
    except BootFailed as failed:
        ready = {"boot": time.monotonic() - began}
        console = (place / "console.log").read_bytes()
        recording = recordings.no_boot(scenario, str(failed), console, ready["boot"])
        recording = dataclasses.replace(recording, postmortem=PostMortem(examine.cause(place)))
    with workspace.space(place):
        workspace.write_atomic(place / "scenario.yaml", scenario.path.read_bytes())
        workspace.write_atomic(place / "record.json", recordings.document(recording))
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
        return folder
    raise MachineError(f"{cache / 'runs'}: a thousand runs began in this second")


def _keep_kernel(prepared: Prepared, folder: Path) -> None:
    kernel = prepared.kernel
    for name, path in (("config", kernel.config), ("build.log", kernel.log)):
        workspace.write_atomic(folder / "kernel" / name, path.read_bytes())
    workspace.write_atomic(folder / "kernel" / "build-id", kernel.build_id + "\n")
    for module in prepared.modules:
        workspace.link(module, folder / MODULES / module.name)


def _join_consoles(folder: Path, verdict: RunVerdict) -> None:
    """console.log of the run: each scenario's console behind a line with its name."""
    parts = []
    for result in verdict.scenarios:
        path = folder / result.name / "console.log"
        if path.exists():
            parts.append(f"===== {result.name} =====\n".encode() + path.read_bytes())
    workspace.write_atomic(folder / "console.log", b"\n".join(parts))
