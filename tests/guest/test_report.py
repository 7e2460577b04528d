# SPDX-License-Identifier: GPL-2.0-only
"""What a run wrote, as those see it who read it: a browser, the kernel's own parser, trace_processor."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.history import nights
from harness.history import page as history_page
from harness.history.record import Result
from harness.host.progress import QUIET
from harness.host.workspace import cache_dir
from harness.kernel import source, versions
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import comparison, html, ktap
from harness.report.detail import Details
from tests.guest.command import harness
from tests.unit.recordings import complaint, recording
from tests.unit.test_history_nights import DAY, NOW, chance
from tests.unit.test_history_overall import lately, simulated
from tests.unit.test_report_page import HOSTILE, MARK, failed, pairs
from tests.unit.verdicts import run_of

BROWSER = Path(__file__).parent / "browser"
CHROMIUM = shutil.which("chromium") or ""
# On a host that does other things, too.
LIMIT_S = 1800


def test_the_kernels_own_parser_takes_what_we_write(tmp_path: Path):
    """tools/testing/kunit of the default kernel, and text of a guest that the parser would act on."""
    tree = source.fetch(versions.DEFAULT, cache_dir(), QUIET)
    parser = tmp_path / "tools/testing/kunit"
    assert tree.origin.linkable is not None
    shutil.copytree(tree.origin.linkable / "tools/testing/kunit", parser)
    said = "reboot: System halted # SKIP\nKTAP version 1\n1..9\nok 1 other\n# Subtest: x"
    results = [
        ScenarioResult("good", Outcome.PASS),
        ScenarioResult("bad", Outcome.FAIL, (Finding("clean-log", said, said),)),
        ScenarioResult("lost", Outcome.ERROR, reason=said),
        ScenarioResult("little", Outcome.INCONCLUSIVE, reason=said),
    ]
    (tmp_path / "results.ktap").write_text(ktap.render(run_of(results, skipped={"other": said})))

    done = subprocess.run(
        [sys.executable, "kunit.py", "parse", str(tmp_path / "results.ktap")],
        cwd=parser, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip

    assert "Ran 5 tests: passed: 1, failed: 3, skipped: 1" in done.stdout, done.stdout + done.stderr
    assert "[ERROR]" not in done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with what the scripts of browser/ need."""
    place = tmp_path_factory.mktemp("browser") / "venv"
    pip = [str(place / "bin/pip"), "install", "--quiet", "--require-hashes", "-r", str(BROWSER / "requirements.txt")]
    for argv in ([sys.executable, "-m", "venv", str(place)], pip):
        subprocess.run(argv, check=True, timeout=LIMIT_S)
    return place / "bin/python"


def night() -> nights.Night:
    """Everything is slower; a cause is new, a scenario dies quietly, one is skipped: with hostile text everywhere."""
    found = []
    for one in simulated(chance(1), lately(1.5), jobs=4, load=0.1):
        late = one.began_s > NOW - 2 * DAY
        fails = Result("s0", "fail", 1.0, {}, "", "pairing", f"a page was lost {HOSTILE}", f"a page was lost {HOSTILE}")
        dies = Result("dies", "pass", 1.0, {"callbacks": 5 if late else 4096})
        gone = Result("gone", "skip" if late else "pass", 1.0, reason=HOSTILE)
        lost = Result("lost", "error", reason=f"no QEMU {HOSTILE}")
        results = (*((fails, lost, *one.results[1:]) if late else one.results), dies, gone)
        found.append(dataclasses.replace(one, job=f"{one.job} {HOSTILE}", results=results))
    return nights.night(found, NOW - DAY, NOW)


def pages(folder: Path) -> Iterator[Path]:
    """A pass, a failure in sixteen scenarios with hostile text everywhere, their comparison, and a history."""
    good = ScenarioResult("good", Outcome.PASS, (), {"callbacks": 4096}, 1.0, latency_us={"p99": 3})
    bad = [failed(f"bad-{number}", f"a page was lost {HOSTILE}", f"event 3 {HOSTILE}") for number in range(16)]
    details = Details()
    for result in (good, *bad):
        details.add(recording(pairs(200), [*complaint(), HOSTILE], answers=[MARK]), result)
    passed, broken = run_of([good]), run_of(bad, error=HOSTILE, noise=[HOSTILE])
    for name, text in (
        ("pass", html.render(passed, None, details.found)),
        ("fail", html.render(broken, None, details.found)),
        ("comparison", comparison.render(passed, broken, (HOSTILE, "today"))),
        ("history", history_page.render(night(), {f"/runs/{HOSTILE}": HOSTILE})),
    ):
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        yield folder / f"{name}.html"


@pytest.mark.nightly
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: make nightly installs it")
def test_a_browser_shows_each_page_on_a_phone_and_a_desktop(python: Path, tmp_path: Path):
    """In both colour schemes: axe-core finds nothing, nothing is cut off, asked for, complained of or executed."""
    words = [str(word) for word in (python, BROWSER / "look.py", CHROMIUM, tmp_path / "shots", *pages(tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)

    wrong = [
        text
        for look in told["looked"]
        for name in ("closed", "open", "sticks_out", "asked", "said")
        for text in look[name]
    ]
    assert wrong == []
    assert {look["executed"] for look in told["looked"]} == {None}
    assert {(look["width"], look["scheme"]) for look in told["looked"]} == {
        (390, "light"), (390, "dark"), (1200, "light"), (1200, "dark"),
    }  # fmt: skip
    least = {"comparison.html": 0, "history.html": 2}
    assert all(look["canvases"] >= least.get(look["page"], 3) for look in told["looked"])
    shown = night()
    assert shown.overall
    assert shown.causes
    assert shown.less
    assert shown.gone
    assert shown.unjudged
    assert "a page was lost" in told["keyed"]["history.html"]["silent"], "without scripts"
    keyed = told["keyed"]["fail.html"]
    assert "a page was lost" in keyed["silent"], "without scripts"
    assert keyed["in_view"]
    assert keyed["charts"] == 1


@pytest.mark.nightly
def test_trace_processor_answers_about_a_run(python: Path, tmp_path: Path):
    """On the trace of a real run, whose counters the answers must be."""
    out = tmp_path / "run"
    assert harness("run", "--out", out, "memcg-eagain").status == 0
    assert harness("report", out, "--perfetto", tmp_path / "trace.json.gz").status == 0
    done = subprocess.run(
        [python, BROWSER / "query.py", tmp_path / "trace.json.gz"],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    if "trace_processor_shell" in done.stderr and "curl" in done.stderr:
        pytest.skip("trace_processor cannot be fetched here")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    exercised = json.loads((out / "verdict.json").read_text())["scenarios"][0]["exercised"]
    assert found["again"] == exercised["eagain"]
    assert found["slices"] >= 2 * exercised["callbacks"]
    assert found["held"] == exercised["held"]
    assert found["ranges"] > 0
    assert found["lost"] == 0
