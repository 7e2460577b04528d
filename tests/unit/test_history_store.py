# SPDX-License-Identifier: GPL-2.0-only
"""The store of the history: nothing that happens to it, or beside it, loses a run or changes a verdict."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.history import keeping, record, store
from harness.history.record import Entry, Result
from harness.history.store import Store
from harness.model import begun
from harness.model.errors import HarnessError, OutOfSpace, UsageError
from harness.model.run import KernelFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report.write import rewrite, write
from tests.unit.conftest import Said
from tests.unit.fuzzing import fuzz
from tests.unit.verdicts import run_of

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "</script>\x1b]0;owned\x07\u202e\x00\ud800\n| line"


def entry(number: int = 1, count: int = 3, **changes: object) -> Entry:
    fields = {
        "id": f"{number:032x}", "folder": f"/runs/{number}", "began_s": 1e9 + number, "job": "--source a",
        "source": "a", "patches": (), "configs": ("base",), "contract": "mayfail", "accel": "tcg",
        "release": "6.12", "build_id": "ab", "commit": "", "verdict": "pass", "error": "", "seconds": 1.0,
        "results": tuple(Result(f"s{at}", "pass", 1.0, {"callbacks": 4}) for at in range(count)),
    }  # fmt: skip
    return Entry(**(fields | changes))  # type: ignore[arg-type]


def a_run(place: Path, verdict: RunVerdict | None = None, told: Mapping[str, object] | None = None) -> Path:
    """A run directory with what the history reads of one."""
    place.mkdir(parents=True)
    if told:
        (place / begun.NAME).write_text(json.dumps(told))
    (place / "one").mkdir()
    (place / "one" / "record.json").write_text(place.name)
    write(verdict or run_of({"one": Outcome.PASS, "two": Outcome.FAIL}), place)
    return place


def ids(cache: Path) -> list[str]:
    with Store(cache) as held:
        return [one.id for one in held.entries()]


def whole(cache: Path) -> bool:
    """Whether each run has all of its results."""
    with Store(cache, thorough=True) as held:
        return all(len(one.results) == 3 for one in held.entries())


def test_what_is_entered_comes_out_again(cache: Path) -> None:
    one = entry(results=(Result("a.2", "fail", 0.5, {"eagain": 1 << 80}, "why", "pairing", "key N", "key 7"),))
    with Store(cache) as held:
        held.put(one, "1 2", live=True)
        (found,) = held.entries()
        assert held.seen() == {"/runs/1": "1 2"}
        assert held.first_seen() == {("pairing", "key N"): one.began_s}

    assert (found.seq, found.live) == (1, True)
    assert found == Entry(**(vars(one) | {"seq": 1, "live": True}))


def test_the_same_run_is_entered_once_and_keeps_its_place(cache: Path) -> None:
    with Store(cache) as held:
        held.put(entry(1), "a", live=True)
        held.put(entry(2), "a")
        held.put(entry(1, verdict="fail", count=5), "b")
        found = held.entries()

    assert [(one.seq, one.live, one.verdict, len(one.results)) for one in found] == [
        (1, True, "fail", 5),
        (2, False, "pass", 3),
    ]


WRITER = """
import sys
from pathlib import Path
from harness.history.store import Store
from tests.unit.test_history_store import entry
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    with Store(Path(sys.argv[1])) as held:
        held.put(entry(number), "1 2")
    print(number, flush=True)
