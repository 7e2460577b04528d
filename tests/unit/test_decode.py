# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host.progress import QUIET
from harness.kernel.lines import Spot
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from harness.report.write import write
from harness.run import decoding
from tests.unit.verdicts import run_of


def test_a_call_is_looked_for_before_where_it_returns_to_and_an_instruction_where_it_is():
    [returned] = decoding.spots_of("    try_to_unmap_one+0x73c/0x7c0 [mod]")
    [at] = decoding.spots_of("RIP: 0010:nh_wait.isra.0+0x10/0x40 [notifier_hold]")

    assert returned == Spot("try_to_unmap_one", 0x73B, 0x7C0)
    assert at == Spot("nh_wait.isra.0", 0x10, 0x40)
    [warned] = decoding.spots_of("WARNING: CPU: 0 PID: 9 at mm/rmap.c:1 try_to_unmap_one+0x10/0x40")

    assert warned == Spot("try_to_unmap_one", 0x10, 0x40)
    assert list(decoding.spots_of("RIP: 0033:0x405490")) == []


def test_each_place_stands_below_its_line_deeper():
    found = {Spot("f", 1, 16): ("mm/a.h:1 (inlined)", "mm/a.c:2 (f)")}

    assert list(decoding._places("    f+0x2/0x10", found)) == ["        mm/a.h:1 (inlined)", "        mm/a.c:2 (f)"]
    assert list(decoding._places("    g+0x2/0x10", found)) == []


def test_a_folder_that_is_no_run_is_bad_input(tmp_path: Path):
    with pytest.raises(UsageError, match="not a run directory"):
        decoding.decode(tmp_path, "gcc", tmp_path, QUIET)


def test_a_run_without_reports_needs_no_kernel(tmp_path: Path):
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / "console.log").write_text("[    0.1] all is well\n")
    write(run_of({"quiet": Outcome.PASS}), tmp_path)

    assert decoding.decode(tmp_path, "gcc", tmp_path, QUIET) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["+0x1/0x2", "+0x", "/0x", "f", "RIP: 0010:", "$(x)", "`x`", ";", "\n", "\0", "a." * 2000, "é", " "]
            ),
            st.text(max_size=8),
        ),
        max_size=12,
    ).map("".join)
)
def test_whatever_a_console_holds_a_spot_is_a_name_and_two_numbers(line: str) -> None:
    """They go into the command line of addr2line."""
    for spot in decoding.spots_of(line):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,250}", spot.function)
        assert 0 <= spot.offset < 1 << 32
        assert 0 <= spot.size < 1 << 32


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("...foo+0x1/0x2", ["foo"]),
        ("a.b.c+0x1/0x2 d+0x1/0x2", ["a.b.c", "d"]),
        ("f+0x1/0x2z", []),
        (f"{'f' * 300}+0x1/0x2", []),
        ("f+0x123456789/0x2", []),
    ],
)
def test_a_name_is_taken_whole_or_not_at_all(line: str, names: list[str]) -> None:
    assert [spot.function for spot in decoding.spots_of(line)] == names


def test_as_many_places_are_looked_up_as_a_bug_has() -> None:
    every = "\n".join(f"f+{number:#x}/0x100000" for number in range(1, decoding.SPOTS_LIMIT + 2))

    assert len(decoding.spots([every])) == decoding.SPOTS_LIMIT
