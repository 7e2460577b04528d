# SPDX-License-Identifier: GPL-2.0-only
"""What is said of the lines that the user's patches changed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from harness.cli import main
from harness.guest.agent import GuestTimeout
from harness.kernel.places import Places
from harness.model import documents
from harness.model.coverage import ChangedLine, PatchCoverage
from harness.model.recording import Ended
from harness.model.verdict import Outcome
from harness.report import document, html, junit, ktap, lines
from harness.run import reached
from harness.run.reached import Watch
from tests.unit.verdicts import run_of

RAN = PatchCoverage(
    (
        ChangedLine("mm/rmap.c", 1700, {"memcg-eagain": 12, "exit": 3}),
        ChangedLine("mm/rmap.c", 1702),
        ChangedLine("mm/rmap.c", 1703),
        ChangedLine("mm/vmscan.c", 9, {"exit": 1}),
        ChangedLine("mm/vmscan.c", 11, unwatched=True),
    ),
    silent=4,
)
NEVER = PatchCoverage((ChangedLine("mm/rmap.c", 7),))
ABSENT = PatchCoverage(unknown={"drivers/a.c": "is not part of vmlinux in this configuration"})


@pytest.mark.parametrize(
    ("coverage", "sentence", "percent"),
    [
        (
            RAN,
            "2 of 5 changed lines ran; never: mm/rmap.c:1702-1703; cannot be watched: mm/vmscan.c:11",
            40,
        ),
        (NEVER, "no changed line ran; never: mm/rmap.c:7", 0),
        (PatchCoverage(silent=3), "no changed line makes code", 100),
        (
            ABSENT,
            "no changed line was found in this kernel: drivers/a.c is not part of vmlinux in this configuration",
            0,
        ),
        (PatchCoverage(reason="x"), "changed lines were not watched: x", 0),
        (
            PatchCoverage((ChangedLine("a.c", 1, {"exit": 1}),), uncounted=("mlock",)),
            "1 of 1 changed lines ran; not counted: mlock",
            100,
        ),
    ],
)
def test_what_ran_is_said_in_a_sentence(coverage: PatchCoverage, sentence: str, percent: float):
    assert (coverage.sentence, coverage.percent) == (sentence, percent)


def test_a_long_list_of_lines_is_cut():
    coverage = PatchCoverage([ChangedLine("a.c", line) for line in range(1, 100, 2)])

    assert coverage.sentence.endswith("a.c:23 and 38 more")


@pytest.mark.parametrize(
    ("coverage", "required", "outcome"),
    [
        (RAN, 0, Outcome.PASS),
        (RAN, 40, Outcome.PASS),
        (RAN, 41, Outcome.INCONCLUSIVE),
        (NEVER, 1, Outcome.INCONCLUSIVE),
        (ABSENT, 1, Outcome.INCONCLUSIVE),
        (PatchCoverage(silent=1), 100, Outcome.PASS),
        (PatchCoverage(reason="x"), 0.1, Outcome.INCONCLUSIVE),
    ],
)
def test_a_pass_that_ran_too_few_of_the_lines_is_inconclusive(
    coverage: PatchCoverage, required: float, outcome: Outcome
):
    made = PatchCoverage(**{**vars(coverage), "required": required})

    assert run_of({"exit": Outcome.PASS}, coverage=made).outcome is outcome
    assert run_of({"exit": Outcome.FAIL}, coverage=made).outcome is Outcome.FAIL


def test_it_is_in_every_report():
    verdict = run_of({"exit": Outcome.PASS}, coverage=PatchCoverage(**{**vars(RAN), "required": 50}))
    said = list(lines.summary(verdict, "run", lambda outcome, _: outcome.value))
    (suite,) = JUnitXml.fromstring(junit.render(verdict))
    page = html.render(verdict)

    assert (
        "your lines   2 of 5 changed lines ran; never: mm/rmap.c:1702-1703; cannot be watched: mm/vmscan.c:11" in said
    )
    assert "             ran in exit (2), memcg-eagain (1)" in said
    assert "too little   40 % of the changed lines ran (--require-patch-coverage 50)" in said
    assert said[-1].startswith("inconclusive")
    assert ("patch_coverage", "40.0") in [(entry.name, entry.value) for entry in suite.properties()]
    assert suite.errors == 1
    tap = [line for line in ktap.render(verdict).splitlines() if not line.startswith("# contract: ")]
    assert tap[1:3] == ["1..2", "ok 1 exit"]
    assert tap[3].startswith("# patch coverage: 2 of 5 changed lines ran; never: ")
    assert tap[4].startswith("not ok 2 patch-coverage # inconclusive 40 % of the changed lines ran")
    assert "mm/rmap.c:1702" in page
    assert "2 of 5 changed lines ran" in page


def test_a_hostile_name_reaches_no_terminal_and_no_page():
    """A patch names its files, and a colleague's run directory says what it wants."""
    file = "mm/\x1b]0;owned\x07<script>\n.c"
    coverage = PatchCoverage(
        (ChangedLine(file, 1, {"exit": 1}), ChangedLine(file, 2)), unknown={file: file}, uncounted=(file,), required=90
    )
    verdict = run_of({"exit": Outcome.PASS}, coverage=coverage)
    said = list(lines.summary(verdict, "run", lambda outcome, _: outcome.value))
    texts = (*said, html.render(verdict), junit.render(verdict).decode())

    assert not [text for text in texts if "\x1b" in text or "\x07" in text]
    assert not [line for line in said if "\n" in line]
    assert html.render(verdict).count("<script>") == 1, "our own"


