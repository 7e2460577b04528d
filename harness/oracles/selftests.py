# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests pass with a subscriber on their mm, as they do without one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "selftests"

_ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each kept line of a test that failed, and one if more tests failed than lines were kept."""
    for program, results in recording.selftests.items():
        where = f"{program}: {results}; all of its output is in {program}.tap"
        for line in results.failures:
            yield Finding(NAME, f"{program}: {_ADDRESS.sub('0x…', line)}", f"{line}\n{where}")
        if results.failed > len(results.failures):
            yield Finding(NAME, f"{program}: more of its tests failed than are shown", where)
