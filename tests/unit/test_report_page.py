# SPDX-License-Identifier: GPL-2.0-only
"""report.html: what is on it, what is never on it, and how large it may become."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.model import event as events
from harness.model import recording as recordings
from harness.model.event import EventLog, Kind
from harness.model.recording import Answer, Ended, Recording
from harness.model.run import RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import comparison, console, document, html, ktap, perfetto, timeline
from harness.report.detail import Detail, Details
from harness.report.html import cut
from harness.report.why import why
from harness.run import earlier
from tests.unit.recordings import BANNER, Log, complaint, recording
from tests.unit.runs import NAMES
from tests.unit.verdicts import run_of

VENDOR = Path(html.__file__).parent / "vendor"
HOSTILE = "</script><script>owned=1</script><img src=x onerror=owned=1>\x1b]0;x\x07\u2028\u202e]]>--><!--"
MARK = Answer(0, "mark", "begin:sample", "", "mark", {"ok": True, "mark": "begin:sample"}, {}, 0.5)


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.found.append((tag, dict(attrs)))


def failed(name: str = "bad", text: str = "a page was lost", evidence: str = "the first is event 3") -> ScenarioResult:
    return ScenarioResult(name, Outcome.FAIL, (Finding("pairing", text, evidence),), {"callbacks": 4}, 1.0)


def told(result: ScenarioResult | None = None, log: Log | None = None, **fields: Any) -> tuple[RunVerdict, Details]:
    """A run of one scenario, with its details."""
    result = result or failed()
    details = Details()
    details.add(recording(log, answers=[MARK], **fields), result)
    return run_of([result]), details


def pairs(count: int = 6) -> Log:
    log = Log()
    for _ in range(count):
        log.pair()
    return log


def page(*, result: ScenarioResult | None = None, log: Log | None = None, **fields: Any) -> str:
    run, details = told(result, log or pairs(), **fields)
    return html.render(run, None, details.found)


# --- nothing from outside, and nothing hostile


def test_a_page_asks_for_nothing_and_runs_only_what_its_policy_names() -> None:
    made = page()
    tags = Tags(made)
    policy = next(str(found["content"]) for _, found in tags.found if found.get("http-equiv"))

    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", made, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    links = [found.get(name) or "" for _, found in tags.found for name in ("src", "href", "action", "srcset", "data")]
    assert {link[:1] for link in links} == {"", "#"}
    assert not [name for _, found in tags.found for name in found if name.startswith("on") or name == "style"]
    assert not [tag for tag, _ in tags.found if tag in ("link", "iframe", "object", "embed", "base", "form")]


def test_hostile_text_ends_no_script_and_makes_no_tag() -> None:
    result = ScenarioResult("bad", Outcome.FAIL, (Finding("pairing", HOSTILE, f"event 3 {HOSTILE}"),), reason=HOSTILE)
    answers = [
        MARK,
        Answer(0, "subscribe", HOSTILE, "", "", {"ok": True, "subscriber": 1}, {}, 0.1),
        Answer(1, "pages", HOSTILE, HOSTILE, HOSTILE, {"ok": True, "present": 3, "swapped": HOSTILE}, {}, 0.1),
    ]
    details = Details()
    details.add(recording(pairs(), [*complaint(), HOSTILE], answers=answers), result)

    made = html.render(run_of([result], source=HOSTILE, error=HOSTILE), None, details.found)

    tags = Tags(made)
    assert "img" not in {tag for tag, _ in tags.found}
    assert [found.get("type") for tag, found in tags.found if tag == "script"] == ["application/json", None]
    assert not re.search("[\x00-\x08\x1b\u2028\u202e]", made)
    (chart,) = re.findall(r'<script type="application/json">(.*?)</script>', made)
    assert [lane["who"] for lane in json.loads(chart)["subscribers"]] == [HOSTILE.replace("\x1b", "\\x1b").replace(
        "\x07", "\\x07").replace("\u2028", "\\u2028").replace("\u202e", "\\u202e")]  # fmt: skip


def test_the_library_of_the_charts_is_the_one_that_its_page_names() -> None:
    lines = [line.split() for line in (VENDOR / "README.md").read_text().splitlines() if line[:4] == "    "]
    listed = {name: digest for digest, name in lines}

    assert {path.name for path in VENDOR.iterdir()} == {*listed, "README.md"}
    for name, digest in listed.items():
        assert hashlib.sha512((VENDOR / name).read_bytes()).hexdigest() == digest
    assert (VENDOR / "LICENSE").read_text() in page()


# --- what is on it


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (run_of([]), "No scenario was judged."),
        (run_of([], error="no space left", forced=Outcome.ERROR), "no space left. No scenario was judged."),
        (
            run_of([ScenarioResult("a", Outcome.PASS, (), {"callbacks": 4096, "direct_reclaim": 4000})]),
            (
                "One scenario ran, no oracle found anything, and what had to happen did: "
                "4,096 callbacks were counted, 4,000 of them in direct reclaim."
            ),
        ),
        (run_of([failed()]), "The scenario failed for one cause: a page was lost."),
        (
            run_of([failed("a"), failed("b", "a hang"), ScenarioResult("c", Outcome.PASS)]),
            "2 of 3 scenarios failed for 2 causes, of which the first is: a page was lost.",
        ),
        (
            run_of([ScenarioResult("a", Outcome.INCONCLUSIVE, reason="callbacks 3 (at least 4)")]),
            "The scenario proved too little. a: callbacks 3 (at least 4).",
        ),
        (
            run_of([ScenarioResult("a", Outcome.PASS)], error="interrupted; 3 scenarios were not judged",
                   interrupted=True, forced=Outcome.ERROR),
            "interrupted; 3 scenarios were not judged. Judged until then: 1 pass.",
        ),
    ],
)  # fmt: skip
def test_the_verdict_comes_first_with_its_reason_in_a_sentence(run: RunVerdict, sentence: str) -> None:
    made = html.render(run)

    assert why(run) == sentence
    assert made.index(run.outcome.value) < made.index(sentence) < made.index("<main>")


def test_a_cause_is_told_once_with_its_scenarios() -> None:
    results = [failed(f"bad-{number}") for number in range(16)] + [failed("other", "a hang")]

    made = html.render(run_of(results))

    first, second = re.findall(r'<article class="cause">.*?</article>', made, re.DOTALL)
    assert first.count("a page was lost") == 1
    assert re.findall(r'<li><a href="#scenario-([a-z0-9-]+)">', first) == [f"bad-{number}" for number in range(16)]
    assert "In 1 scenario; first in" in second
    # Each of the sixteen says where the cause is told, and does not repeat its evidence openly.
    assert len(re.findall("The same as in <a", made)) == 15


def test_what_a_finding_names_is_marked_and_reached_from_it() -> None:
    made = page()

    (at,) = re.findall(
        r'<a href="#timeline-bad" data-scenario="bad" data-mark="1">In the timeline, at ([0-9.]+) s', made
    )
    assert '<a href="#event-bad-3">' in made
    assert re.search(r'<tr class="named" id="event-bad-3"><td>3</td>', made)
    (chart,) = re.findall(r'<script type="application/json">(.*?)</script>', made)
    (mark,) = json.loads(chart)["marks"]
    assert f"{mark['at']:.4f}" == at
    assert mark["number"] == 1


def test_every_link_of_a_page_leads_somewhere() -> None:
    tags = Tags(page())
    ids = {found["id"] for _, found in tags.found if "id" in found}

    assert {found["href"] for tag, found in tags.found if tag == "a"} <= {f"#{name}" for name in ids}
    assert len(ids) == len([found for _, found in tags.found if "id" in found])


def test_the_console_folds_its_reports_where_they_stand() -> None:
    lines = [f"[    1.{number:06}][    T1] line {number}" for number in range(200)]
    one = recording(console=[*lines[:100], *complaint(), *lines[100:]])

    parts = console.parts(one)

    assert [part.title[:7] for part in parts if part.title] == ["WARNING"]
    shown = "\n".join(part.text for part in parts)
    assert shown.startswith(BANNER)
    assert "line 99" in shown
    assert "line 50" not in shown
    for part in parts:
        assert one.console_lines[part.line - 1] == part.text.splitlines()[0]
    assert "Lines up to" in page(console=[*lines[:100], *complaint(), *lines[100:]])


def test_what_the_kernel_was_made_of_is_on_the_page(run: Path) -> None:
    (run / html.PATCHES).mkdir()
    (run / html.PATCHES / "0001-mine.patch").write_text(
        "--- a/mm/rmap.c\n+++ b/mm/rmap.c\n@@ -1 +1 @@\n-old <b>\n+new\n"
    )
    (run / html.CONFIG).write_text("# CONFIG_A is not set\nCONFIG_SWAP=y\n")
    (run / NAMES[0] / "decoded.txt").write_text("f+0x1/0x2\n    mm/rmap.c:1702\n")

    made = html.render(document.read(run), run, {})

    assert '<span class="del">-old &lt;b&gt;</span>' in made
    assert "CONFIG_SWAP=y" in made
    assert "CONFIG_A" not in made
    assert "mm/rmap.c:1702" in made
    assert f"harness judge {run}" in made


def test_what_is_below_a_run_by_a_link_is_not_shown(run: Path) -> None:
    secret = run.parent / "secret"
    secret.write_text("CONFIG_SECRET=y\n")
    (run / html.CONFIG).symlink_to(secret)
    (run / html.PATCHES).mkdir()
    (run / html.PATCHES / "0001-x.patch").symlink_to(secret)
    os.mkfifo(run / NAMES[0] / "decoded.txt")

    assert "CONFIG_SECRET" not in html.render(document.read(run), run, {})


# --- the timeline


def test_the_bins_hold_every_callback_and_are_finer_around_a_finding() -> None:
    log = Log()
    for number in range(1000):
        log.start(result=-11 if number % 4 == 0 else 0, subscriber=1 + number % 2, pid=100 + number % 3)
        log.end(subscriber=1 + number % 2, pid=100 + number % 3)

    line = timeline.of(recording(log), [Finding("pairing", "x", "the first is event 1001")])

    assert line.events == 2000
    counts = [sum(counts) for lane in line.subscribers for counts in lane.counts.values()]
    assert sum(counts) == 2000
    assert sum(sum(lane.counts["−EAGAIN"]) for lane in line.subscribers if "−EAGAIN" in lane.counts) == 250
    assert sum(sum(lane.counts["direct reclaim"]) for lane in line.tasks) == 2000
    widths = [high - low for low, high in zip(line.edges, line.edges[1:], strict=False)]
    (mark,) = line.marks
    near = [width for low, width in zip(line.edges, widths, strict=False) if abs(low - mark.at_s) < min(widths) * 2]
    assert max(near) < max(widths) / 10
    assert [entry.seq for entry in line.exact[1001]] == list(range(981, 1022))


def test_steps_lie_on_the_clock_of_the_events() -> None:
    log = Log()
    log.add(Kind.MARK, time_ns=10**9, duration_ns=0, subscriber=0)
    log.pair(time_ns=2 * 10**9)
    log.add(Kind.MARK, time_ns=3 * 10**9, duration_ns=0, subscriber=0)
    end = dataclasses.replace(MARK, target="end:sample")
    touch = Answer(1, "touch", "held", "", "touch", {"ok": True}, {}, 2.0)
    again = Answer(2, "pages", "held", "", "pages", {"ok": True, "present": 256, "swapped": 0}, {}, 1.5)

    line = timeline.of(recording(log, answers=[MARK, touch, again, end]))

    # The host took twice as long as the guest.
    assert [(row.number, row.at_s) for row in line.steps] == [(0, -0.25), (1, 0.0), (2, 1.0), (0, 1.75)]
    assert line.steps[2].counts == {"start": 1, "end": 1, "direct reclaim": 2}
    assert {curve.name: curve.points for curve in line.curves} == {
        "held in memory": [(1.75, 1.0)], "held in swap": [(1.75, 0.0)],
    }  # fmt: skip


def test_a_report_of_the_kernel_has_its_place_in_time_even_without_events() -> None:
    one = recording(console=["[    2.000000][    T1] drive: mark 1 begin:sample:ab", *complaint()], ended=Ended.SILENT)

    (mark,) = timeline.of(one, ()).marks

    assert mark.text.startswith("console: WARNING in ")
    assert mark.at_s == 0.1


def test_a_million_events_make_a_small_page() -> None:
    import numpy as np

    count = 1_000_000
    some = b"".join(events.RECORD.pack(*entry) for entry in pairs(8).events)
    body = np.tile(np.frombuffer(some, events._layout()), count // 16)
    body["seq"] = np.arange(1, count + 1)
    body["time_ns"] = body["seq"] * 997
    log = EventLog(b"\0" * events.HEADER.size + body.tobytes(), count, 5, count)
    one = dataclasses.replace(recording(), events=log)
    result = failed(evidence="the first is event 700001")

    detail = Detail(timeline.of(one, result.findings), ())
    made = html.render(run_of([result]), None, {"bad": detail})

    assert sum(sum(line) for lane in detail.timeline.subscribers for line in lane.counts.values()) == count
    assert 'id="event-bad-700001"' in made
    assert "1,000,000 events, and 5 that did not fit into the log" in made
    assert len(made.encode()) < 300_000


@pytest.mark.parametrize("count", [300, 3100])
def test_a_page_stays_below_its_limit_and_tells_each_cause(count: int) -> None:
    long = "\x1b" + "x<" * 20_000
    results = [failed(f"bad-{n}", f"cause {chr(97 + n % 3)} {'y' * 300}", long) for n in range(count)]
    # One that comes last is the only one of its cause.
    results.append(failed("last", "another cause", "event 3"))
    run, details = told(results[-1], pairs())
    run = dataclasses.replace(
        run, scenarios=tuple(results), skipped={f"s-{n}": long[:2000] for n in range(900)}, noise=[long] * 900,
        not_run=[f"n-{n}" for n in range(5000)], error=long, forced=Outcome.ERROR,
    )  # fmt: skip

    made = html.render(run, None, details.found)

    assert len(made.encode()) <= html.LIMIT_BYTES
    assert made.count('<article class="cause">') == 4
    assert 'id="event-last-3"' in made
    assert "characters more" in made


def test_a_text_that_is_cut_says_how_much_is_missing() -> None:
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 1010, 10) == "xxxxxxxxxx… (1,000 characters more)"


BYTES = st.integers(0, 255)
U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
# All that 144 bytes can be; small numbers are drawn often enough to meet.
EVENTS = st.lists(
    st.tuples(
        *[st.one_of(st.integers(0, 9), U64)] * 10, U32, U32, st.integers(-(1 << 31), (1 << 31) - 1), U32, U32,
        st.one_of(st.integers(0, 3), U32), st.one_of(st.integers(1, 14), BYTES), BYTES, BYTES, BYTES, U32,
    ),
    max_size=12,
)  # fmt: skip
REPLIES = st.dictionaries(
    st.sampled_from(("ok", "subscriber", "present", "swapped", "nr_free_pages", "current", "mark")),
    st.one_of(st.booleans(), st.integers(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=1)),
)
ANSWERS = st.lists(
    st.builds(
        Answer, st.integers(0, 3), st.sampled_from(("mark", "vmstat", "pages", "cgroup-stat", "subscribe")),
        st.text(max_size=3), st.just(""), st.just(""), REPLIES, st.just({}), st.floats(0, 1e9),
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(EVENTS, ANSWERS, st.text(max_size=60), U64)
def test_whatever_a_guest_wrote_makes_a_page_and_a_trace(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, ...]], answers: list[Answer], said: str, seq: int
) -> None:
    body = b"".join(events.RECORD.pack(*entry) for entry in written)
    log = events.parse(events.HEADER.pack(events.MAGIC, 3, events.RECORD.size, 1, len(written), 0, 9) + body)
    one = dataclasses.replace(recording(console=[said], answers=answers), events=log)
    result = failed(evidence=f"event {seq if len(written) < 3 else written[2][0]}, line 2")

    details = Details()
    details.add(one, result)
    made = html.render(run_of([result]), None, details.found)
    place = tmp_path_factory.getbasetemp() / "trace.json"
    perfetto.write(place, [("bad", log, details.found["bad"].timeline)])

    (chart,) = re.findall(r'<script type="application/json">(.*?)</script>', made)
    assert json.loads(chart, parse_constant=pytest.fail)
    assert json.loads(place.read_text(), parse_constant=pytest.fail)["traceEvents"]


# --- two runs


def test_two_runs_are_compared_with_what_changed_first() -> None:
    same = ScenarioResult("same", Outcome.PASS, (), {"callbacks": 100}, 1.0, latency_us={"p99": 10})
    slower = dataclasses.replace(same, exercised={"callbacks": 110}, latency_us={"p99": 100})
    before = run_of([same, failed("fixed"), ScenarioResult("broken", Outcome.PASS), failed("gone")])
    after = run_of(
        [slower, ScenarioResult("fixed", Outcome.PASS), failed("broken", f"a hang {HOSTILE}"), failed("new")]
    )

    made = comparison.render(before, after, ("yesterday", "today"))

    assert "From fail to fail: 1 passed and no longer do, 1 pass now, 1 ended as before." in made
    assert re.findall(r"<h3>(New|Gone|In both): ", made) == ["New", "In both"]
    order = [made.index(text) for text in ("What ended otherwise", "In one run only", "What ended as before")]
    assert order == sorted(order)
    assert "latency p99, µs 10 → 100" in made
    assert "callbacks 100 → 110" not in made
    assert Tags(made).found
    assert "img" not in {tag for tag, _ in Tags(made).found}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "--perfetto", "x.json"], "--perfetto: one run at a time"),
        (["a", "--out", "x.html"], "--out: is for the comparison of two runs"),
        (["a", "--perfetto", "."], "is a folder"),
        (["a", "--perfetto", "nowhere/x"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_written_is_told_before_a_run_is_judged(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *words]) == 129
    assert message in capsys.readouterr().err


def test_report_compares_each_run_with_the_first_and_writes_a_trace(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run.parent / "other"
    shutil.copytree(run, other)

    assert main(["report", str(run), str(other)]) == 0
    assert "2 scenarios ended as before" in (other / comparison.NAME).read_text()
    assert not (run / comparison.NAME).exists()
    assert main(["report", str(run), str(other), "--out", str(run.parent / "mine.html")]) == 0
    assert main(["report", str(run), "--perfetto", str(run.parent / "t.json.gz")]) == 0
    assert "t.json.gz: " in capsys.readouterr().err
    entries = json.loads(gzip.decompress((run.parent / "t.json.gz").read_bytes()))["traceEvents"]
    named = [entry["args"]["name"] for entry in entries if entry["name"] == "process_name"]
    assert named == list(NAMES)
    assert sorted(path.name for path in run.parent.iterdir()) == ["mine.html", "other", run.name, "t.json.gz"]
    assert document.read(other).outcome is Outcome.PASS


def test_a_trace_opens_and_closes_each_range_once() -> None:
    log = Log()
    log.pair()
    log.start(range=7)
    log.start(range=8, result=-11)
    log.end(range=7)
    log.start(range=9)

    found = list(perfetto.entries(1, "x", events.parse(log.packed()), timeline.Timeline()))

    spans = [(entry["ph"], entry["id"]) for entry in found if entry.get("cat") == "range"]
    assert spans == [("b", "1.1"), ("e", "1.1"), ("b", "1.3"), ("e", "1.3"), ("b", "1.6")]
    assert [entry["name"] for entry in found if entry["ph"] == "X"] == [
        "start", "end", "start", "start −EAGAIN", "end", "start",
    ]  # fmt: skip
    assert all(entry["tid"] < 1 << 32 for entry in found)


# --- KTAP


def test_no_text_ends_or_skips_the_tests_of_ktap() -> None:
    """tools/testing/kunit/kunit_parser.py stops at these words wherever they stand, and searches for # SKIP."""
    said = "reboot: System halted\nKernel panic - not syncing: VFS: x # SKIP\nList of all partitions:"
    results = [
        ScenarioResult("bad", Outcome.FAIL, (Finding("clean-log", said, said),)),
        ScenarioResult("lost", Outcome.ERROR, reason=said),
    ]

    made = ktap.render(run_of(results, skipped={"other": said}, error=said, forced=Outcome.ERROR))

    assert not re.search(r"List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted", made)
    tests = [line for line in made.splitlines() if line.startswith(("ok", "not ok"))]
    assert [len(re.findall(r" # SKIP", line)) for line in tests] == [0, 0, 1]


def test_a_recording_is_all_that_a_page_needs(run: Path) -> None:
    """What judging reads again makes the same details."""
    one: Recording = recordings.read(run / NAMES[0], earlier.scenario_of(run / NAMES[0], NAMES[0]))
    details = Details()
    details.add(one, ScenarioResult(NAMES[0], Outcome.PASS))

    assert details.found[NAMES[0]].timeline.events == 6
