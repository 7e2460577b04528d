# SPDX-License-Identifier: GPL-2.0-only
"""Proof that the harness listens: a fault of each class that a kernel can report is planted, and is heard.

guest-modules/planted commits the fault in the driver's task, in a clone of its own for each
fault; the asserted findings went through the console, the parser and the oracles.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import console
from harness.console import noise
from harness.host.clock import scaled
from harness.host.workspace import cache_dir, data
from harness.kernel import modules, versions
from harness.model.instrument import Instrument
from harness.model.recording import Ended, Recording
from harness.model.shape import MachineShape
from harness.model.verdict import Outcome, ScenarioResult
from harness.run import judging
from harness.run.drive import Listener, drive
from harness.run.pipeline import KernelRequest, look
from harness.run.session import Session
from harness.variants import catalogue, instruments
from tests.guest.command import EACH

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

MODULE = "planted"
# Seconds; more on a host that is slower than TCG is here. The slowest of the kernel's detectors speaks within 10.
LIMIT_S = 15.0
DEBUG = ("lockdep", "debug-vm", "kasan")

SCENARIO = """\
# SPDX-License-Identifier: GPL-2.0-only
summary: A planted fault.
shape: {{memory: {memory}}}
steps:
{before}  - {{insmod: {module}}}
  - {{write: /dev/{module}, value: '{fault}'}}
exercised: {{callbacks: 1}}
"""

# Fault → type and title of its report. A stall is blamed on the function that the dispatcher called, as syzbot does.
OOPSES = {
    "bug": ("BUG", "kernel BUG in planted_bug"),
    "null": ("NULL-POINTER-DEREFERENCE", "BUG: unable to handle kernel NULL pointer dereference in planted_read"),
    "paging": ("MEMORY_SAFETY_BUG", "BUG: unable to handle kernel paging request in planted_read"),
    "gpf": ("DoS", "general protection fault in planted_read"),
    "divide": ("DoS", "divide error in planted_divide"),
}
REPORTS = {
    "warning": ("WARNING", "WARNING in planted_warning"),
    "count": ("REFCOUNT_WARNING", "WARNING: refcount bug in planted_count"),
}
PANICS = {
    "panic": ("DoS", "kernel panic: planted"),
    "overflow": ("DoS", "BUG: stack guard page was hit in planted_write"),
}
CHECKED = {
    "list": ("WARNING", "WARNING in planted_list"),
    "page": ("MEMORY_SAFETY_BUG", "BUG: Bad page state in planted_page"),
    "freed": ("KASAN-USE-AFTER-FREE-READ", "KASAN: slab-use-after-free Read in planted_read"),
    "beyond": ("KASAN-READ", "KASAN: slab-out-of-bounds Read in planted_read"),
    "circle": ("LOCKDEP", "possible deadlock in planted_circle"),
    "unread": ("LOCKDEP", "WARNING: suspicious RCU usage in planted_unread"),
    "atomic": ("ATOMIC_SLEEP", "BUG: sleeping function called from invalid context in planted_atomic"),
    "nap": ("ATOMIC_SLEEP", "BUG: scheduling while atomic in planted_nap"),
}
# Faults that share a guest: at most one for lockdep and one for KASAN; a fault that switches lockdep off comes last.
CROWDS = (("circle", "freed", "list", "page"), ("unread", "beyond", "atomic", "nap"))

# Detectors that a test is not about are off, or wait: set before the module loads, whose init makes RCU's clock run.
_NO_LOCKUP = "  - {write: /proc/sys/kernel/watchdog, value: 0}\n"
_NO_STALL = "  - {write: /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout, value: 300}\n"
# Where a CPU is kept busy, a kworker may wait for RCU since the boot (do_free_init()), and would be reported first.
_NO_HUNG_TASK = "  - {write: /proc/sys/kernel/hung_task_timeout_secs, value: 0}\n"

# Fault, steps before it, title, and the part of the module that the post-mortem's cause names.
HANGS = [
    ("sleep", "", "INFO: task hung in planted_sleep", "planted_sleep"),
    ("loop", _NO_STALL + _NO_HUNG_TASK, "BUG: soft lockup in planted_write", "planted_busy"),
    ("irqs", _NO_STALL + _NO_HUNG_TASK, "BUG: hard lockup in planted_write", "planted_busy"),
    ("stall", _NO_LOCKUP + _NO_HUNG_TASK, "INFO: rcu detected stall in planted_write", "planted_busy"),
    ("work", _NO_LOCKUP + _NO_STALL + _NO_HUNG_TASK, "BUG: workqueue lockup", "planted_busy"),
]

Plant = Callable[..., tuple[Recording, ScenarioResult]]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """A function that plants a fault in a fresh guest; returns the recording and its judgement."""

    @functools.cache
    def session(source: str, configs: tuple[str, ...]) -> Session:
        return Session(
            KernelRequest(source, configs=configs),
            instruments.NOTIFIER_HOLD,
            "auto",
            out=tmp_path_factory.mktemp("run"),
        )

    @functools.cache
    def planted(fault: str, *configs: str, source: str = versions.DEFAULT, before: str = "") -> object:
        made = session(source, configs)
        lab, place = made.lab, made.folder / fault
        place.mkdir()
        # KASAN wants as much as debug-kernel.yaml has.
        memory = "1G" if configs else "512M"
        path = place / f"{place.name}.yaml"
        path.write_text(SCENARIO.format(memory=memory, module=MODULE, before=before, fault=fault))
        (scenario,) = catalogue.choose([str(path)])
        module = modules.build_module(data("guest-modules") / MODULE, lab.kernel, cache_dir())
        listener = Listener()
        with lab.machine(scenario.shape, place, listener) as machine:
            recording = drive(
                scenario,
                machine,
                lab.instrument,
                listener,
                max(LIMIT_S, scaled(1, lab.slowdown(machine))),
                made.folder / "events" / f"{fault}.bin",
                functools.partial(look, lab, machine, place),
                {f"{MODULE}.ko": module},
            )
        return recording, judging.judge(recording)

    return planted  # type: ignore[return-value]


Crowd = Callable[[str, tuple[str, ...], tuple[str, ...]], tuple[bytes, ScenarioResult]]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    """A function that plants several faults in one guest, each in its own process; returns console and verdict."""

    @functools.cache
    def planted(source: str, configs: tuple[str, ...], faults: tuple[str, ...]) -> object:
        instrument = Instrument(module=data("guest-modules") / MODULE)
        folder = tmp_path_factory.mktemp("crowd")
        made = Session(KernelRequest(source, configs=configs), instrument, "auto", out=folder)
        # KASAN wants as much as debug-kernel.yaml has.
        with made.watched("crowd", MachineShape(memory_mib=1024 if configs else 512)) as seen:
            for fault in faults:
                seen.machine.run("sh", "-c", f"echo {fault} > /dev/{MODULE}", timeout_s=60)
        return (folder / "crowd" / "console.log").read_bytes(), seen.result

    return planted  # type: ignore[return-value]


def heard(said: bytes, result: ScenarioResult, oracle: str, expected: tuple[str, str]) -> None:
    """The whole report is there, by type and title; the oracle made a finding of it; the scenario failed."""
    reports = {(report.type, report.title): report for report in console.find(said)}
    assert expected in reports, list(reports)
    assert not reports[expected].torn
    assert (oracle, expected[1]) in [(finding.oracle, finding.summary) for finding in result.findings]
    assert result.outcome is Outcome.FAIL


@EACH
@pytest.mark.parametrize("fault", [*OOPSES, *REPORTS])
def test_what_a_kernel_survives_is_a_finding(crowd: Crowd, fault: str, source: str) -> None:
    """All faults in one guest, whose kernel goes on; each report is kept apart from the others."""
    said, result = crowd(source, (), (*OOPSES, *REPORTS))

    heard(said, result, "clean-log", {**OOPSES, **REPORTS}[fault])


def test_an_oops_that_kills_the_driver_is_the_kernel_s_fault(plant: Plant) -> None:
    """And not the machine's; a warning lets it go on."""
    oops, result = plant("null")
    warning, _ = plant("warning")

    heard(oops.console, result, "clean-log", OOPSES["null"])
    assert (oops.ended, warning.ended) == (Ended.STEP_FAILED, Ended.COMPLETE)


