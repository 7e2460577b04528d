# SPDX-License-Identifier: GPL-2.0-only
"""Searches with a fuzzer for so many seconds.

``python -m setup.fuzz 3600 tests/unit/test_fuzz_agent.py``

Each round draws other examples. Ends with the first round that fails, whose output has the example.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.unit import fuzzing

_EXAMPLES = 300


def main(words: Sequence[str]) -> int:
    """0 when nothing was found, else pytest's exit code."""
    seconds, *paths = words
    end = time.monotonic() + float(seconds)
    rounds = status = 0
    while status == 0 and time.monotonic() < end:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths]
        status = subprocess.run(command, env={**os.environ, fuzzing.VARIABLE: str(_EXAMPLES)}, check=False).returncode
        rounds += 1
    print(f"fuzz: {' '.join(paths)}: {rounds} rounds of {_EXAMPLES} examples for each test, exit code {status}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
