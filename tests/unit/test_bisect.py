# SPDX-License-Identifier: GPL-2.0-only
"""harness bisect with a command, on toy histories made by git: from the command line to the files that it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import cli
from harness.bisect import report
from harness.host.clock import Deadline
from tests.unit.conftest import git

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Toy:
    """A repository, and its commits by subject."""

    folder: Path
    commits: dict[str, str]

    @property
    def good(self) -> str:
        """The first commit."""
        return self.commits["0"]


@dataclass(frozen=True)
class Ended:
    status: int
    document: dict[str, Any]
    err: str
    out: Path

    def steps(self, verdict: str) -> list[str]:
        """The titles of the states with a verdict."""
        return [step["title"] for step in self.document["steps"] if step["verdict"] == verdict]


def history(folder: Path, count: int, parents: dict[int, Sequence[int]] | None = None) -> Toy:
    """Commits that are called by their number; each adds a file of its name, and those above 9 one in deep/."""
    folder.mkdir()
    git(folder, "init", "-q")
    stream = []
    for number in range(count):
        stream.append(
            f"commit refs/heads/main\nmark :{number + 1}\ncommitter A <a@example.org> {1_600_000_000 + number} +0000\n"
        )
        stream.append(f"data {len(str(number))}\n{number}\n")
        before = (parents or {}).get(number, [number - 1] if number else [])
        stream += [f"{'merge' if place else 'from'} :{parent + 1}\n" for place, parent in enumerate(before)]
        # The files of a merge's other parents come with it.
        held = _held(number, parents or {})
        stream += [f"M 644 inline {_file(each)}\ndata 1\nx\n" for each in held]
    git_in(folder, "".join(stream))
    git(folder, "reset", "-q", "--hard", "main")
    lines = git(folder, "log", "--format=%s %H").splitlines()
    return Toy(folder, dict(line.split() for line in lines))


def git_in(folder: Path, stream: str) -> None:
    subprocess.run(["git", "fast-import", "--quiet"], cwd=folder, input=stream, text=True, check=True)


def _file(number: int) -> str:
    return f"deep/{number}" if number > 9 else str(number)


def _held(number: int, parents: dict[int, Sequence[int]]) -> list[int]:
    found, pending = set(), [number]
    while pending:
        each = pending.pop()
        if each not in found:
            found.add(each)
            pending += parents.get(each, [each - 1] if each else [])
    return sorted(found)


@pytest.fixture
def bisect(tmp_path: Path, monkeypatch, capsys) -> Callable[..., Ended]:
    """The command line, with a cache of its own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    def call(toy: Toy, test: str, *words: str) -> Ended:
        out = tmp_path / "out"
        tree = () if "--tree" in words else ("--tree", str(toy.folder), "--bad", "main")
        good = () if "--good" in words else ("--good", toy.good)
        status = cli.main(["bisect", "--json", "--out", str(out), *tree, *good, "--test", test, *words])
        said = capsys.readouterr()
        return Ended(status, json.loads(said.out) if said.out else {}, said.err, out)

    return call


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}


def test_the_culprit_is_found_and_nothing_of_the_users_is_touched(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 16)
    (toy.folder / "2").write_text("mine, stashed")
    git(toy.folder, "stash")
    # A bisection of the user's own that is under way, for another question.
    git(toy.folder, "bisect", "start", "main", toy.commits["3"])
    (toy.folder / "3").write_text("mine, not staged")
    (toy.folder / "4").write_text("mine, staged")
    git(toy.folder, "add", "4")
    (toy.folder / "mine").write_text("untracked")
    assert (toy.folder / ".git" / "BISECT_START").exists()
    assert (toy.folder / ".git" / "logs" / "refs" / "stash").exists()
    before = everything(toy.folder)

    ended = bisect(toy, "test ! -e deep/11")

    assert ended.status == 0, ended.err
    assert ended.document["first_bad"] == toy.commits["11"]
    assert ended.document["candidates"] == [toy.commits["11"]]
    assert 0.99 < ended.document["confidence"] < 1
    assert ended.document["finding"]["summary"] == "'test ! -e deep/11' fails"
    assert ended.document["verified"] is True
    assert "gone on the bad end without this commit" in ended.document["proof"]
    assert {step["verdict"] for step in ended.document["steps"]} == {"good", "bad"}
    assert everything(toy.folder) == before
    assert f"{toy.commits['11']} 11 is the first bad commit" in ended.err.splitlines()[-1]