"""


def writer(cache: Path, first: int, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(cache), str(first), str(count)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_lose_nothing(cache: Path) -> None:
    """They begin with no store at all."""
    writers = [writer(cache, first, 25) for first in (100, 200)]

    assert [one.wait(timeout=60) for one in writers] == [0, 0]
    assert sorted(int(one, 16) for one in ids(cache)) == [*range(100, 125), *range(200, 225)]
    assert whole(cache)
    for one in writers:
        one.communicate()


def test_a_writer_that_is_killed_leaves_whole_runs(cache: Path) -> None:
    """What it said to have entered is there; the run that it was at is there with all of its results, or not at all."""
    for first in (1000, 2000):
        one = writer(cache, first, 900)
        assert one.stdout is not None
        last = max(int(one.stdout.readline()) for _ in range(5))
        one.send_signal(signal.SIGKILL)
        told = [int(line) for line in one.communicate()[0].split()]
        kept = {int(name, 16) for name in ids(cache)}
        assert {*range(first, max([last, *told]) + 1)} <= kept
        assert whole(cache)


def test_a_writer_that_does_not_end_is_told_and_costs_no_verdict(cache: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    with Store(cache):
        pass
    other = sqlite3.connect(store.place(cache), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keeping, "_PATIENCE_S", 0.05)
            (line,) = keeping.enter(run, run_of({"one": Outcome.PASS}), cache)
    finally:
        other.close()

    assert "another harness has been writing to it for 0.05 s" in line
    assert line.endswith(f"; the verdict stands, harness history {run} enters the run")


def fill(held: Store) -> None:
    for number in range(1000, 3000):
        held.put(entry(number), "1 2")


def full(cache: Path, run: Path) -> str:
    """Enter runs until something is told."""
    with Store(cache) as held:
        held.put(entry(1), "1 2")
    many = [ScenarioResult(f"s{at}", Outcome.PASS, exercised={"callbacks": at}) for at in range(20_000)]
    (line,) = keeping.enter(run, run_of(many), cache)
    return line


def test_a_file_that_may_not_grow_is_told_and_loses_nothing(cache: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (96 << 10, before[1]))
    try:
        line = full(cache, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert line.startswith("history      ")
    assert "the verdict stands" in line
    assert f"{1:032x}" in ids(cache)
    assert list(keeping.enter(run, run_of({"one": Outcome.PASS}), cache)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs mount(2)")
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("mount(2) is not allowed")
    try:
        run = a_run(tmp_path / "run")
        line = full(disk, run)
        assert "no space left (0 MiB free)" in line
        with Store(disk, thorough=True) as held:
            assert f"{1:032x}" in {one.id for one in held.entries()}
            with pytest.raises(OutOfSpace, match="no space left"):
                fill(held)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_store_of_a_newer_harness_is_left_as_it_is(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(cache) as held:
        held.put(entry(1), "1 2")
    with sqlite3.connect(store.place(cache)) as rows:
        rows.execute(f"PRAGMA user_version = {store.VERSION + 1}")
    rows.close()
    before = {path.name: path.read_bytes() for path in store.place(cache).parent.iterdir()}
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    assert main(["history"]) == 129
    (line,) = keeping.enter(a_run(tmp_path / "run"), run_of({"one": Outcome.PASS}), cache)

    said = capsys.readouterr().err
    assert f"its schema is {store.VERSION + 1}, and this harness reads up to {store.VERSION}: a newer harness" in said
    assert "HARNESS_CACHE=DIR" in said
    assert "a newer harness wrote it" in line
    assert {path.name: path.read_bytes() for path in store.place(cache).parent.iterdir()} == before


def damaged(path: Path, how: str) -> None:
    """Put something in the place of a store."""
    content = path.read_bytes()
    if how == "random":
        path.write_bytes(bytes((at * 7919 + 13) % 256 for at in range(5000)))
    elif how == "short":
        path.write_bytes(content[:50])
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "torn":
        path.write_bytes(content[:8192] + bytes(len(content) - 8192))
    elif how in ("another program's", "a stranger's", "with a trigger"):
        if how != "with a trigger":
            path.unlink()
        with sqlite3.connect(path) as rows:
            rows.execute("CREATE TABLE bookmarks (place TEXT)")
            if how == "another program's":
                rows.execute("PRAGMA application_id = 77")
            elif how == "with a trigger":
                rows.execute("DROP TABLE bookmarks")
                rows.execute("CREATE TRIGGER evil AFTER INSERT ON runs BEGIN DELETE FROM results; END")
        rows.close()


@pytest.mark.parametrize(
    "how", ["random", "short", "truncated", "torn", "another program's", "a stranger's", "with a trigger"]
)
def test_what_is_no_store_is_moved_aside_and_made_again(how: str, cache: Path, said: Said) -> None:
    run = a_run(cache / "runs" / "20260101-000000")
    with Store(cache) as held:
        for number in range(200):
            held.put(entry(number), "1 2")
    damaged(store.place(cache), how)
    content = store.place(cache).read_bytes()
    # At the end of a run, nobody waits for that, and nothing is moved.
    if how not in ("truncated", "torn"):
        (line,) = keeping.enter(run, run_of({"one": Outcome.PASS}), cache)
        assert "harness history enters the run" in line

    with keeping.opened(cache, said) as held:
        found = held.entries()

    assert [Path(one.folder).name for one in found] == ["20260101-000000"]
    (aside,) = store.place(cache).parent.glob("*.damaged-*[0-9]")
    assert aside.read_bytes()[100:] == content[100:]
    assert f"it is kept as {aside.name}" in said.lines[0]


def test_a_step_that_was_released_is_what_it_was() -> None:
    """Every store out there was made by it, and would be taken for a stranger's."""
    told = [hashlib.sha256("\n".join(step).encode()).hexdigest()[:16] for step in store._MIGRATIONS]

    assert told == ["08d8ebd9a218b4aa", "13518df1af0a386d"]