@pytest.mark.parametrize("fault", PANICS)
def test_what_a_kernel_does_not_survive_is_a_finding(plant: Plant, fault: str) -> None:
    """And its last state was read from outside."""
    recording, result = plant(fault)

    heard(recording.console, result, "clean-log", PANICS[fault])
    assert recording.ended is Ended.PANIC
    assert "    planted_" in recording.postmortem.cause


@pytest.mark.parametrize(("fault", "before", "title", "where"), HANGS, ids=[hang[0] for hang in HANGS])
def test_what_does_not_go_on_is_told_by_the_detector_that_is_for_it(
    plant: Plant, fault: str, before: str, title: str, where: str
) -> None:
    """The kernel's own report, and the cause as read from outside."""
    recording, result = plant(fault, before=before)

    heard(recording.console, result, "no-hang", ("HANG", title))
    assert f"    {where}+" in recording.postmortem.cause


@pytest.mark.parametrize("fault", CHECKED)
def test_what_only_a_debugging_kernel_sees_is_a_finding(crowd: Crowd, fault: str) -> None:
    """lockdep, kasan and debug-vm in one kernel, in two guests: after its first report lockdep and KASAN are silent."""
    (faults,) = [faults for faults in CROWDS if fault in faults]

    said, result = crowd(versions.DEFAULT, DEBUG, faults)

    heard(said, result, "clean-log", CHECKED[fault])


def test_each_fault_that_a_debugging_kernel_sees_is_planted_once() -> None:
    assert sorted(fault for faults in CROWDS for fault in faults) == sorted(CHECKED)


def test_the_module_alone_is_not_heard(plant: Plant) -> None:
    """Without a fault there is no report: what is heard is what was planted."""
    recording, _ = plant("nothing")

    assert recording.ended is Ended.STEP_FAILED
    assert list(console.find(recording.console)) == []


@pytest.mark.parametrize(("expires", "failed"), [("9999-12-31", False), ("2020-01-01", True)])
def test_known_noise_excuses_a_report_until_it_expires(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expires: str, failed: bool
) -> None:
    """What is left is a scenario that proved too little."""
    recording, _ = plant("warning")
    listed = tmp_path / "noise.yaml"
    words = {"title": "WARNING in planted_warning", "reason": "planted", "link": "none", "owner": "nobody"}
    listed.write_text(json.dumps({"entries": [words]})[:-3] + f', "expires": {expires}' + "}]}\n")
    monkeypatch.setattr(noise, "DEFAULT", listed)

    assert (judging.judge(recording).outcome is Outcome.FAIL) is failed
