# SPDX-License-Identifier: GPL-2.0-only
"""How long a fuzzer searches: a few examples in the suite, always the same; as many others as wanted by hand.

``HARNESS_FUZZ_EXAMPLES=20000 .venv/bin/pytest tests/unit/test_fuzz_agent.py``
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

VARIABLE = "HARNESS_FUZZ_EXAMPLES"


def fuzz(examples: int = 25) -> settings:
    """The settings of a test that draws hostile input. examples: how many the suite draws."""
    wanted = int(os.environ.get(VARIABLE, "0"))
    return settings(
        max_examples=wanted or examples,
        derandomize=not wanted,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
