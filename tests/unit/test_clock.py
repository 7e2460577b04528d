# SPDX-License-Identifier: GPL-2.0-only
"""Limits, and what they are multiplied by."""

from __future__ import annotations

from harness.host.clock import Deadline


def test_a_limit_says_what_it_was_multiplied_with() -> None:
    """Who asked for 10 s and waited for four minutes reads why."""
    assert str(Deadline.scaled(10, 24.6)).endswith("s (limit 246 s = 10 s × slow-down 24.6)")
    assert str(Deadline.scaled(3.3, 1 / 3)).endswith("s (limit 3.3 s)")
    assert str(Deadline(0.25)).endswith("s (limit 0.25 s)")
