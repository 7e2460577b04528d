# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from harness.host.accelerator import probe

pytestmark = pytest.mark.guest


def test_tcg_runs_the_probes_guest(tmp_path: Path):
    """The check proves itself: the guest that KVM must run does run where nothing is special."""
    found = probe(tmp_path, device=tmp_path / "none")

    assert found["tcg"].usable, found["tcg"].reason
    assert "ran to its end" in found["tcg"].reason


def test_kvm_gets_an_answer_and_a_reason(tmp_path: Path):
    """This holds whatever this host's KVM is like."""
    found = probe(tmp_path)["kvm"]

    assert found.reason
    assert found.usable == ("ran to its end" in found.reason)
