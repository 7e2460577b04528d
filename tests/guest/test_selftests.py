# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests as load: watched in every process, and what happens when a test goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernel import versions
from harness.model import event
from harness.model.event import Kind
from harness.model.ktap import Results
from tests.guest.command import PATCHES, SCENARIOS, Ended, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

TRIAL = SCENARIOS / "selftest-trial.yaml"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory for all ways in which the trial ends."""
    return tmp_path_factory.mktemp("selftests") / "run"


@pytest.fixture(scope="module")
def trial(out: Path) -> Ended:
    """The program comes from a patch to tools/, so that nothing of the kernel is compiled again."""
    patch = PATCHES / "selftests.patch"
    return harness("run", "--patch", "mayfail", "--patch", patch, "--json", "--out", out, TRIAL)


def result(ended: Ended, way: str) -> dict[str, object]:
    """What the run says about one of these ways."""
    (found,) = [entry for entry in ended.document["scenarios"] if entry["name"] == f"selftest-trial-{way}"]
    return dict(found)


@pytest.mark.parametrize("way", ["passes", "forks", "execs"])
def test_every_process_of_a_selftest_is_watched(trial: Ended, out: Path, way: str) -> None:
    """From its exec, or from its first instruction after a fork, to its end."""
    assert result(trial, way)["verdict"] == "pass", trial.stderr
    assert result(trial, way)["selftests"] == {"trial_test": Results(1, 0, 0).document()}
    log = event.read(out / "events" / f"selftest-trial-{way}.bin")
    kinds = [Kind(entry.kind) for entry in log.of(Kind.REGISTER, Kind.UNREGISTER, Kind.RELEASE)]
    watched = 1 if way == "passes" else 2
    assert [kinds.count(kind) for kind in (Kind.REGISTER, Kind.RELEASE, Kind.UNREGISTER)] == [watched] * 3
    # Each of them unmapped its own pages; a process that execs has no time for that.
    unmapping = {entry.subscriber for entry in log.of(Kind.START) if entry.end - entry.start == 7 * 4096}
    assert len(unmapping) == (2 if way == "forks" else 1)
    assert (out / f"selftest-trial-{way}" / "trial_test.tap").read_text().startswith("TAP version 13\n1..1\n")


@pytest.mark.parametrize(("way", "said"), [("fails", "not ok 1 fails"), ("crashes", "ended with signal 6: 1..1")])
def test_a_selftest_that_fails_is_a_finding(trial: Ended, way: str, said: str) -> None:
    """The finding shows its line, or how it ended."""
    found = trial.findings(f"selftest-trial-{way}")

    assert result(trial, way)["verdict"] == "fail"
    assert ("selftests", f"trial_test: {said}") in [(entry["oracle"], entry["summary"]) for entry in found]


def test_a_selftest_of_which_nothing_ran_is_inconclusive(trial: Ended) -> None:
    """With the reason that it gives."""
    assert result(trial, "skips")["verdict"] == "inconclusive"
    assert result(trial, "skips")["reason"] == "trial_test: skip 1: not today (1)"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("broken", "selftest broken_test does not compile: broken_test.c:4: 'nothing_of_that_name' undeclared"),
        ("unknown", "selftest no_such_test: Linux 6.12"),
    ],
)
def test_a_selftest_that_cannot_be_had_is_skipped_with_the_reason(trial: Ended, way: str, said: str) -> None:
    """The compiler's first error, or that this tree has none."""
    skipped = {entry["name"]: entry["reason"] for entry in trial.document["skipped"]}

    assert said in skipped[f"selftest-trial-{way}"].replace("\u2018", "'").replace("\u2019", "'")


@pytest.mark.parametrize(
    "source",
    # One more kernel is built for each.
    [pytest.param(name, marks=pytest.mark.nightly if name != versions.DEFAULT else ()) for name in versions.sources()],
)
def test_the_kernels_own_tests_pass_beside_a_watcher(source: str) -> None:
    """They run where the tree has them; the kernel's work for them breaks no rule of notifiers."""
    ended = harness(
        "run", "--source", source, "--json", "selftests-madv-populate", "selftests-mrelease", "selftests-hmm"
    )

    assert ended.status == 0, ended.stderr
    assert len(ended.document["scenarios"]) >= 2
