# SPDX-License-Identifier: GPL-2.0-only
"""Clones of one boot: as fresh as a booted machine, and with nothing in common."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.guest import snapshot as snapshots
from harness.guest.boot import BootFailed, Parts
from harness.guest.lab import Lab
from harness.guest.machine import Machine, Watchdogs
from harness.guest.snapshot import Snapshot
from harness.host import process
from harness.host.clock import Deadline
from harness.host.progress import Quiet
from harness.host.workspace import cache_dir, digest_sparse
from harness.model.errors import MachineError
from harness.model.shape import MachineShape
from tests.guest.conftest import fine_timers

pytestmark = pytest.mark.guest

LIMIT_S = 120.0
SHAPE = MachineShape(memory_mib=256)

Clone = Callable[..., AbstractContextManager[Machine]]


class Said(Quiet):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Take a line."""
        self.lines.append(text)


@pytest.fixture(scope="module")
def frozen(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A snapshot for this test module only: taken here, whatever the cache holds."""
    folder = tmp_path_factory.mktemp("frozen")
    return snapshots.have(parts, SHAPE, folder / "cache", folder)


@pytest.fixture
def clone(frozen: Snapshot, parts: Parts, tmp_path: Path) -> Clone:
    """Clones of it, each with a folder of its own."""
    count = iter(range(100))

    def make(snapshot: Snapshot = frozen) -> AbstractContextManager[Machine]:
        return snapshots.clone(snapshot, parts, SHAPE, run_dir=tmp_path / f"clone-{next(count)}")

    return make


def lab_of(session_lab: Lab, tmp_path: Path, said: Said, **changes) -> Lab:
    """A lab of the same kernel, with a cache of its own."""
    lab = Lab(session_lab.kernel, session_lab.image, session_lab.choice, tmp_path / "cache", said)
    lab.parts = dataclasses.replace(lab.parts, **changes)
    return lab


@pytest.fixture
def session_lab(pytestconfig: pytest.Config) -> Lab:
    """The kernel that the whole session uses."""
    from harness.pytest_plugin.sessions import session

    return session(pytestconfig).lab


def test_a_guest_that_gave_its_timer_up_is_not_frozen(parts: Parts, tmp_path: Path, rates):
    rates(1)
    taken = snapshots.have(parts, SHAPE, tmp_path / "cache", tmp_path / "boot")

    with snapshots.clone(taken, parts, SHAPE, run_dir=tmp_path / "clone") as machine:
        assert fine_timers(machine)


def test_a_snapshot_is_the_devices_state_and_the_memory_that_was_used(frozen):
    assert frozen.fresh
    memory = (frozen.folder / "memory").stat()
    assert memory.st_size == SHAPE.memory_mib << 20
    assert 0 < memory.st_blocks * 512 < memory.st_size // 2
    assert 0 < (frozen.folder / "state").stat().st_size < 4 << 20


def test_a_clone_answers_and_says_that_it_is_one(clone, start):
    with clone() as machine:
        assert machine.cloned
        assert machine.run("uname", "-r").text.strip() == machine.hello["release"]
        assert machine.run("sh", "-c", "exit 3").status == 3
        assert machine.terminal.run("echo $((6 * 7))", LIMIT_S).strip() == "42"
    with start(SHAPE) as machine:
        assert not machine.cloned


def test_two_clones_agree_on_nothing_random(clone):
    """Side by side, and one after the other: boot_id, the generator's bytes, the layout of a process, the SSH keys."""
    draws = ["boot_id", "urandom", "stack", "key"]

    def drawn(machine: Machine) -> list[str]:
        stack = machine.run("sh", "-c", "grep stack /proc/self/maps").text
        random = machine.run("sh", "-c", "head -c 16 /dev/urandom | od -x").text
        machine.shell.run("true", LIMIT_S)
        key = machine.agent.read_file("/etc/dropbear/host_key").hex()
        return [machine.boot_id, random, stack.split("-")[0], key]

    with clone() as one, clone() as two:
        first, second = drawn(one), drawn(two)
    with clone() as three:
        third = drawn(three)

    for what, values in zip(draws, zip(first, second, third, strict=True), strict=True):
        assert len(set(values)) == 3, f"{what}: {values}"


def test_what_one_clone_writes_no_other_sees(clone, frozen):
    digest = digest_sparse(frozen.folder / "memory")
    with clone() as one, clone() as two:
        one.agent.write_file("/tmp/mine", "x" * 1_000_000)
        one.run("sh", "-c", "dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null; swapoff -a", timeout_s=LIMIT_S)
        assert two.run("ls", "/tmp").text == ""
        assert "vda" in two.agent.read_file("/proc/swaps").decode()
    with clone() as three:
        assert three.run("ls", "/tmp").text == ""
    assert digest_sparse(frozen.folder / "memory") == digest


def test_a_clone_lives_in_the_present(clone):
    """CLOCK_REALTIME follows the host, while the monotonic clocks continue where the snapshot was taken."""
    with clone() as machine:
        before = time.time()
        shown = float(machine.run("date", "+%s").text)
        assert before - 2 <= shown <= time.time() + 2
        uptime = float(machine.agent.read_file("/proc/uptime").split()[0])
        assert uptime * 1e9 >= int(machine.hello["boottime_ns"])


def test_what_each_scenario_needs_is_done_before(clone, start):
    """What the harness believes of a clone is so: its limits are set, and PID 1 holds the files open."""

    def open_files(machine: Machine) -> list[str]:
        links = machine.run("sh", "-c", 'for each in /proc/1/fd/*; do readlink "$each"; done').text.split()
        return [link for link in links if link.startswith("/")]

    with clone() as machine:
        held = open_files(machine)
        assert machine.kept
        assert machine.kept <= {*held}
        assert machine.settings
        for path, value in machine.settings.items():
            assert machine.agent.read_file(path).decode().strip() == value, path
        for path in [*machine.kept]:
            machine.keep(path)
        assert open_files(machine) == held
        machine.set_watchdogs(Watchdogs.within(1.0))
        assert machine.agent.read_file("/proc/sys/kernel/hung_task_timeout_secs").strip() == b"4"
    with start(SHAPE) as machine:
        assert not machine.kept
        assert not machine.settings


def test_no_timer_of_the_kernel_trips_over_the_pause(clone, frozen):
    """The snapshot is as old as the tests before this one; even with the shortest limits no watchdog complains."""
    with clone() as machine:
        machine.set_watchdogs(Watchdogs.within(1.0))
        machine.run("sleep", "8", timeout_s=LIMIT_S)
        machine.agent.write_file("/dev/kmsg", "the end\n")
        machine.console.wait_for("the end", Deadline(LIMIT_S))
        said = machine.console.log.read_bytes()
    assert said.startswith(frozen.console)
    added = said[len(frozen.console) :].decode()
    assert "the end" in added
    assert not any(word in added for word in ("lockup", "stall", "blocked for more", "Clocksource"))


def test_the_log_of_a_clone_begins_with_its_boot(clone):
    with clone() as machine:
        assert machine.console.text_since(0).count("Linux version") == 1


def test_a_snapshot_that_changed_is_not_used(parts, tmp_path):
    said = Said()
    taken = snapshots.have(parts, SHAPE, tmp_path / "cache", tmp_path, progress=said)
    assert taken.fresh
    assert not snapshots.have(parts, SHAPE, tmp_path / "cache", tmp_path, progress=said).fresh
    with (taken.folder / "memory").open("r+b") as stream:
        stream.seek(64 << 20)
        stream.write(b"?")

    assert snapshots.have(parts, SHAPE, tmp_path / "cache", tmp_path, progress=said).fresh
    assert said.lines[-1] == "snapshot: memory in the cache is damaged; making it again"


def test_a_state_that_qemu_does_not_load_makes_machines_boot(session_lab, tmp_path):
    """A clone that fails is no verdict on the kernel: the machine is booted, and the reason is reported."""
    said = Said()
    lab = lab_of(session_lab, tmp_path, said)
    snapshot = lab._snapshot(SHAPE, tmp_path / "first")
    with (snapshot.folder / "state").open("r+b") as stream:
        stream.write(b"nonsense")

    with lab.machine(SHAPE, tmp_path / "second") as machine:
        assert not machine.cloned
        assert machine.run("true").status == 0
    assert lab.refused
    assert said.lines[-1].startswith("machines are booted, not cloned: ")


def test_a_qemu_that_cannot_clone_makes_machines_boot(session_lab, tmp_path):
    program = tmp_path / "qemu"
    real = process.which(session_lab.parts.program)
    program.write_text(
        f"""#!/bin/sh
case "$*" in *memory-backend-file*) echo "qemu: no such object" >&2; exit 1;; esac
exec {real} "$@"
"""
    )
    program.chmod(0o755)
    lab = lab_of(session_lab, tmp_path, Said(), program=str(program), confined=False)

    with lab.machine(SHAPE, tmp_path / "one") as machine:
        assert not machine.cloned
    assert "qemu: no such object" in lab.refused


def test_a_kernel_that_does_not_boot_is_tried_once(session_lab, tmp_path):
    shape = MachineShape(cmdline=("rdinit=/nonesuch", "root=/dev/nonesuch"))
    lab = lab_of(session_lab, tmp_path, Said())
    for name in ("one", "two"):
        with pytest.raises(BootFailed, match="panicked at boot"), lab.machine(shape, tmp_path / name):
            pass
    assert not lab.refused
    one, two = ((tmp_path / name / "console.log").read_bytes() for name in ("one", "two"))
    assert b"Kernel panic" in one
    assert one == two
    assert not [path for path in (tmp_path / "cache" / "snapshots").iterdir() if path.is_dir()]


def test_a_full_disk_takes_no_snapshot(parts, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    with pytest.raises(MachineError, match=r"10 MiB free \(a snapshot needs up to 256\)"):
        snapshots.have(parts, SHAPE, tmp_path / "cache", tmp_path)


def test_another_shape_or_host_is_another_snapshot(parts, monkeypatch):
    key = snapshots._key(parts, SHAPE)
    assert snapshots._key(parts, SHAPE) == key
    assert snapshots._key(parts, SHAPE.with_cmdline("nosmp")) != key
    assert snapshots._key(parts, MachineShape(memory_mib=128)) != key
    kvm = dataclasses.replace(parts, accel="kvm")
    assert snapshots._key(kvm, SHAPE) != key
    before = snapshots._key(kvm, SHAPE)
    monkeypatch.setattr(snapshots, "_processor", lambda: "another")
    assert snapshots._key(kvm, SHAPE) != before
    assert snapshots._key(parts, SHAPE) == key
    monkeypatch.setattr("harness.host.workspace.identity", lambda _: "another QEMU")
    assert snapshots._key(parts, SHAPE) != key


def test_the_sessions_own_machines_are_clones(session_lab, tmp_path):
    with session_lab.machine(MachineShape(), tmp_path) as machine:
        assert machine.cloned, session_lab.refused
    assert session_lab.cache == cache_dir()