def test_nothing_is_said_without_a_patch_of_the_users():
    verdict = run_of({"exit": Outcome.PASS})

    assert not [line for line in lines.summary(verdict, "run", lambda outcome, _: outcome.value) if "lines" in line]
    assert verdict.document()["patch_coverage"] is None
    assert "Your lines" not in html.render(verdict)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,9}", fullmatch=True)
COVERAGES = st.builds(
    PatchCoverage,
    st.lists(
        st.builds(
            ChangedLine,
            st.text(),
            st.integers(1, 1 << 31),
            st.dictionaries(NAMES, st.integers(1, 1 << 31), max_size=3),
            unwatched=st.booleans(),
        ),
        max_size=4,
    ).map(tuple),
    st.integers(0, 99),
    st.dictionaries(st.text(), st.text(), max_size=2),
    st.lists(NAMES, max_size=2).map(tuple),
    st.text(),
    st.floats(0, 100),
)


@given(coverage=COVERAGES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_written_is_read_again(coverage: PatchCoverage):
    verdict = run_of({"exit": Outcome.PASS}, coverage=coverage)
    written = json.dumps(verdict.document())

    assert documents.parse(written, "verdict")
    assert document.parse(written).coverage == coverage
    assert document.parse(written).outcome is verdict.outcome


@pytest.mark.parametrize("percent", ["-1", "101", "nan", "x", "1e999"])
def test_a_percentage_is_from_0_to_100(percent: str, capsys: pytest.CaptureFixture[str]):
    assert main(["run", f"--require-patch-coverage={percent}", "exit"]) == 129
    assert "is not a number from 0 to 100" in capsys.readouterr().err


def test_without_a_patch_of_the_users_no_line_can_be_required(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--require-patch-coverage=80", "--patch", "mayfail", "exit"]) == 129
    assert "--require-patch-coverage 80: no patch of yours is given" in capsys.readouterr().err


# --- counting

FOUND = Places({("a.c", 1): (0x10, 0x30), ("a.c", 2): (0x20,), ("a.c", 3): (0x40,), ("a.c", 4): (0x20,)}, 5)


class Guest:
    """A machine whose counters say what a test wants."""

    def __init__(self, *said: bytes | Exception) -> None:
        self.agent = self
        self.said = list(said)
        self.written: list[tuple[str, str]] = []

    def write_file(self, path: str, content: str, _: float) -> None:
        """Remember what is written."""
        self.written.append((path, content))

    def read_file(self, _: str, __: float, limit_bytes: int) -> bytes:
        """Say the next thing, or raise it."""
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        assert len(said) <= limit_bytes
        return said


def counted(said: bytes | Exception, ended: Ended = Ended.COMPLETE) -> PatchCoverage:
    watch, guest = Watch(FOUND, Path("reached.ko")), Guest(said)
    watch.expect("exit")
    watch.begin(guest)  # type: ignore[arg-type]
    watch.end(guest, "exit", ended)  # type: ignore[arg-type]
    assert guest.written == [("/sys/module/reached/parameters/on", "1")]
    return watch.coverage()


def test_a_line_ran_when_one_of_its_instructions_did():
    """In the order of chosen(): the first instruction of each line, then the second."""
    assert reached.chosen(FOUND) == [0x10, 0x20, 0x40, 0x30]

    coverage = counted(b"0\n7\n-22\n9\n")

    assert [(line.line, dict(line.ran), line.unwatched) for line in coverage.lines] == [
        (1, {"exit": 9}, False),
        (2, {"exit": 7}, False),
        (3, {}, True),
        (4, {"exit": 7}, False),
    ]
    assert coverage.silent == 5
    assert not coverage.uncounted


def test_of_many_instructions_each_line_keeps_its_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reached, "PLACES_LIMIT", 2)

    coverage = counted(b"0\n1\n")

    assert [line.unwatched for line in coverage.lines] == [False, False, True, False]


@pytest.mark.parametrize(
    "said",
    [
        b"", b"1\n", b"1\n2\n3\n4\n5\n", b"1\n2\nx\n4\n", b"1\n2\n\xff\n4\n", b"1\n2\n3\n99999999999\n",
        b"1\n2\n\x1b[2J\n4\n", b"1\n2\n3.5\n4\n", b"1 2 3 4\n", "1\n2\n٣\n4\n".encode(),
        GuestTimeout("late"), FileNotFoundError("gone"),
    ],
)  # fmt: skip
def test_a_guest_that_tells_no_counts_is_not_believed(said: bytes | Exception):
    coverage = counted(said)

    assert coverage.uncounted == ("exit",)
    assert not coverage.ran


@pytest.mark.parametrize("ended", [Ended.PANIC, Ended.SILENT, Ended.SPINNING, Ended.RESET, Ended.NO_BOOT])
def test_a_guest_that_cannot_answer_is_not_asked(ended: Ended):
    assert counted(b"1\n1\n1\n1\n", ended).uncounted == ("exit",)


def test_the_second_attempt_counts():
    watch = Watch(FOUND, Path("reached.ko"))
    guest: Any = Guest(b"nothing", b"1\n0\n0\n0\n")
    for _ in range(2):
        watch.expect("exit")
        assert watch.coverage().uncounted == ("exit",)
        watch.end(guest, "exit", Ended.COMPLETE)

    assert watch.coverage().uncounted == ()
    assert watch.reached("exit") == {("a.c", 1)}


def test_where_nothing_is_watched_no_guest_is_asked():
    watch = Watch(Places(), reason="the kernel lacks CONFIG_KPROBES")
    guest: Any = SimpleNamespace()
    watch.begin(guest)
    watch.end(guest, "exit", Ended.COMPLETE)

    assert watch.coverage(90).short == (
        "0 % of the changed lines ran (--require-patch-coverage 90): "
        "changed lines were not watched: the kernel lacks CONFIG_KPROBES"
    )
