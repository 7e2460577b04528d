# SPDX-License-Identifier: GPL-2.0-only
"""harness history and harness report --history: what a person, a mail, a program and KernelCI get."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import time
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker

from harness.cli import main, parse
from harness.history import kcidb, nights, page, text
from harness.history.record import Entry, Result
from harness.history.store import Store
from harness.model import documents
from harness.model.characters import UNSAFE
from harness.model.errors import UsageError
from tests.unit.fuzzing import fuzz
from tests.unit.test_history_store import HOSTILE, entry

DAY = 86400.0


@pytest.fixture
def told(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls a command on a cache whose store has some nights; returns what it prints on standard output."""
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    monkeypatch.delenv("COLUMNS", raising=False)
    now = time.time()
    with Store(cache) as held:
        for number in range(30):
            bad = Result("bad", "fail", 1.0, {}, "", "pairing", "an end is missing N", "an end is missing 7")
            good = Result("good", "pass", 1.0, {"callbacks": 5 if number >= 28 else 4096})
            results = (bad if number >= 28 else Result("bad", "pass", 1.0), good)
            began_s = now - (29.5 - number) * DAY / 2
            held.put(entry(number, results=results, began_s=began_s, build_id=f"{number:x}"), "1 2", live=True)

    def call(*words: str, status: int = 0) -> str:
        assert main(list(words)) == status
        return capsys.readouterr().out

    return call


def test_a_person_reads_what_is_new_and_what_died_quietly(told) -> None:
    said = told("history")

    assert re.match(r"history      since \S+ \S+: 2 runs of 1 job: 2 pass\n", said)
    assert "new          [pairing] an end is missing 7\n" in said
    assert "less         good: callbacks 5, was 4096, since " in said
    assert "failed in 2 of 2 rounds" in said
    assert "harness show /runs/29" in said
    assert said.splitlines()[-1].startswith("mail         kernel-harness since ")


def test_one_line_for_a_mail(told) -> None:
    said = told("history", "--line")

    assert said.count("\n") == 1
    assert "; 1 new, 1 exercised less; new: [pairing] an end is missing 7 (bad)" in said


def test_a_cause_is_told_in_full(told) -> None:
    said = told("history", "--cause", "END IS missing")

    name = re.search(r"([0-9a-f]{8}): bad; ", said)
    assert name
    assert said == told("history", "--cause", name[1])
    assert "bad failed in 2 of 2 rounds, and passed 0 times since: --source a" in said
    assert said.splitlines()[-1].strip() == "/runs/28"
    told("history", "--cause", "nothing like it", status=129)


def test_the_document_fits_its_schema(told) -> None:
    document = documents.parse(told("history", "--json", "--since", "20d"), "history")

    assert document["runs"] == 30
    assert [cause["state"] for cause in document["causes"]] == ["new"]


def test_a_cache_without_runs_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    assert main(["history"]) == 0
    assert ": no run; harness run makes one" in capsys.readouterr().out


def test_a_time_without_runs_names_the_newest(told) -> None:
    assert "no run; the newest began " in told("history", "--since", "1h")


@pytest.mark.parametrize("words", [["7"], ["-1d"], ["1y"], ["yesterday"], ["9999-99-99"], ["\u0663d"]])
def test_a_time_that_is_none_is_told(words: list[str]) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse(["history", f"--since={words[0]}"])


def test_times_are_read_as_they_are_meant() -> None:
    assert parse(["history", "--since", "36h"]).since(1e9) == 1e9 - 36 * 3600
    assert parse(["history", "--since", "999999w"]).since(1e9) == 0
    local = datetime.datetime(2026, 11, 30, 18).timestamp()  # noqa: DTZ001 - a user's own zone is meant
    assert parse(["history", "--since", "2026-11-30 18:00"]).since(1e9) == local


def test_what_excludes_each_other_is_told() -> None:
    with pytest.raises(UsageError, match="not allowed with"):
        parse(["history", "--json", "--line"])


TEXTS = st.one_of(st.just(HOSTILE), st.text(max_size=40))
RESULTS = st.builds(
    Result,
    name=TEXTS,
    verdict=st.sampled_from(["pass", "fail", "inconclusive", "error", "skip", HOSTILE]),
    seconds=st.floats(allow_nan=False) | st.just(1.0),
    exercised=st.dictionaries(TEXTS, st.integers(), max_size=2),
    reason=TEXTS,
    oracle=st.sampled_from(["", "pairing", HOSTILE]),
    cause=TEXTS,
    summary=TEXTS,
    loop_ms=st.floats(allow_nan=False) | st.just(1.0),
)
ENTRIES = st.builds(
    Entry,
    id=TEXTS, folder=TEXTS, began_s=st.floats(allow_nan=False) | st.just(1e9), job=TEXTS, source=TEXTS,
    patches=st.lists(TEXTS, max_size=2), configs=st.lists(TEXTS, max_size=2), contract=TEXTS, accel=TEXTS,
    release=TEXTS, build_id=TEXTS, commit=TEXTS, verdict=TEXTS, error=TEXTS, seconds=st.floats(allow_nan=False),
    results=st.lists(RESULTS, max_size=4), seq=st.integers(), live=st.booleans(),
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=6), st.integers(0, 200))
@fuzz(60)
def test_whatever_a_store_holds_nothing_reaches_a_terminal_unescaped(found: list[Entry], width: int) -> None:
    night = nights.night(found, 1e9 - 1, 1e9)
    told = [*text.lines(night, width), text.mail(night), *(line for one in night.causes for line in text.cause(one))]

    assert not any(UNSAFE.search(line) or "\n" in line for line in told)
    assert all(len(line) <= max(width, 40) for line in text.lines(night, width)) or not width
    document = night.document() | {"left_out": {}}
    assert json.loads(json.dumps(document)).keys() == document.keys()


