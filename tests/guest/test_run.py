# SPDX-License-Identifier: GPL-2.0-only
"""The main job on real kernels: what must pass passes, what must fail fails for the right reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.kernel import versions
from tests.guest.command import EACH, PATCHES, SCENARIOS, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

# One more kernel is built for each other version, to see there what the default kernel shows.
UNPATCHED = pytest.mark.parametrize(
    "source",
    [pytest.param(name, marks=pytest.mark.nightly if name != versions.DEFAULT else ()) for name in versions.sources()],
)


@EACH
def test_the_patched_kernel_passes_with_thousands_of_callbacks_in_direct_reclaim(source: str, tmp_path: Path) -> None:
    """Global and memcg; everything that a run directory promises is there. README's commands run the default set."""
    out = tmp_path / "run"
    names = ["memcg-accept", "memcg-eagain", "global-accept", "global-eagain"]

    ended = harness("run", "--source", source, "--json", "--out", out, *names)

    assert ended.status == 0, ended.stderr
    document = ended.document
    assert document["verdict"] == "pass"
    assert document["accel"]["reason"]
    counted = {result["name"]: result["exercised"] for result in document["scenarios"]}
    for name in ("memcg-accept", "memcg-eagain", "global-accept", "global-eagain"):
        assert counted[name]["direct_reclaim"] >= 4000
        assert counted[name]["mayfail"] >= 4000
    assert counted["global-accept"]["allocstall"] > 0
    assert counted["memcg-eagain"]["eagain"] >= 4000
    assert json.loads((out / "verdict.json").read_text()) == document
    for name in ("report.html", "junit.xml", "results.ktap", "console.log", "kernel/config", "kernel/build.log"):
        assert (out / name).stat().st_size > 0, name
    # Its timelines were made while the run was under way.
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('class="charts"') == len(names)
    assert [path.name for path in (out / "kernel/patches").iterdir() if path.name in page]
    assert (out / "events" / "memcg-eagain.bin").stat().st_size > 4096 * 112


@UNPATCHED
def test_the_unpatched_kernel_fails_at_the_mayfail_gate(source: str) -> None:
    """The findings name flag, errno, WARN site and scenario; nothing else is broken."""
    names = ("memcg-accept", "memcg-eagain", "global-eagain", "three-subscribers", "shmem-pinned")

    ended = harness("run", "--source", source, "--patch", "none", "--json", *names)

    assert ended.status == 1, ended.stderr
    assert {finding["oracle"] for finding in ended.findings()} == {"mayfail-gate"}
    (finding,) = ended.findings("memcg-eagain")
    assert "without MMU_NOTIFIER_RANGE_MAYFAIL" in finding["summary"]
    assert "−EAGAIN (-11) was not tolerated: WARN at mm/mmu_notifier.c:" in finding["summary"]
    assert "scenario memcg-eagain" in finding["evidence"]
    assert "flags 0x1" in finding["evidence"]


def test_without_the_patch_the_driver_of_the_story_waits_for_itself() -> None:
    """The purpose of the patch: the half-built object's driver deadlocks, bounded, where no range has MAYFAIL.

    With -x nothing that comes after the first finding is waited for.
    """
    ended = harness("run", "--patch", "none", "-x", "--json", "half-built-mayfail", "memcg-accept", "munmap-eagain")

    assert ended.status == 1
    assert {finding["oracle"] for finding in ended.findings()} == {"mayfail-gate", "no-hang"}
    assert [result["name"] for result in ended.document["scenarios"]] == ["half-built-mayfail"]
    assert ended.document["not_run"] == ["memcg-accept", "munmap-eagain"]
    (cause,) = ended.document["causes"]
    assert (cause["oracle"], cause["scenarios"]) == ("mayfail-gate", ["half-built-mayfail"])


def test_hot_pages_prove_nothing() -> None:
    """No hang, no warning, starts = ends, and not one callback: inconclusive, never a pass."""
    ended = harness("run", "--json", SCENARIOS / "hot-pages.yaml")

    assert ended.status == 125, ended.stderr
    (result,) = ended.document["scenarios"]
    assert result["verdict"] == "inconclusive"
    assert "direct_reclaim: 0, at least 4000 needed" in result["reason"]


def planted(name: str, *words: str) -> tuple[str, ...]:
    """The words of a run on the patched kernel with a fault planted."""
    return (
        "run",
        "--no-patch-coverage",
        "--patch",
        "mayfail",
        "--patch",
        str(PATCHES / f"{name}.patch"),
        "--json",
        *words,
    )


