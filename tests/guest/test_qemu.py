# SPDX-License-Identifier: GPL-2.0-only
"""What the harness asks of QEMU, with the QEMU of each suite of Debian that has one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.host import emulator as emulators
from harness.host.workspace import cache_dir
from tests.guest.command import LIMIT_S, ROOT, environment
from tests.guest.outer import emulator, packages

pytestmark = [
    pytest.mark.guest,
    pytest.mark.kernel_build,
    pytest.mark.nightly,
    pytest.mark.skipif(not packages.is_debian(), reason="the packages are Debian's, and this is not Debian"),
]

# Clones, tapes, pvpanic, watchdog.
_TESTS = (
    "test_snapshot.py::test_a_clone_answers_and_says_that_it_is_one",
    "test_snapshot.py::test_what_one_clone_writes_no_other_sees",
    "test_snapshot.py::test_a_state_that_qemu_does_not_load_makes_machines_boot",
    "test_replay.py::test_a_failure_that_was_recorded_is_there_for_good",
    "test_listening.py::test_a_panic_is_told_without_the_console",
    "test_listening.py::test_a_guest_that_spins_is_told_from_one_that_is_dead",
)


@pytest.mark.parametrize(("suite", "version"), [("trixie", "10.0."), ("sid", "")])
def test_clones_tapes_and_alarms_work_in_the_qemu_of_a_newer_debian(
    suite: str, version: str, pytestconfig: pytest.Config
) -> None:
    """Of sid, whatever it has."""
    root = emulator.fetch(suite, cache_dir())
    assert emulators.unpacked(root).version.startswith(version)
    accel = f"--kernel-accel={pytestconfig.getoption('--kernel-accel')}"
    words = ("-q", "-p", "no:cacheprovider", "-m", "not nightly", accel, *(f"tests/guest/{name}" for name in _TESTS))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env=environment(**{emulators.VARIABLE: str(root)}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
