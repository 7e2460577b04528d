# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests of the guest layer.

They boot the kernel that the options of the plugin name (pytest
--kernel-source …), or the vmlinux in $HARNESS_TEST_VMLINUX, which needs no build.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.guest import boot as boots
from harness.guest import image as images
from harness.guest.boot import Parts, boot, tsc_khz
from harness.guest.machine import Machine
from harness.host import accelerator
from harness.host.workspace import cache_dir
from harness.model.shape import MachineShape
from harness.pytest_plugin.sessions import session

Boot = Callable[..., AbstractContextManager[Machine]]

# The longest tests begin first, so that nothing long is left when the rest is done: words of files' names.
_LONGEST_FIRST = ("kvm", "bisect", "planted", "postmortem", "mutants", "explore", "run", "readme", "failures", "replay")
# Files and tests whose fixtures cost more than a test: one worker runs all tests of each.
_TOGETHER = (
    "test_kvm.py",
    # Its last tests are about what the others left behind.
    "test_failures.py",
    "test_replay.py",
    "test_selftests.py",
    "test_snapshot.py",
    "test_readme.py",
    "test_planted.py::test_what_a_kernel_survives_is_a_finding",
    "test_planted.py::test_what_only_a_debugging_kernel_sees_is_a_finding",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:  # noqa: ARG001 - pytest's
    """One more than there are CPUs: a guest that hangs asleep, and a linker, leave their CPUs to others."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they are started."""
    place = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem.removeprefix("test_"), len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests go to the next free worker, one by one except for those that belong together.

    pytest-xdist 3.8's own groups have no effect with pytest 9.2, which keeps no Item._nodeid.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneByOne(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            # A parameter may hold a slash, too.
            name = nodeid.partition("[")[0].rpartition("/")[2]
            return next((scope for scope in _TOGETHER if name.startswith(scope)), nodeid)

    return OneByOne(config, log)


@pytest.fixture(scope="session")
def parts(pytestconfig: pytest.Config) -> Parts:
    """An image without modules, the kernel, and the accelerator."""
    named = os.environ.get("HARNESS_TEST_VMLINUX")
    vmlinux = Path(named) if named else session(pytestconfig).lab.kernel.vmlinux
    choice = accelerator.choose(pytestconfig.getoption("--kernel-accel"), cache_dir())
    return Parts(images.assemble(cache_dir()), vmlinux, choice.used)


@pytest.fixture
def start(parts: Parts, tmp_path: Path) -> Boot:
    """A function that boots a machine; each gets a folder of its own."""
    count = iter(range(100))

    def make(shape: MachineShape | None = None, **options: Any) -> AbstractContextManager[Machine]:
        folder = tmp_path / f"machine-{next(count)}"
        return boot(parts, shape or MachineShape(), run_dir=folder, **options)

    return make


@pytest.fixture
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A machine as the fixture `guest` gives one, for a test that breaks what a judgement of its kernel needs."""
    with session(pytestconfig).machine() as machine:
        yield machine


@pytest.fixture
def rates(parts: Parts, monkeypatch) -> Callable[[int], list[int]]:
    """A function that tells the next boots twice the real rate of the time stamp counter.

    To the kernel this looks like a host that runs QEMU unevenly. The list holds the rate of each boot.
    """
    if parts.accel != "tcg":
        pytest.skip("under KVM the kernel is not told a rate")
    right = tsc_khz(parts.image.init)
    told: list[int] = []

    def mislead(times: int) -> list[int]:
        def tell(_: Path) -> int:
            told.append(right * 2 if len(told) < times else right)
            return told[-1]

        monkeypatch.setattr(boots, "tsc_khz", tell)
        return told

    return mislead


def fine_timers(machine: Machine) -> bool:
    """Whether both CPUs have a timer of their own that is better than the tick."""
    return machine.agent.read_file("/proc/timer_list").count(b".hres_active    : 1\n") == 2