def test_a_flood_of_warnings_ends_the_scenario_early(tmp_path: Path) -> None:
    """8,192 splats would take minutes: the first are shown, the rest counted, and the console stays small."""
    ended = harness(*planted("warns-twice", "memcg-eagain", "--out", str(tmp_path / "run")))

    assert ended.status == 1, ended.stderr
    (finding,) = ended.findings("memcg-eagain")
    assert finding["oracle"] == "clean-log"
    assert "__mmu_notifier_invalidate_range_start" in finding["summary"]
    assert (tmp_path / "run" / "console.log").stat().st_size < 1 << 20
    assert json.loads((tmp_path / "run/memcg-eagain/record.json").read_text())["ended"] == "early"


def test_a_hang_in_reclaim_is_a_finding_with_the_blocked_stack(tmp_path: Path) -> None:
    """The guest lives, the step never ends: the kernel is asked to show the blocked tasks and their stacks.

    Once that is a proof, the next scenario that meets the same wait does not wait for the kernel to say so again.
    """
    asked = planted("hangs", "memcg-eagain", "pageout-eagain", "--jobs", "1")
    ended = harness(*asked, "--timeout", "1", "--out", str(tmp_path / "run"))

    assert ended.status == 1, ended.stderr
    (cause,) = ended.document["causes"]
    assert (
        cause["summary"]
        == "the guest is alive, but a step never ended: a task waits in __mmu_notifier_invalidate_range_start"
    )
    assert cause["scenarios"] == ["memcg-eagain", "pageout-eagain"]
    again = json.loads((tmp_path / "run/pageout-eagain/record.json").read_text())
    assert "which was proved to hang in memcg-eagain" in again["detail"]
    assert "blocked for more than" not in (tmp_path / "run/pageout-eagain/console.log").read_text()
    _, shown, blocked = (tmp_path / "run/console.log").read_text().partition("Show Blocked State")
    assert shown
    assert "task:drive" in blocked
    assert "__mmu_notifier_invalidate_range_start" in blocked


def test_a_panic_is_a_finding() -> None:
    """The kernel's own words are the evidence."""
    ended = harness(*planted("panics-in-reclaim", "memcg-eagain"))

    assert ended.status == 1, ended.stderr
    (panic,) = [f for f in ended.findings() if f["oracle"] == "no-hang"]
    assert panic["summary"] == "the kernel panicked"
    assert "planted: -EAGAIN under MAYFAIL" in panic["evidence"]


def test_a_kernel_that_does_not_boot_fails_once() -> None:
    """A finding for the first scenario; the others are not tried on it."""
    ended = harness(*planted("panics-at-boot", "memcg-eagain", "memcg-accept", "--jobs", "1"))

    assert ended.status == 1, ended.stderr
    assert [f["summary"] for f in ended.findings() if f["oracle"] == "no-hang"] == ["the kernel did not boot"]
    assert " blocked task" in ended.findings()[-1]["evidence"], "looked at from outside before QEMU ended"
    assert ended.document["machines"] == {"from": "none", "reason": ""}
    assert [entry["name"] for entry in ended.document["skipped"]] == ["memcg-accept"]


def test_the_same_inputs_never_call_make(tmp_path: Path) -> None:
    """With a make that only fails, a kernel that was built is run all the same."""
    harness("build")
    fake = tmp_path / "make"
    fake.write_text("#!/bin/sh\nexit 77\n")
    fake.chmod(0o755)
    ended = harness("run", "memcg-accept", "--json", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})

    assert ended.status == 0, ended.stderr
    assert ended.document["kernel"]["cached"] is True


def test_a_run_is_judged_again_from_its_files_alone(tmp_path: Path) -> None:
    """Without QEMU, the verdict is the same."""
    out = tmp_path / "run"
    first = harness("run", "memcg-eagain", "--json", "--out", out)
    (tmp_path / "bin").mkdir()

    again = harness("judge", out, "--json", env={"PATH": str(tmp_path / "bin")})

    assert again.status == first.status == 0, again.stderr
    assert again.document["scenarios"][0]["exercised"] == first.document["scenarios"][0]["exercised"]
    assert again.document == first.document


def test_debugging_aids_find_nothing_wrong_with_the_patch() -> None:
    """Lockdep, KASAN and DEBUG_VM in one kernel; KASAN wants more memory than the default shape has."""
    configs = ("--config", "lockdep", "--config", "debug-vm", "--config", "kasan")

    ended = harness("run", *configs, "--json", SCENARIOS / "debug-kernel.yaml")

    assert ended.status == 0, ended.stderr
    assert ended.document["configs"] == ["base", "lockdep", "debug-vm", "kasan"]