def test_an_empty_file_is_a_store_to_begin_with(cache: Path) -> None:
    store.place(cache).parent.mkdir(parents=True)
    store.place(cache).touch()

    assert ids(cache) == []


def test_what_is_no_folder_is_told(cache: Path) -> None:
    cache.mkdir()
    store.place(cache).parent.touch()

    with pytest.raises(UsageError, match="history: is not a folder"):
        Store(cache)


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file_is_told_and_not_waited_for(what: str, cache: Path) -> None:
    store.place(cache).parent.mkdir(parents=True)
    (os.mkfifo if what == "pipe" else os.mkdir)(store.place(cache))

    with pytest.raises(UsageError, match=r"runs\.sqlite3: is"):
        Store(cache)


@given(st.data())
@fuzz()
def test_a_store_with_any_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """No exception of SQLite's comes out, and no value of another type."""
    cache = tmp_path_factory.mktemp("cache")
    with Store(cache) as held:
        for number in range(20):
            held.put(entry(number), "1 2")
    content = bytearray(store.place(cache).read_bytes())
    for _ in range(data.draw(st.integers(1, 40))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    store.place(cache).write_bytes(content)

    try:
        with Store(cache, thorough=True) as held:
            for one in held.entries():
                assert isinstance(one.job, str)
                assert isinstance(one.began_s, float)
            held.put(entry(99), "1 2")
    except HarnessError:
        pass


# --- what is taken from runs


def test_what_a_run_tells_is_entered_whoever_wrote_it(cache: Path, tmp_path: Path) -> None:
    finding = Finding("pairing", f"a page {HOSTILE}", HOSTILE)
    bad = ScenarioResult("bad", Outcome.FAIL, (finding,), {"callbacks": 1 << 90, "nothing": 0}, 2.0)
    verdict = run_of(
        [bad, ScenarioResult("good.3", Outcome.PASS)],
        source=HOSTILE,
        patches=(HOSTILE,),
        error=HOSTILE,
        skipped={"other": HOSTILE},
    )
    run = a_run(tmp_path / "run", told={"id": "not an id", "began_s": True, "folder": [HOSTILE]})

    assert list(keeping.enter(run, verdict, cache)) == []
    with Store(cache) as held:
        (found,) = held.entries()

    assert [(one.name, one.verdict) for one in found.results] == [
        ("bad", "fail"),
        ("good.3", "pass"),
        ("other", "skip"),
    ]
    assert found.results[0].exercised == {"callbacks": 1 << 90}
    assert found.results[1].scenario == "good"
    texts = [found.source, found.job, found.error, *found.patches, found.results[0].summary, found.results[2].reason]
    assert not any(set(text) & set("\x1b\x07\u202e\x00\ud800\n") for text in texts)
    assert 0 < found.began_s <= time.time()


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"began_s": 1e999, "id": 7}', '{"folder": "\\ud800"}', ""])
def test_a_run_json_that_tells_nothing_costs_nothing(text: str, cache: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    (run / begun.NAME).write_text(text)

    assert list(keeping.enter(run, run_of({"one": Outcome.PASS}), cache)) == []


def test_a_run_is_known_again_wherever_it_lies(cache: Path, tmp_path: Path) -> None:
    """By what run.json calls it, else by its evidence; it is the same when it was judged again."""
    for name, told in (("new", {"id": "ab" * 16}), ("old", {})):
        run = a_run(cache / "runs" / name, told=told)
        shutil.copytree(run, tmp_path / name)
        first = record.read(run)
        rewrite(run_of({"one": Outcome.PASS}), tmp_path / name)
        again = record.read(tmp_path / name)
        assert (first.id, first.verdict, again.verdict) == (again.id, "fail", "pass")


def test_what_was_missed_or_has_changed_is_taken_in(cache: Path, said: Said) -> None:
    first = a_run(cache / "runs" / "20260101-000000")
    a_run(cache / "runs" / "20260102-000000")
    with keeping.opened(cache, said) as held:
        assert [one.verdict for one in held.entries()] == ["fail", "fail"]
        assert keeping.take_in(held, cache) == 0
    time.sleep(0.01)
    rewrite(run_of({"one": Outcome.PASS, "two": Outcome.PASS}), first)
    with keeping.opened(cache, said) as held:
        assert [one.verdict for one in held.entries()] == ["pass", "fail"]
    shutil.rmtree(first)
    with keeping.opened(cache, said, again=True) as held:
        assert [one.verdict for one in held.entries()] == ["pass", "fail"], "a run that is gone lives on"


def test_a_copy_in_the_cache_is_not_a_second_run(cache: Path) -> None:
    run = a_run(cache / "runs" / "20260101-000000", told={"id": "ab" * 16})
    shutil.copytree(run, cache / "runs" / "20260101-000000-copy")
    for _ in range(2):
        with keeping.opened(cache) as held:
            assert [one.folder for one in held.entries()] == [str(run)]
            assert [reason for reason in held.left_out().values() if reason] == []


def test_what_cannot_be_read_is_named_and_left_out(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(cache / "runs" / "20260101-000000")
    rotten = (run / "verdict.json").read_text().replace('"fail"', '"pass"')
    (run / "verdict.json").write_text(rotten)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    assert main(["history"]) == 0
    said = capsys.readouterr().out
    assert "left out     " in said
    assert "its SHA-256 is not the one in manifest.json" in said

    shutil.rmtree(run)
    assert main(["history"]) == 0
    assert "left out" not in capsys.readouterr().out


def test_a_run_elsewhere_is_entered_when_it_is_named(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path / "run")
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    assert main(["history", str(tmp_path)]) == 129
    assert "not a run directory" in capsys.readouterr().err
    assert main(["history", str(run)]) == 0
    assert ": 1 run of 1 job: 1 fail" in capsys.readouterr().out


def test_no_fault_of_ours_costs_a_verdict(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw")

    monkeypatch.setattr(record, "of", broken)

    (line,) = keeping.enter(tmp_path, run_of({}), cache)
    assert "nobody foresaw" in line


@pytest.mark.parametrize(
    ("verdict", "job"),
    [
        (run_of({}), "--source debian:6.12 --patch mayfail --contract mayfail --accel tcg"),
        (run_of({}, source="git:.@HEAD", patches=("none",)), "--source git:/home/u@HEAD --patch none"),
        (run_of({}, source="linux", patches=("my patches/",), configs=("base", "lockdep", "mine.config")),
         "--source /home/u/linux --patch '/home/u/my patches' --config lockdep --config /home/u/mine.config"),
        (run_of({}, source="built:obj", patches=(), configs=()), "--built /home/u/obj"),
        (run_of({}, configs=("my.config", "guest", "kasan")),
         "--source debian:6.12 --patch mayfail --base-config /home/u/my.config --config kasan"),
    ],
)  # fmt: skip
def test_a_job_is_the_options_that_test_it_again(verdict: RunVerdict, job: str) -> None:
    told = record.job(verdict, "/home/u")

    assert told.startswith(job)
    assert told.endswith(" --accel tcg")


def test_when_a_run_began_is_told_by_itself_else_by_its_name(tmp_path: Path) -> None:
    verdict = run_of({"one": Outcome.PASS}, kernel=KernelFacts("6.12", "ab", cached=True))

    assert record.of(a_run(tmp_path / "a", verdict, {"began_s": 123.5}), verdict).began_s == 123.5
    named = record.of(a_run(tmp_path / "20260203-040506-1", verdict), verdict).began_s
    assert time.strftime("%Y%m%d-%H%M%S", time.localtime(named)) == "20260203-040506"
