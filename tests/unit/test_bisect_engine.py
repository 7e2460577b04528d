# SPDX-License-Identifier: GPL-2.0-only
"""From two ends to an answer and its proof, on kernels that only a table knows."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect import engine
from harness.bisect.ask import Made, Ran, Target
from harness.bisect.engine import Answer, Bisection, Step
from harness.bisect.journal import Journal
from harness.bisect.kernels import alike, claim
from harness.bisect.search import Cost, Space, line
from harness.host.progress import QUIET, Progress
from harness.model.errors import BuildError, MachineError
from harness.model.verdict import Finding
from harness.run.pipeline import KernelRequest

GOOD, WITHOUT = "good", "without "


@dataclass(frozen=True)
class Table:
    """A subject: changes that are called by their number."""

    count: int
    kind: str = "change"

    @property
    def space(self) -> Space:
        """One after the other."""
        return line([str(number) for number in range(self.count)])

    @property
    def goods(self) -> Sequence[Target]:
        """The state without any."""
        return [Target(GOOD, KernelRequest())]

    def target(self, state: int) -> Target:
        """The state with a change and all before it."""
        return Target(str(state), KernelRequest())

    def before(self, candidate: str) -> Target:
        """The state before it."""
        return self.target(int(candidate) - 1) if candidate != "0" else self.goods[0]

    def reverted(self, candidate: str) -> Target:
        """The last state without it."""
        return Target(WITHOUT + candidate, KernelRequest())

    def title(self, name: str) -> str:
        """No other name."""
        return name

    def cost(self, one: str, other: str) -> Cost:
        """The same for all."""
        return Cost(float(one != other))


@dataclass
class Fake:
    """A test: whether a state fails, which states do not build, which say something else, and which are one image."""

    fails: Callable[[str], bool]
    unbuilt: Sequence[str] = ()
    void: Sequence[str] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    dies_after: int = 10**9
    at_once: int = 1
    cache: Path = Path("/nowhere")
    progress: Progress = QUIET

    def lane(self, number: int, lanes: int) -> Fake:  # noqa: ARG002
        """The same."""
        return self

    def has_lane(self, target: Target, number: int) -> bool:  # noqa: ARG002
        """No work tree is needed."""
        return True

    def make(self, target: Target) -> Made:
        """Build, or fail to."""
        self.made.append(target.name)
        if target.name in self.unbuilt:
            raise BuildError("does not compile")
        return Made(self.images.get(target.name, target.name), stored=False)

    def seek(self, target: Target, limit: int, folder: Path) -> tuple[Mapping[str, str] | None, Ran]:
        """The only finding that there is."""
        ran = self.run(target, limit, folder)
        return ({"oracle": "test", "summary": "it fails", "evidence": ""} if ran.fails else None), ran

    def take(self, sought: Mapping[str, str]) -> None:
        """As above."""

    def run(self, target: Target, runs: int, folder: Path, *, first: bool = True) -> Ran:  # noqa: ARG002
        """Ask the table."""
        self.dies_after -= 1
        if self.dies_after < 0:
            raise MachineError("the host failed")
        if target.name in self.void:
            return Ran(void=1, note="another failure")
        fails = passes = 0
        while fails + passes < runs and not (first and fails):
            failed = self.fails(target.name)
            fails, passes = fails + failed, passes + (not failed)
        self.runs[target.name] = self.runs.get(target.name, 0) + fails + passes
        return Ran(fails, passes)


def from_(culprit: int) -> Callable[[str], bool]:
    """Every state from a change on fails."""
    return lambda name: name.isdigit() and int(name) >= culprit


def searched(table: Table, fake: Fake, folder: Path, told: list[Step] | None = None, lanes: int = 1) -> Answer:
    folder.mkdir(exist_ok=True)
    tell = (told if told is not None else []).append
    search = Bisection(table, fake, Journal(folder / "journal"), folder, QUIET, tell, lanes=lanes, cpus=64)
    return search.run()


@given(count=st.integers(1, 24), data=st.data(), rate=st.sampled_from([1.0, 0.5, 0.2]))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_the_culprit_is_among_the_candidates_whatever_cannot_be_tested(count, data, rate, tmp_path_factory) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    others = st.lists(st.integers(0, max(0, count - 2)), max_size=6).map(lambda numbers: [str(n) for n in numbers])
    dice = random.Random(f"{count} {culprit} {rate}")  # noqa: S311 - drawn, not secret
    unbuilt, void = ([] if count == 1 else data.draw(others) for _ in range(2))
    fake = Fake(lambda name: from_(culprit)(name) and dice.random() < rate, unbuilt, void)

    answer = searched(Table(count), fake, tmp_path_factory.mktemp("engine"))

    assert str(culprit) in answer.candidates
    # What is named beside it is told from it by nothing that can be tested.
    untestable = {*unbuilt, *void}
    assert all(name in untestable for name in answer.candidates[:-1])
    assert set(answer.narrow) <= untestable


@given(count=st.integers(2, 40), data=st.data(), lanes=st.sampled_from([2, 4, 8]))
@settings(max_examples=12, derandomize=True, deadline=None)
def test_side_by_side_the_answer_is_the_same(count, data, lanes, tmp_path_factory) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    unbuilt = data.draw(st.lists(st.integers(0, count - 2).map(str), max_size=4))
    alone = searched(Table(count), Fake(from_(culprit), unbuilt, at_once=64), tmp_path_factory.mktemp("alone"))
    with pytest.MonkeyPatch.context() as patched:
        # In this process: a table is no less a table in another one.
        patched.setattr(engine, "lane", lambda test, *_: contextlib.nullcontext(test))
        fake = Fake(from_(culprit), unbuilt, at_once=64)
        several = searched(Table(count), fake, tmp_path_factory.mktemp("several"), lanes=lanes)

    # Also of those that were built, and then had no turn because others had answered.
    for step in several.steps:
        if step.name.isdigit() and step.verdict != "skip":
            assert (step.verdict == "bad") == (int(step.name) >= culprit)
    assert several.candidates == alone.candidates
    assert several.verified == alone.verified


def test_a_state_that_is_the_same_to_the_bit_inherits_the_answer_without_a_run(tmp_path: Path) -> None:
    fake = Fake(from_(6), images={str(number): "old" for number in range(6)} | {"good": "old"})
    told: list[Step] = []

    answer = searched(Table(16), fake, tmp_path, told)

    assert answer.first_bad == "6"
    assert not any(name in fake.runs for name in map(str, range(6)))
    inherited = [step for step in told if "to the bit" in step.reason]
    assert inherited
    assert all(step.cached and step.verdict == "good" and not step.runs for step in inherited)


def test_a_state_that_is_the_same_as_one_that_says_nothing_is_skipped_without_a_run(tmp_path: Path) -> None:
    names = [str(number) for number in range(3, 9)]
    told: list[Step] = []

    answer = searched(Table(12), Fake(from_(9), void=names, images=dict.fromkeys(names, "one")), tmp_path, told)

    skipped = [step for step in told if step.name in names]
    assert len(skipped) > 1
    assert {step.verdict for step in skipped} == {"skip"}
    assert [step.runs > 0 for step in skipped] == [True, *[False] * (len(skipped) - 1)]
    assert {step.reason.partition(";")[0] for step in skipped} == {"another failure"}
    assert "9" in answer.candidates


def test_ends_that_are_the_same_to_the_bit_have_no_culprit(tmp_path: Path) -> None:
    answer = searched(Table(4), Fake(from_(0), images={"3": "one", GOOD: "one"}), tmp_path)

    assert (answer.exit_code, answer.candidates) == (1, ())
    assert "to the bit" in answer.reason


def test_the_culprit_taken_back_must_make_the_failure_go_away(tmp_path: Path) -> None:
    gone = searched(Table(8), Fake(from_(5)), tmp_path / "gone")
    stays = searched(Table(8), Fake(lambda name: from_(5)(name) or name.startswith(WITHOUT)), tmp_path / "stays")

    assert (gone.first_bad, gone.verified) == ("5", True)
    assert (stays.first_bad, stays.verified) == ("5", False)
    assert "the failure remains on the bad end without this change" in stays.proof


@pytest.mark.parametrize(
    ("unbuilt", "void", "why"),
    [([f"{WITHOUT}5"], [], "cannot be taken back alone"), ([], [f"{WITHOUT}5"], "says nothing: another failure")],
)
def test_where_it_cannot_be_taken_back_it_is_compared_with_what_was_before(tmp_path: Path, unbuilt, void, why) -> None:
    fake = Fake(from_(5), unbuilt, void)

    answer = searched(Table(8), fake, tmp_path)

    assert answer.verified is True
    assert why in answer.proof
    assert "before it 0 of" in answer.proof


def test_what_is_undone_later_is_told_as_such(tmp_path: Path) -> None:
    answer = searched(Table(8), Fake(from_(5), images={f"{WITHOUT}5": "7"}), tmp_path)

    assert answer.verified is None
    assert "the same kernel, to the bit" in answer.proof


@pytest.mark.parametrize("state", ["7", GOOD])
@pytest.mark.parametrize("way", ["unbuilt", "void"])
def test_an_end_that_cannot_be_tested_is_no_answer(tmp_path: Path, state: str, way: str) -> None:
    fake = Fake(from_(5), unbuilt=[state]) if way == "unbuilt" else Fake(from_(5), void=[state])

    answer = searched(Table(8), fake, tmp_path)

    assert answer.exit_code == 1
    assert answer.reason


def test_every_answer_is_used_again_after_any_number_of_ends(tmp_path: Path) -> None:
    """The host fails after each run; what was learnt stays, and no run is done twice."""
    whole = Fake(from_(11))
    expected = searched(Table(16), whole, tmp_path / "whole")
    counted: dict[str, int] = {}
    answer = None
    for _ in range(100):
        fake = Fake(from_(11), dies_after=1)
        with contextlib.suppress(MachineError):
            answer = searched(Table(16), fake, tmp_path / "parts")
        for name, count in fake.runs.items():
            counted[name] = counted.get(name, 0) + count
        if answer is not None:
            break

    assert answer is not None
    assert (answer.first_bad, answer.confidence) == (expected.first_bad, expected.confidence)
    assert counted == whole.runs


def test_a_line_that_was_cut_short_is_dropped_and_another_one_is_damage(tmp_path: Path) -> None:
    searched(Table(8), Fake(from_(5)), tmp_path)
    path = tmp_path / "journal"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    count = len(whole.splitlines())

    assert len(Journal(path).entries) == count - 2
    assert path.read_bytes().endswith(b"\n")

    for damage in (b"{}\n", b"\xff\n", b'{"version": 1, "state": 3}\n', b'{"version": 1, "mine": "x"}\n', b"[]\n"):
        path.write_bytes(whole + damage)
        with pytest.raises(MachineError, match="damaged"):
            Journal(path)


def test_hangs_in_other_places_are_other_hangs() -> None:
    mutex = "a task waits\n schedule+0x1/0x2\n mutex_lock+0x1/0x2\n hold_page+0x3/0x9\n reclaim+0x3/0x9"
    moved = mutex.replace("0x1", "0x44")
    fence = "a task waits\n io_schedule+0x1/0x2\n fence_wait+0x1/0x2\n fault+0x3/0x9"

    assert alike(mutex, moved)
    assert not alike(mutex, fence)
    assert alike(mutex, "nothing was read")


def test_what_follows_from_a_finding_makes_no_other_finding_of_it() -> None:
    one = Finding("mayfail-gate", "a range came without a flag; it was not tolerated: WARN at mm/rmap.c:12")
    other = Finding("mayfail-gate", "a range came without a flag")

    assert claim(one) == claim(other)
    assert claim(one) != claim(Finding("pairing", "a range came without a flag"))
    assert claim(Finding("clean-log", "WARNING at a.c:12")) == claim(Finding("clean-log", "WARNING at a.c:17"))