def test_the_page_tells_whose_change_it_is_and_what_was_seen_before_it_and_with_it(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 16)

    ended = bisect(toy, "test ! -e deep/11")

    page = (ended.out / "bisect.html").read_text()
    assert "First bad commit: 11" in page
    assert "by A &lt;a@example.org&gt;" in page
    assert "deep/11 | 1 +" in page
    assert re.search(r"Before it: good: none of \d+ runs fails\.", page)
    assert re.search(r"With it: bad: \d of \d runs fail\.", page)
    assert page.count("<circle") == len(ended.document["steps"])
    mail = (ended.out / "mail.txt").read_text()
    assert f'Fixes: {toy.commits["11"][:12]} ("11")' in mail
    assert "To: A <a@example.org>" in mail
    assert f"good: {toy.good}" in mail


@pytest.mark.parametrize("culprit", [4, 6, 7])
def test_a_culprit_on_either_side_of_a_merge_is_found(tmp_path: Path, bisect, culprit: int) -> None:
    """2 → 3 → 4 and 2 → 5 → 6 meet in 7."""
    toy = history(tmp_path / "toy", 10, {5: [2], 7: [4, 6]})

    ended = bisect(toy, f"test ! -e {culprit}")

    assert ended.document["first_bad"] == toy.commits[str(culprit)], ended.err


def test_what_cannot_be_tested_is_skipped_and_a_range_is_an_answer(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 12)

    ended = bisect(toy, "test -e 4 && ! test -e 7 && exit 125; test ! -e 6")

    assert ended.status == 0
    assert ended.document["first_bad"] is None
    assert ended.document["candidates"] == [toy.commits[str(number)] for number in (4, 5, 6, 7)]
    assert set(ended.document["narrow"]) <= {toy.commits[str(number)] for number in (4, 5, 6)}
    assert set(ended.document["narrow"].values()) == {"the command ended with 125"}
    assert ended.steps("skip")
    assert "one of 4 commits" in ended.err.splitlines()[-1]
    told = (ended.out / "bisect.log").read_text()
    assert told.count("git bisect skip") == len(ended.steps("skip"))
    assert told.count("# possible first bad commit") == 4


def test_a_rare_failure_is_searched_with_as_many_runs_as_it_takes(tmp_path: Path, bisect) -> None:
    """It comes in one of four runs. One look at each commit would blame another one."""
    toy = history(tmp_path / "toy", 10)
    count = tmp_path / "count"
    count.write_text("0")
    test = f"n=$(cat {count}); echo $((n + 1)) >{count}; test ! -e 6 || test $((n % 4)) -ne 3"

    ended = bisect(toy, test)

    assert ended.document["first_bad"] == toy.commits["6"], ended.err
    assert ended.document["rate"] == pytest.approx(1 / 4, abs=0.1)
    good = next(step for step in ended.document["steps"] if step["title"] == "5")
    assert good["verdict"] == "good"
    assert good["runs"] > 12


def test_another_failure_is_never_bad(tmp_path: Path, bisect) -> None:
    """4 fails in another way, and so does all up to 8, where the failure that is searched comes in."""
    toy = history(tmp_path / "toy", 14)
    test = "test ! -e 8 || { echo the one; exit 1; }; ! test -e 6 || { echo another; exit 1; }"

    ended = bisect(toy, test, "--match", "the one")

    assert ended.document["candidates"] == [toy.commits[str(number)] for number in (6, 7, 8)], ended.err
    assert all("nothing that matches" in why for why in ended.document["narrow"].values())


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("true", "the bad end shows no failure in 30 runs"),
        ("false", "the good end"),
        ("exit 125", "the bad end shows no failure"),
        ("test -e 5 || exit 125; false", "is not conclusive: the command ended with 125"),
    ],
)
def test_without_two_ends_that_differ_there_is_no_answer(tmp_path: Path, bisect, test: str, reason: str) -> None:
    toy = history(tmp_path / "toy", 8)

    ended = bisect(toy, test, "--repeat", "30")

    assert ended.status == 1
    assert reason in ended.document["reason"]
    assert ended.document["first_bad"] is None
    assert ended.document["candidates"] == []
    assert not (ended.out / "mail.txt").exists()


