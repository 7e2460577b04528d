# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.guest.boot import BootFailed, Parts, boot
from harness.guest.image import GuestImage
from harness.guest.machine import Condition, Machine, Pace, Watchdogs
from harness.model.errors import GuestLost, LaunchError, MachineError, OutOfSpace
from harness.model.shape import MachineShape
from tests.fakes import qemu as fake


@pytest.fixture
def start(tmp_path: Path):
    """Starts the scripted QEMU in one of its parts."""

    def make(part: str, slowdown: float = 0.0, **options):
        program = tmp_path / part
        shutil.copy(fake.__file__, program)
        text = program.read_text("utf-8")
        program.write_text(f"#!{sys.executable}\n{text}", "utf-8")
        program.chmod(0o755)
        image = GuestImage(tmp_path / "i.cpio", Path("/bin/false"), "key", 0.0)
        parts = Parts(image, tmp_path / "vmlinux", slowdown=slowdown, program=str(program), confined=False)
        return boot(parts, MachineShape(swap_mib=1), run_dir=tmp_path / "run", **options)

    return make


def test_a_guest_that_answers_is_a_machine_and_leaves_only_its_log(start, tmp_path):
    with start("answers") as machine:
        assert machine.hello["release"] == "6.6.6"
        assert machine.state().condition is Condition.RUNNING
        assert machine.agent.ping() < 30
        pid = machine.pid
        assert Path(f"/proc/{pid}").exists()

    assert not Path(f"/proc/{pid}").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["console.log"]


def test_qemu_that_refuses_is_a_launch_error_with_its_words(start):
    with pytest.raises(LaunchError, match="status 1: qemu: -machine imaginary") as caught, start("refuses"):
        pass
    assert "-nodefaults" in caught.value.hint


def test_a_qemu_that_crashes_at_boot_is_started_again(start):
    """It is not started again for ever."""
    with start("recovers") as machine:
        assert machine.hello["release"] == "6.6.6"

    with pytest.raises(LaunchError, match="status -11") as caught, start("crashes"):
        pass
    assert "-nodefaults" in caught.value.hint


def test_a_program_that_is_missing_is_a_launch_error(tmp_path):
    image = GuestImage(tmp_path, Path("/bin/false"), "key", 0.0)
    with (
        pytest.raises(LaunchError, match="not found in PATH"),
        boot(Parts(image, tmp_path, program="qemu-of-dreams"), run_dir=tmp_path / "run"),
    ):
        pass


@pytest.mark.parametrize(
    ("part", "reason", "message"),
    [
        ("panics", "panic", "the kernel panicked at boot: .*VFS: Unable to mount"),
        ("resets", "exited", "reset before the kernel reached PID 1"),
        ("silent", "silent", r"did not reach PID 1 after .*limit 1 s.*Oops: 0000"),
    ],
)
def test_a_kernel_that_does_not_boot_is_something_seen(start, part, reason, message):
    """It raises no HarnessError: the verdict on such a kernel is fail, not error."""
    with pytest.raises(BootFailed, match=message) as caught, start(part, limit_s=1.0, slowdown=1.0):
        pass
    assert caught.value.reason == reason
    assert "\x1b" not in caught.value.console


def test_a_guest_that_the_host_did_not_let_run_is_lost_not_dead(start):
    with pytest.raises(GuestLost, match=r"did not reach PID 1 after .*, but the host has stopped QEMU"):
        start("stopped", limit_s=1.0, slowdown=1.0).__enter__()


def test_a_guest_that_speaks_nonsense_is_lost(start):
    with pytest.raises(GuestLost, match="sent no frame"), start("hostile"):
        pass


def test_qemu_that_is_killed_has_no_kernel_to_blame(start):
    """The state names the signal; the running command is lost."""
    with start("murdered") as machine:
        with pytest.raises(GuestLost):
            machine.agent.ping()
        state = machine.state()

    assert state.condition is Condition.EXITED
    assert state.exit_status == -9


@pytest.mark.parametrize(
    ("part", "kind", "message"),
    [
        ("full", OutOfSpace, r"run: no space left \(\d+ MiB free\)"),
        ("ailing", MachineError, "run: the guest's swap disk there failed: write: it smokes"),
    ],
)
def test_a_disk_of_the_host_that_fails_ends_every_wait(start, part, kind, message):
    """QEMU has stopped the guest, which would be silent until the end of its time; it is not tried again."""
    with start(part) as machine:
        for ask in (lambda: machine.agent.ping(3600), lambda: machine.run("true", timeout_s=3600)):
            with pytest.raises(kind, match=message) as caught:
                ask()
            assert not isinstance(caught.value, GuestLost)
        assert machine.wait(3600) == -9
        with pytest.raises(kind, match=message):
            machine.mind_the_host()


def test_a_disk_that_is_full_at_boot_is_no_kernel_that_does_not_boot(start):
    with pytest.raises(OutOfSpace, match="no space left"):
        start("cramped", limit_s=3600.0).__enter__()


def test_a_guest_that_qemu_does_not_run_has_not_hung(start, monkeypatch):
    """Unless it stopped by itself."""
    with start("answers") as machine:
        for status in ("io-error", "internal-error", "paused", "debug", "prelaunch", "postmigrate"):
            monkeypatch.setattr(machine, "_status", lambda said=status: said)
            assert machine.stopped_by_qemu() == f"QEMU stopped the guest: {status}"
        for status in ("running", "guest-panicked", "shutdown", "suspended", ""):
            monkeypatch.setattr(machine, "_status", lambda said=status: said)
            assert machine.stopped_by_qemu() == ""


def test_a_guest_gets_no_disk_that_cannot_grow(start, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(1 << 20) - 1))

    with pytest.raises(OutOfSpace, match=r"0 MiB free; a guest's swap disk needs up to 1 MiB"):
        start("answers").__enter__()


def test_silence_behind_a_channel_that_broke_is_no_sign_of_the_guest(start):
    """Nobody would hear a heartbeat; QEMU runs, and nothing else is known."""
    with start("stalls") as machine:
        assert machine.state(silence_s=0).condition is Condition.SILENT

        machine.agent.close()

        assert machine.state(silence_s=0).condition is Condition.RUNNING


@pytest.mark.parametrize("limit_s", [5, 30, 60, 600, 6000])
def test_the_kernel_tells_of_a_hang_before_the_harness_gives_up(limit_s):
    dogs = Watchdogs.within(limit_s)

    assert dogs.softlockup_s >= 2
    assert dogs.softlockup_s % 2 == 0
    assert dogs.softlockup_s <= dogs.rcu_stall_s <= dogs.hung_task_s < limit_s


@pytest.mark.parametrize(("taped", "expected"), [(False, 10.0), (True, 40.0)])
def test_limits_hold_by_the_guests_clock_too_where_it_is_faster_than_ours(
    monkeypatch: pytest.MonkeyPatch, taped: bool, expected: float
) -> None:
    """A guest says that it worked for 180 ms, and we waited for 45: only on a tape may both be true."""
    guest = SimpleNamespace(taped=taped, run=lambda *_, **__: SimpleNamespace(status=0, stdout=b"180000000 9000000\n"))
    clock = iter((0, 45_000_000))
    monkeypatch.setattr("harness.guest.machine.time", SimpleNamespace(monotonic_ns=lambda: next(clock)))

    assert Machine.pace(cast(Machine, guest)) == Pace(expected, 9.0)
