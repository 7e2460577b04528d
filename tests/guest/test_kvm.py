# SPDX-License-Identifier: GPL-2.0-only
"""KVM for real, on any host: the harness in an outer machine that emulates an AMD with SVM, and its guests inside."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from harness.guest.agent import GuestTimeout
from harness.host.workspace import cache_dir
from tests.guest.command import Ended, harness
from tests.guest.outer import kernel
from tests.guest.outer.machine import Outer, outer

pytestmark = [
    pytest.mark.guest,
    pytest.mark.kernel_build,
    pytest.mark.skipif(not kernel.is_debian(), reason="the outer machine runs Debian's kernel, and this is not Debian"),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[Outer]]:
    """Makes outer machines without /dev/kvm. What runs inside was built outside, and is only read."""
    built = harness("build")
    assert built.status == 0, built.stderr
    found = kernel.fetch(cache_dir())
    return lambda: outer(found, tmp_path_factory.mktemp("outer"))


def accelerators(machine: Outer) -> dict[str, Any]:
    """What the check says in there."""
    ended = machine.harness("doctor", "--json")
    assert ended.status == 0, ended.stderr
    found: dict[str, Any] = ended.document["accelerators"]
    return found


# What is left of it with one CPU (outer/machine.py): a CPU of the inner guest that stands still, which the kernel says
# itself at boot or later, or the outer machine does with it. Only these are tried again.
_TRIES = 3
# What runs inside took 84 to 108 s, two at once on two CPUs.
_LIMIT_S = 300
# What a guest says of a CPU that stood still, and the oracles that notice nothing else.
_STALLED = re.compile(r"\blockup\b|\bdetected stall\b|\btask hung\b")
_OF_TIME = ("no-hang", "latency")


def stood_still(ended: Ended) -> bool:
    """The inner guest did not come up, or all that is wrong with the run is that time went by."""
    if "the kernel did not boot" in ended.stderr:
        return True
    found = ended.findings() if ended.stdout else []
    return bool(found) and all(
        finding["oracle"] in _OF_TIME or _STALLED.search(finding["summary"]) for finding in found
    )


def run(fresh: Callable[[], AbstractContextManager[Outer]], space_mib: int = 0) -> dict[str, Any]:
    """The verdict document of a scenario under KVM, which must pass on what happened in it."""
    ended = None
    for _ in range(_TRIES):
        with contextlib.suppress(GuestTimeout), fresh() as machine:
            machine.load_kvm()
            if space_mib:
                machine.little_space(cache_dir() / "snapshots", space_mib)
            ended = machine.harness("run", "--accel", "kvm", "--json", "memcg-eagain", limit_s=_LIMIT_S)
            if not stood_still(ended):
                break
    assert ended is not None, f"no outer machine of {_TRIES} ran a scenario in {_LIMIT_S} s"
    assert ended.status == 0, ended.findings() if ended.stdout else ended.stderr
    document = ended.document
    assert document["verdict"] == "pass"
    assert document["kernel"]["cached"] is True
    assert document["accel"]["used"] == "kvm"
    assert document["scenarios"][0]["exercised"]["eagain"] >= 4000
    return document


def test_kvm_is_usable_where_it_runs_a_64_bit_guest_and_only_there(fresh) -> None:
    with fresh() as machine:
        without = accelerators(machine)
        machine.load_kvm()
        found = accelerators(machine)

    assert without["kvm"]["usable"] is False
    assert without["kvm"]["reason"] == "/dev/kvm does not exist"
    assert without["tcg"]["usable"] is True
    assert found["kvm"]["usable"] is True, found
    assert "ran to its end" in found["kvm"]["reason"]


def test_a_scenario_passes_in_a_clone_under_kvm(fresh) -> None:
    document = run(fresh)

    assert document["machines"] == {"from": "clone", "reason": ""}
    assert document["seconds"]["restore"] > 0


def test_a_scenario_passes_in_a_booted_machine_under_kvm_where_no_snapshot_fits(fresh) -> None:
    document = run(fresh, space_mib=64)

    assert document["machines"]["from"] == "boot"
    assert "64 MiB free" in document["machines"]["reason"]
    assert document["seconds"]["restore"] == 0
