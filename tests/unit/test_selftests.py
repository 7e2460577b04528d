# SPDX-License-Identifier: GPL-2.0-only
"""Selftests of the toy kernel: built by its own Makefile, shared by its kernels; the message when a build fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.kernel import build as builds
from harness.kernel import config, patches, selftests
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.kernel.source import fetch
from harness.model.errors import BuildError, CannotTest
from harness.model.ktap import Results
from harness.model.recording import Answer
from harness.oracles import exercised
from harness.oracles.selftests import judge
from harness.run import planning
from harness.variants import catalogue
from tests.unit.conftest import Said, rot
from tests.unit.recordings import Log, recording

MM = "tools/testing/selftests/mm"


def build(tree: Path, cache: Path, patch: str = "mayfail") -> KernelBuild:
    source = fetch(str(tree), cache)
    return builds.build(source, patches.load([patch], source.version), config.load([]), cache, Said())


def run(program: Path) -> str:
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("variants")
def test_a_program_is_built_once_for_all_kernels_that_share_its_sources(
    toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the tree's own headers; a patch to mm/ does not compile it again; the tree stays clean."""
    patched, plain = build(toy, cache), build(toy, cache, "none")

    program = selftests.program("toy_test", patched, cache)

    assert run(program).endswith("ok 1 toy\n")
    assert not list((cache / "trees").rglob("tree/**/local_config.h"))
    with monkeypatch.context() as never:
        never.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))
        assert selftests.program("toy_test", plain, cache) == program
    rot(program)
    assert run(selftests.program("toy_test", plain, cache)).endswith("ok 1 toy\n")


@pytest.mark.usefixtures("variants")
def test_a_header_for_user_space_makes_another_program(toy: Path, cache: Path) -> None:
    """As does its own source."""
    first = selftests.program("toy_test", build(toy, cache), cache)
    header = toy / "include/uapi/linux/toy.h"
    header.write_text(header.read_text().replace('"toy"', '"another"'))

    second = selftests.program("toy_test", build(toy, cache), cache)

    assert second != first
    assert run(second).endswith("ok 1 another\n")


@pytest.mark.usefixtures("variants")
def test_a_program_that_cannot_be_had_says_why(toy: Path, cache: Path) -> None:
    """It says the compiler's first error, or that the tree has no such program."""
    (toy / MM / "toy_test.c").write_text("#include <numa.h>\nint main(void) { return 0; }\n")
    kernel = build(toy, cache)

    with pytest.raises(BuildError, match=r"selftest toy_test does not compile: toy_test.c:1: numa.h: No such file"):
        selftests.program("toy_test", kernel, cache)
    with pytest.raises(CannotTest, match=r"selftest cow: Linux 6.12.7 has none: no cow.c in tools/testing"):
        selftests.program("cow", kernel, cache)


def test_the_projects_scenarios_with_selftests_demand_callbacks() -> None:
    """A watcher that heard nothing proves nothing."""
    found = [entry for entry in catalogue.scenarios().values() if entry.selftests]

    assert found
    for entry in found:
        assert any(value > 0 for value in entry.exercised.values()), entry.name
        texts = [command.text for command in planning.plan(entry)]
        assert any(text.startswith("selftest name=") and "policy=accept" in text for text in texts)


SELFTEST = {"verb": "selftest", "ok": True, "program": "cow", "processes": 2, "unwatched": 0}


def judged(**reply: object) -> list[str]:
    """What the two oracles say of a selftest's reply."""
    answer = Answer(1, "selftest", "cow", "", "selftest name=cow", {**SELFTEST, **reply}, {}, 0.1)
    made = recording(Log(), answers=[answer])
    return [f"{entry.oracle}: {entry.summary}" for speak in (judge, exercised.judge) for entry in speak(made)]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Results(5, 0, 1, (), (("no swap", 1),)).document(), []),
        (Results(5, 1, 0, ("not ok 3 at 0xffff8880",)).document(), ["selftests: cow: not ok 3 at 0x…"]),
        (
            Results(0, 2, 0, ("not ok 1",)).document(),
            ["selftests: cow: not ok 1", "selftests: cow: more of its tests failed than are shown"],
        ),
        (Results(0, 0, 9, (), (("no", 9),)).document(), ["exercised: none of a selftest's tests ran"]),
        (Results(5, 0, 0, cut=True).document(), ["exercised: a selftest printed more than is read"]),
        (
            {**Results(5, 0, 0).document(), "unwatched": 1},
            ["exercised: processes of a selftest ran without a subscriber"],
        ),
    ],
)
def test_a_selftest_is_judged_by_its_lines(reply: dict[str, object], said: list[str]) -> None:
    """A failed test is a finding; no test that ran, or no watcher, is too little."""
    assert judged(**reply) == said
