# SPDX-License-Identifier: GPL-2.0-only
"""A machine that was recorded is repeated from its tape alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.guest import tape as tapes
from tests.guest.command import harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


def test_a_failure_that_was_recorded_is_there_for_good(tmp_path: Path) -> None:
    """Its console and all its answers come again to the byte; another recording of it has other times in its log."""
    run = tmp_path / "run"
    words = ("run", "--record", "--patch", "none", "--json", "--repeat", "2", "--out", run, "memcg-eagain")

    recorded = harness(*words)

    assert recorded.status == 1, recorded.stderr
    assert [entry["tape"] for entry in recorded.document["scenarios"]] == [tapes.TAPE] * 2
    assert {finding["oracle"] for finding in recorded.findings()} == {"mayfail-gate"}
    first, second = ((run / f"memcg-eagain.{number}" / "console.log").read_bytes() for number in (1, 2))
    assert b"WARNING: " in first
    assert first != second

    repeated = harness("replay", "--json", run, "memcg-eagain.1")

    assert repeated.status == 0, repeated.stderr
    done = json.loads(repeated.stdout)
    assert (done["difference"], done["console_bytes"]) == ("", len(first))
    assert done["instructions"] > 1e8
    assert list((run / "memcg-eagain.1").glob(".*")) == []

    # What the repetition is held against is the recording, and nothing else.
    (run / "memcg-eagain.1" / "console.log").write_bytes(first.replace(b"WARNING", b"warning", 1))
    other = harness("replay", run, "memcg-eagain.1")

    assert other.status == 128
    assert f"the console differs from byte {first.index(b'WARNING')} on" in other.stderr