def test_a_failure_that_is_older_than_where_the_ends_parted_is_told_as_such(tmp_path: Path, bisect) -> None:
    """The good end is a branch on which 2 was repaired."""
    toy = history(tmp_path / "toy", 8)
    git(toy.folder, "checkout", "-q", "-b", "fixed", toy.commits["4"])
    git(toy.folder, "rm", "-q", "2")
    git(toy.folder, "commit", "-qm", "repaired")

    ended = bisect(toy, "test ! -e 2", "--good", "fixed")

    assert ended.status == 1
    assert "where the two ends have parted" in ended.document["reason"]
    assert toy.commits["4"] in ended.document["reason"]


def test_only_commits_that_touch_the_paths_are_candidates(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 16)

    ended = bisect(toy, "test ! -e deep/12", "--", "deep/")

    assert ended.document["first_bad"] == toy.commits["12"]
    assert "6 commits between the two ends" in ended.err
    assert "git bisect start '--' 'deep/'" in (ended.out / "bisect.log").read_text()


def test_the_log_tells_the_oldest_bad_commit_last() -> None:
    """Git forgets the bad commits before the last one that it is told, and commits side by side end in any order."""
    verdicts = {"c9": "bad", "c0": "good", "c3": "bad", "c2": "good", "c7": "bad", "c4": "bad", "c1": "skip"}
    history = SimpleNamespace(
        paths=(), good="c0", bad="c9", commit=lambda name: SimpleNamespace(subject=name),
        space=SimpleNamespace(states=[f"c{number}" for number in range(1, 10)]),
    )  # fmt: skip
    steps = [SimpleNamespace(name=name, verdict=verdict) for name, verdict in verdicts.items()]
    answer = SimpleNamespace(steps=steps, first_bad="c3", candidates=["c3"])

    told = report.log(cast("Any", answer), cast("Any", history)).splitlines()

    assert [line.split()[2:] for line in told if line.startswith("git bisect ")][1:] == [
        ["bad", "c9"], ["good", "c0"], ["good", "c2"], ["skip", "c1"], ["bad", "c7"], ["bad", "c4"], ["bad", "c3"],
    ]  # fmt: skip


def test_stock_git_replays_the_log_and_comes_to_the_same_commit(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 20)
    ended = bisect(toy, "! test -e deep/13")

    said = git(toy.folder, "bisect", "replay", str(ended.out / "bisect.log"))

    assert f"{toy.commits['13']} is the first bad commit" in said


