# SPDX-License-Identifier: GPL-2.0-only
"""Real KVM on any host: the harness runs in an outer machine that emulates an AMD CPU with SVM, its guests inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.host.workspace import cache_dir
from tests.guest.command import harness
from tests.guest.outer import kernel, packages
from tests.guest.outer.machine import Outer, outer

pytestmark = [
    pytest.mark.guest,
    pytest.mark.kernel_build,
    pytest.mark.skipif(
        not packages.is_debian(), reason="the outer machine runs Debian's kernel, and this is not Debian"
    ),
]


# A run inside takes 60 to 110 s on a busy host.
_LIMIT_S = 400


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outer]:
    """An outer machine without /dev/kvm, for all tests. Its programs were built outside, and are only read inside."""
    built = harness("build")
    assert built.status == 0, built.stderr
    with outer(kernel.fetch(cache_dir()), tmp_path_factory.mktemp("outer")) as made:
        yield made


@pytest.fixture(scope="module")
def without(machine: Outer) -> dict[str, Any]:
    """What the check says before there is a /dev/kvm."""
    return accelerators(machine)


@pytest.fixture(scope="module")
def kvm(machine: Outer, without: dict[str, Any]) -> Outer:
    """The machine, with /dev/kvm from now on."""
    assert without
    machine.load_kvm()
    return machine


def accelerators(machine: Outer) -> dict[str, Any]:
    """What the check says inside the machine."""
    ended = machine.harness("doctor", "--json")
    assert ended.status == 0, ended.stderr
    found: dict[str, Any] = ended.document["accelerators"]
    return found


def run(machine: Outer) -> dict[str, Any]:
    """The verdict document of a scenario under KVM, which must pass on what it exercised."""
    ended = machine.harness("run", "--accel", "kvm", "--json", "memcg-eagain", limit_s=_LIMIT_S)
    assert ended.status == 0, ended.findings() if ended.stdout else ended.stderr
    document = ended.document
    assert document["verdict"] == "pass"
    assert document["kernel"]["cached"] is True
    assert document["accel"]["used"] == "kvm"
    assert document["scenarios"][0]["exercised"]["eagain"] >= 4000
    return document


def test_kvm_is_usable_where_it_runs_a_64_bit_guest_and_only_there(without: dict[str, Any], kvm: Outer) -> None:
    found = accelerators(kvm)

    assert without["kvm"]["usable"] is False
    assert without["kvm"]["reason"] == "/dev/kvm does not exist"
    assert without["tcg"]["usable"] is True
    assert found["kvm"]["usable"] is True, found
    assert "ran to its end" in found["kvm"]["reason"]


@pytest.mark.nightly
def test_a_scenario_passes_in_a_clone_under_kvm(kvm: Outer) -> None:
    document = run(kvm)

    assert document["machines"] == {"from": "clone", "reason": ""}
    assert document["seconds"]["restore"] > 0


@pytest.mark.nightly
def test_a_scenario_passes_in_a_booted_machine_under_kvm_where_no_snapshot_fits(kvm: Outer) -> None:
    with kvm.little_space(cache_dir() / "snapshots", 64):
        document = run(kvm)

    assert document["machines"]["from"] == "boot"
    assert "64 MiB free" in document["machines"]["reason"]
    assert document["seconds"]["restore"] == 0
