# SPDX-License-Identifier: GPL-2.0-only
"""harness report: write the reports of finished runs again. To write them, the runs are judged again."""

from __future__ import annotations

from harness.commands.judge import main, options

__all__ = ["main", "options"]