@pytest.mark.parametrize("jobs", ["1", "8"])
def test_the_answers_outlive_kill_9(tmp_path: Path, jobs: str) -> None:
    toy = history(tmp_path / "toy", 16)
    runs, stop = tmp_path / "runs", tmp_path / "stop"
    stop.touch()
    # The fourth state waits to be killed with its harness.
    wait = f"test $(sort -u {runs} | wc -l) -lt 4 || ! test -e {stop} || sleep 100"
    test = f"echo $HARNESS_TARGET >>{runs}; {wait}; test ! -e deep/11"
    words = [
        "bisect",
        "--tree",
        str(toy.folder),
        "--good",
        toy.good,
        "--bad",
        "main",
        "--json",
        "--jobs",
        jobs,
        "--test",
        test,
    ]
    argv = [sys.executable, "-m", "harness.cli", *words]
    env = os.environ | {"HARNESS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    limit = Deadline(60)
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        while not runs.exists() or len(set(runs.read_text().split())) < 4:
            assert child.poll() is None
            assert not limit.expired
        child.send_signal(signal.SIGKILL)
    before = runs.read_text().splitlines()
    journal = next(tmp_path.glob("cache/bisect/*/journal"))
    answers = journal.read_text().rpartition("\n")[0].splitlines()
    failed = {entry["state"] for entry in map(json.loads, answers) if entry.get("fails")}
    stop.unlink()

    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["first_bad"] == toy.commits["11"]
    assert "going on with" in done.stderr
    after = runs.read_text().splitlines()[len(before) :]
    # No answer is lost. What was cut short is done again; of a failure there is nothing more to ask.
    assert journal.read_text().splitlines()[: len(answers)] == answers
    assert toy.commits["15"] in failed
    assert not failed & set(after)
    if jobs == "1":
        assert after[0] == before[-1]

    again = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout
    assert len(runs.read_text().splitlines()) == len(before) + len(after)


def test_commits_side_by_side_come_to_the_same_answer_and_touch_nothing(tmp_path: Path, bisect, monkeypatch) -> None:
    """Each in a folder of its own. The first four of them wait for each other."""
    # What lies where the user is must not pass for a module of Python's.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'hijacked')!r}, 'w')")
    toy = history(tmp_path / "toy", 40)
    met = tmp_path / "met"
    met.mkdir()
    before = everything(toy.folder)
    # The ends have been tried when a third commit comes.
    wait = (
        f"touch {met}/$HARNESS_TARGET; n=$(ls {met} | wc -l); for i in $(seq 600); do "
        f"test $n -lt 3 -o $(ls {met} | wc -l) -ge 4 && break; sleep 0.1; done; test $i -lt 600 || exit 125"
    )

    ended = bisect(toy, f"{wait}; test ! -e deep/23", "--jobs", "8")

    assert ended.status == 0, ended.err
    assert ended.document["first_bad"] == toy.commits["23"]
    assert ended.document["verified"] is True
    assert re.search(r"commits side by side: on \d+ CPUs, \d at once would take \d+ \w+, one at a time \d", ended.err)
    assert everything(toy.folder) == before
    assert not (tmp_path / "hijacked").exists()
    assert f"{toy.commits['23']} is the first bad commit" in git(
        toy.folder, "bisect", "replay", str(ended.out / "bisect.log")
    )
    assert re.search(r"39 commits left; about \d steps, \d+ \w+ with the proof", ended.err)


def test_a_command_that_ends_as_if_killed_ends_the_commits_beside_it_too(tmp_path: Path, bisect) -> None:
    """It is the host that failed, not a commit; what was learnt before stays."""
    toy = history(tmp_path / "toy", 40)
    went = tmp_path / "went"
    test = f"test ! -e deep/23 && test -e 5 && exit 130; test -e deep/23 && test ! -e deep/38 && touch {went}"

    ended = bisect(toy, f"{test}; test ! -e deep/23", "--jobs", "8")

    assert ended.status == 128
    assert "the command ended with 130" in ended.err
    assert "first bad" not in ended.err


def test_a_command_that_ends_as_if_killed_ends_the_search_and_blames_nothing(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 8)

    ended = bisect(toy, "test -e 5 && exit 130; true")

    assert ended.status == 128
    assert "the command ended with 130" in ended.err


def test_what_authors_write_reaches_no_terminal_and_no_page(tmp_path: Path, bisect) -> None:
    toy = history(tmp_path / "toy", 4)
    git(toy.folder, "commit", "--allow-empty", "-qm", "\x1b]0;mine\x07<script>alert(1)</script>")
    (toy.folder / "bad").write_text("x")
    git(toy.folder, "add", "bad")
    git(toy.folder, "commit", "-qm", "\x1b[2J<b>bad</b>\u202e")

    ended = bisect(toy, "test ! -e bad")

    assert ended.document["first_bad"] == git(toy.folder, "rev-parse", "main")
    told = [ended.err, *((ended.out / name).read_text() for name in ("bisect.html", "bisect.log", "mail.txt"))]
    assert not any(letter in text for text in told for letter in "\x1b\x07\u202e")
    assert "<script>" not in told[1]
    assert "<b>bad" not in told[1]
    assert "Fixes: " in told[3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--good", "HEAD"], "--bad is missing"),
        ([], "name one of the three"),
        (["--tree", "."], "--good and --bad are missing"),
        (["--good", "a", "--bad", "b", "--series", "c"], "name one of the three"),
        (["--config-good", "base"], "--config-bad is missing"),
        (["--good", "main~99", "--bad", "main"], "--good main~99: "),
        (["--good", "main", "--bad", "main~1"], "is in the history of --good"),
        (["--good", "main", "--bad", "main"], "are the same commit"),
        (["--good", "main~2", "--bad", "main", "--", "nowhere"], "no commit between --good and --bad touches them"),
        (["--good", "main~2", "--bad", "main", "--match", "("], "is no regular expression"),
        (["--good", "main~2", "--bad", "main", "--confidence", "2"], "is not a probability"),
        (["--good", "main~2", "--bad", "main", "--test", "true", "memcg-eagain"], "takes the place of scenarios"),
        (["--good", "main~2", "--bad", "main", "--source", "debian:6.1"], "--tree names the source"),
        (["--good", "--upload-pack=x", "--bad", "main"], ""),
    ],
)
def test_what_makes_no_sense_is_usage(tmp_path: Path, monkeypatch, capsys, words: list[str], said: str) -> None:
    toy = history(tmp_path / "toy", 4)
    monkeypatch.chdir(toy.folder)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    assert cli.main(["bisect", *words]) == 129

    assert said in capsys.readouterr().err
