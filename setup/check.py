# SPDX-License-Identifier: GPL-2.0-only
"""Runs the test suite through tox and ends with one line that counts the tests: `check: 120 passed, 0 failed`.

Arguments are names of tox environments; none means all. A job that is no
pytest run (lint, types) counts as one test. Before that line come the costs:
the slowest tests, and each kernel that was built.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.host.workspace import cache_dir

ROOT = Path(__file__).resolve().parents[1]
JUNIT = ROOT / ".tox" / "junit"
SLOWEST = 10


def count(name: str, status: int) -> tuple[int, int, int]:
    """Passed, failed and skipped of one job, from pytest's report or else from its exit status."""
    report = JUNIT / f"{name}.xml"
    if not report.exists():
        return int(status == 0), int(status != 0), 0
    # Our own pytest wrote it a moment ago.
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    # pytest also fails without a failed test: a broken conftest, an interrupted run, nothing collected.
    return total - failed - skipped, max(failed, int(status != 0)), skipped


def statuses(result: Path) -> dict[str, int]:
    """Exit status of each job in tox's own report: of its tests, or of the set-up that kept them from running."""
    jobs: dict[str, Any] = json.loads(result.read_text())["testenvs"] if result.stat().st_size else {}
    return {name: job["result"]["exit_code"] for name, job in jobs.items() if "result" in job}


def slowest() -> list[tuple[float, str]]:
    """The tests that took longest, in seconds with their set-up, from pytest's reports."""
    cases = (
        # As above.
        case
        for report in JUNIT.glob("*.xml")
        for case in ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314
    )
    times = [(float(case.get("time", 0)), f"{case.get('classname')}::{case.get('name')}") for case in cases]
    return sorted(times, reverse=True)[:SLOWEST]


def built(since: float) -> list[tuple[float, str]]:
    """The kernels that were built since a time, each with its seconds; the longest first."""
    found = []
    for facts in (cache_dir() / "kernels").glob("*/kernel.json"):
        if facts.stat().st_mtime >= since:
            kernel = json.loads(facts.read_text(encoding="utf-8"))
            patches, configs = (" + ".join(map(_short, kernel[key])) for key in ("patches", "configs"))
            found.append((float(kernel["seconds"]), f"{kernel['source']}, {patches}; {configs}"))
    return sorted(found, reverse=True)


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def tell_costs(since: float) -> None:
    """Print what the time went into."""
    print(f"  the {SLOWEST} slowest tests:")
    for seconds, name in slowest():
        print(f"    {seconds:6.1f} s  {name}")
    kernels = built(since)
    print(f"  {len(kernels)} kernels were built in {sum(seconds for seconds, _ in kernels):.0f} s:")
    for seconds, name in kernels:
        print(f"    {seconds:6.1f} s  {name}")


def main(environments: list[str]) -> int:
    """Run tox and tell how it went; the exit status is 0, or 1 when anything failed."""
    began = time.time()
    for old in JUNIT.glob("*.xml"):
        old.unlink()
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        argv = [sys.executable, "-m", "tox", "run", "--result-json", result.name]
        if environments:
            argv += ["-e", ",".join(environments)]
        try:
            status = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
        except KeyboardInterrupt:
            print("check: interrupted", flush=True)
            return 130
        counts = {name: count(name, code) for name, code in statuses(Path(result.name)).items()}
    tell_costs(began)
    for name, (passed, failed, skipped) in counts.items():
        print(f"  {name}: {passed} passed, {failed} failed, {skipped} skipped")
    passed, failed, skipped = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0, 0)
    failed = max(failed, int(status != 0))
    spent = divmod(round(time.time() - began), 60)
    print(f"check: {passed} passed, {failed} failed, {skipped} skipped in {spent[0]} min {spent[1]} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
