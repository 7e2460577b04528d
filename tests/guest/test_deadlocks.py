# SPDX-License-Identifier: GPL-2.0-only
"""The shapes of deadlock: found where a driver waits, gone where it trusts MAYFAIL, back where no range has MAYFAIL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guest.command import harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

SHAPES = ("fence", "worker", "kswapd", "interval", "abba")


def test_each_shape_is_found_and_mayfail_is_the_way_out() -> None:
    """Each shape runs twice; the scenarios that wait pass because the deadlock was seen."""
    names = [f"deadlock-{shape}-{policy}" for shape in SHAPES for policy in ("waits", "mayfail")]

    ended = harness("run", "--json", *names)

    assert ended.status == 0, ended.stderr
    assert len(ended.document["scenarios"]) == len(names)


def test_one_that_is_not_bounded_is_told_with_the_blocked_stack(tmp_path: Path) -> None:
    """The task waits for a mutex that it holds itself."""
    ended = harness("run", "--json", "--timeout", "1", "--out", tmp_path / "run", "half-built-hangs")

    assert ended.status == 0, ended.stderr
    text = (tmp_path / "run" / "half-built-hangs" / "postmortem.txt").read_text()
    assert re.search(r"^pid \d+ drive \(D\) waits for mutex \S+, which it holds itself$", text, re.MULTILINE), text
    assert "    nh_block_mutex+" in text


def test_without_the_patch_the_driver_that_trusts_it_deadlocks() -> None:
    """Every shape deadlocks, and the gate says why."""
    names = [f"deadlock-{shape}-mayfail" for shape in SHAPES]

    ended = harness("run", "--patch", "none", "--json", *names)

    assert ended.status == 1, ended.stderr
    for name in names:
        assert {"mayfail-gate", "no-hang", "never"} <= {finding["oracle"] for finding in ended.findings(name)}, name
