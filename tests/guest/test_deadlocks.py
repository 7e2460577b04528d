# SPDX-License-Identifier: GPL-2.0-only
"""The shapes of deadlock: found where a driver waits, gone where it trusts MAYFAIL, back where nothing says MAYFAIL."""

from __future__ import annotations

import pytest

from tests.guest.command import harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

SHAPES = ("fence", "worker", "kswapd", "interval", "abba")


def test_each_shape_is_found_and_mayfail_is_the_way_out() -> None:
    """Twice each; those that wait pass because the deadlock was seen."""
    names = [f"deadlock-{shape}-{policy}" for shape in SHAPES for policy in ("waits", "mayfail")]

    ended = harness("run", "--json", *names)

    assert ended.status == 0, ended.stderr
    assert len(ended.document["scenarios"]) == len(names)


def test_without_the_patch_the_driver_that_trusts_it_deadlocks() -> None:
    """Every one of them, and the gate says why."""
    names = [f"deadlock-{shape}-mayfail" for shape in SHAPES]

    ended = harness("run", "--patch", "none", "--json", *names)

    assert ended.status == 1, ended.stderr
    assert {name: {finding["oracle"] for finding in ended.findings(name)} for name in names} == {
        name: {"mayfail-gate", "no-hang", "never"} for name in names
    }
