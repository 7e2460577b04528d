# SPDX-License-Identifier: GPL-2.0-only
"""KVM for real, on any host: the harness in an outer machine that emulates an AMD with SVM, and its guests inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.host.workspace import cache_dir
from tests.guest.command import harness
from tests.guest.outer import kernel
from tests.guest.outer.machine import Outer, outer

pytestmark = [
    pytest.mark.guest,
    pytest.mark.kernel_build,
    pytest.mark.skipif(not kernel.is_debian(), reason="the outer machine runs Debian's kernel, and this is not Debian"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outer]:
    """An outer machine without /dev/kvm. What runs inside was built outside, and is only read."""
    built = harness("build")
    assert built.status == 0, built.stderr
    with outer(kernel.fetch(cache_dir()), tmp_path_factory.mktemp("outer")) as started:
        yield started


@pytest.fixture
def with_kvm(machine: Outer) -> Iterator[Outer]:
    """The same with /dev/kvm."""
    with machine.kvm():
        yield machine


def accelerators(machine: Outer) -> dict[str, Any]:
    """What the check says in there."""
    ended = machine.harness("doctor", "--json")
    assert ended.status == 0, ended.stderr
    found: dict[str, Any] = ended.document["accelerators"]
    return found


# QEMU 7.2's emulation of SVM loses an interrupt now and then: the second CPU of the inner guest stands still
# at boot, and the kernel says so itself (seen in one of eight legs). Only that is tried again.
_BOOTS = 3


def run(machine: Outer) -> dict[str, Any]:
    """The verdict document of a scenario under KVM, which must pass on what happened in it."""
    words = ("run", "--accel", "kvm", "--json", "memcg-eagain")
    ended = machine.harness(*words)
    for _ in range(_BOOTS - 1):
        if "the kernel did not boot" in ended.stderr:
            ended = machine.harness(*words)
    assert ended.status == 0, ended.stderr
    document = ended.document
    assert document["verdict"] == "pass"
    assert document["kernel"]["cached"] is True
    assert document["accel"]["used"] == "kvm"
    assert document["scenarios"][0]["exercised"]["eagain"] >= 4000
    return document


def test_without_a_device_kvm_is_not_usable_and_tcg_is(machine: Outer) -> None:
    found = accelerators(machine)

    assert found["kvm"]["usable"] is False
    assert found["kvm"]["reason"] == "/dev/kvm does not exist"
    assert found["tcg"]["usable"] is True


def test_kvm_that_runs_a_64_bit_guest_is_usable(with_kvm: Outer) -> None:
    found = accelerators(with_kvm)

    assert found["kvm"]["usable"] is True, found
    assert "ran to its end" in found["kvm"]["reason"]


def test_a_scenario_passes_in_a_clone_under_kvm(with_kvm: Outer) -> None:
    document = run(with_kvm)

    assert document["machines"] == {"from": "clone", "reason": ""}
    assert document["seconds"]["restore"] > 0


def test_a_scenario_passes_in_a_booted_machine_under_kvm_where_no_snapshot_fits(with_kvm: Outer) -> None:
    with with_kvm.little_space(cache_dir() / "snapshots", 64):
        document = run(with_kvm)

    assert document["machines"]["from"] == "boot"
    assert "64 MiB free" in document["machines"]["reason"]
    assert document["seconds"]["restore"] == 0