# --- the page


def test_the_page_has_it_all_and_asks_for_nothing_outside(told, tmp_path: Path) -> None:
    told("report", "--history", "--since", "3d", "--out", str(tmp_path / "page.html"))
    written = (tmp_path / "page.html").read_text()

    assert "an end is missing 7" in written
    assert "good: callbacks" in written
    assert "default-src &#39;none&#39;" in written
    assert not re.search(r"""<[^>]+(?:src|href)\s*=\s*["'](?!#)""", written)
    (styles,) = re.findall(r"<style>(.*?)</style>", written, re.DOTALL)
    *data, (_, script) = re.findall(r"<script( type=.application/json.)?>(.*?)</script>", written, re.DOTALL)
    for body in (styles, script):
        assert base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in unescape(written)
    charts = [json.loads(body) for _, body in data]
    assert [chart["series"][0]["name"] for chart in charts] == ["callbacks", "pass"]
    assert charts[0]["series"][0]["values"][-3:] == [4096, 5, 5]
    assert len(charts[0]["times"]) == 30


def test_the_page_lies_beside_the_store_unless_a_file_is_named(told, cache: Path) -> None:
    told("report", "--history")

    assert (cache / "history" / "history.html").is_file()


@pytest.mark.parametrize(
    "words",
    [["--history", "last"], ["--history", "--json"], ["--history", "--perfetto", "x"], [], ["--since", "1d", "x"]],
)
def test_what_a_page_cannot_be_asked_is_told(told, words: list[str], tmp_path: Path) -> None:
    told("report", *(str(tmp_path) if word == "last" else word for word in words), status=129)


@given(st.lists(ENTRIES, max_size=6))
@fuzz()
def test_whatever_a_store_holds_a_page_shows_it_as_text(found: list[Entry]) -> None:
    written = page.render(nights.night(found, 1e9 - 1, 1e9), {HOSTILE: HOSTILE})

    data = written.count('<script type="application/json">')
    assert written.count("<script") == written.count("</script>") == 1 + data
    assert not UNSAFE.search(re.sub(r"<script>.*?</script>", "", written, flags=re.DOTALL))


def test_a_page_of_any_history_is_small() -> None:
    hostile = "<&\"'\u202e" * 200
    results = [
        Result(f"{at}{hostile}", "fail", 1.0, {}, hostile, "pairing", f"{at % 300} {hostile}", f"{at} {hostile}")
        for at in range(400)
    ]
    found = [
        entry(
            number,
            seq=number,
            began_s=1e9 - 3600 * (400 - number),
            job=f"{number} {hostile}",
            error=f"{hostile[number:]} {hostile}",
            verdict="error",
            results=results,
        )
        for number in range(25)
    ]
    written = page.render(nights.night(found, 0, 1e9), dict.fromkeys(map(str, range(5000)), hostile))

    assert 100_000 < len(written) < 5_000_000


# --- KernelCI

_FORMATS = FormatChecker(())
_FORMATS.checks("date-time", raises=ValueError)(lambda value: bool(datetime.datetime.fromisoformat(str(value)).tzinfo))


@given(st.lists(ENTRIES, max_size=6))
@fuzz(60)
def test_whatever_a_store_holds_kernelci_can_take_it(found: list[Entry]) -> None:
    report = json.loads(kcidb.render(found, "mine"))
    schema = json.loads((documents.SCHEMAS / "kcidb.json").read_text())

    Draft7Validator(schema, format_checker=_FORMATS).validate(report)
    assert {test["build_id"] for test in report.get("tests", ())} <= {build["id"] for build in report.get("builds", ())}


def test_kernelci_gets_each_cause_once(told) -> None:
    report = json.loads(told("history", "--kcidb", "--origin", "my_lab", "--since", "20d"))

    assert [issue["comment"] for issue in report["issues"]] == ["[pairing] an end is missing 7"]
    assert len(report["incidents"]) == 2
    assert len(report["tests"]) == 60
    assert {test["path"] for test in report["tests"]} == {"kernel_harness.bad", "kernel_harness.good"}
    assert {test["status"] for test in report["tests"]} == {"PASS", "FAIL"}
    assert all(test["origin"] == "my_lab" and test["id"].startswith("my_lab:") for test in report["tests"])


def test_an_origin_is_what_kcidb_takes() -> None:
    with pytest.raises(UsageError, match="--origin"):
        parse(["history", "--kcidb", "--origin", "My Lab"])
