# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import meter, results, table
from benchmarks.__main__ import measure
from benchmarks.bench import Bench
from benchmarks.figure import AtLeast, AtMost, AtMostTimes, Faster, Figure, Row, catalogue
from benchmarks.figures import exploring
from benchmarks.repeated import repeated
from benchmarks.results import Result
from harness import oracles
from harness.host.progress import QUIET
from harness.kernel import config
from harness.model import event
from harness.model.errors import LaunchError, MachineError
from tests.unit.recordings import Log, recording

ROOT = Path(__file__).resolve().parents[2]

# What the project promises: figure, our quantity, the peer's, the target.
PROMISED = {
    ("fresh-machine", "clone_s", "virtme_ng_s", Faster(25)),
    ("fresh-machine", "boot_s", "virtme_ng_s", Faster(5)),
    ("cold", "cold_s", "virtme_s", Faster(3.5)),
    ("cold", "phase_build_s", "virtme_build_s", AtMost(240)),
    ("source-line", "run_s", "", AtMost(30)),
    ("header-line", "run_s", "", AtMost(40)),
    ("unchanged", "run_s", "", AtMost(15)),
    ("idle-clone", "clone_pss_mib", "boot_pss_mib", AtMost(64)),
    ("recording-cost", "recorded_s", "unrecorded_s", AtMostTimes(1.05)),
    ("judging", "many_s", "", AtMost(1.5)),
    ("judging", "many_event_ns", "few_event_ns", AtMostTimes(1.2)),
    ("judging", "many_peak_rss_mib", "few_peak_rss_mib", AtMostTimes(1.25)),
    ("console", "oops_s", "loop_s", AtMostTimes(12)),
    ("console", "warn_s", "loop_s", AtMostTimes(12)),
    ("console", "lockdep_s", "loop_s", AtMostTimes(12)),
    ("console", "oops_mb_ms", "few_mb_ms", AtMostTimes(1.2)),
    ("console", "oops_peak_rss_mib", "few_peak_rss_mib", AtMostTimes(1.1)),
    ("console", "quiet_s", "", AtMost(1)),
    ("hundred-clones", "process_growth", "", AtMost(0)),
    ("hundred-clones", "thread_growth", "", AtMost(0)),
    ("hundred-clones", "descriptor_growth", "", AtMost(0)),
    ("hundred-clones", "file_growth", "", AtMost(0)),
    ("hundred-clones", "memory_growth_mib", "", AtMost(1)),
    ("exploring", "found_mutants", "", AtLeast(6)),
    ("patch-coverage", "watched_s", "unwatched_s", AtMostTimes(1.1)),
    ("start-up", "help_s", "", AtMost(0.25)),
    ("start-up", "list_s", "", AtMost(0.25)),
    ("bisect", "bisect_s", "plain_s", Faster(2)),
    ("wrong-kernels", "waits_s", "good_s", AtMostTimes(3)),
    ("wrong-kernels", "dies_s", "good_s", AtMostTimes(3)),
    ("wrong-kernels", "waits_first_s", "", AtMost(45)),
    ("wrong-kernels", "line_first_s", "", AtMost(8)),
}
PLACE = {"date": "2026-01-01", "commit": "0123456789ab"}


def figure(*rows: Row, name: str = "toy", measuring=None) -> Figure:
    return Figure(name, "A toy.", rows, 5, measuring or (lambda _: contextlib.nullcontext([])))


def lines(rows, samples, error="") -> list[str]:
    """The lines of the first table for one figure with these samples."""
    text = table.render({"toy": figure(*rows)}, {"toy": Result(samples, 3, PLACE, error)})
    return [line for line in text.split("## What it costs")[0].splitlines() if line.startswith("| ")][1:]


# --- what is measured ---------------------------------------------------------------------------------------------


def test_every_promise_is_a_row_and_every_target_was_promised() -> None:
    """A target that is loosened, or a figure that is dropped, is seen here."""
    rows = {
        (entry.name, row.ours, row.peer, row.target)
        for entry in catalogue().values()
        for row in entry.rows
        if row.target is not None
    }
    assert rows == PROMISED


def test_every_file_is_a_figure_with_at_least_five_rounds() -> None:
    """The folder lists itself; --rounds asks for a median over fewer rounds. A count is no median."""
    files = {path.stem.replace("_", "-") for path in (ROOT / "benchmarks/figures").glob("[!_]*.py")}
    assert set(catalogue()) == files
    assert {name for name, entry in catalogue().items() if entry.rounds < 5} == {"exploring", "bisect"}


def test_the_mutants_to_be_explored_exist() -> None:
    assert all((exploring.MUTANTS_FOLDER / f"{name}.patch").is_file() for name in exploring.MUTANTS)


def test_documents_and_makefile_name_what_exists() -> None:
    """README mentions make bench, the Makefile has it, and the figures that README names exist."""
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "\nbench: setup\n\t@.venv/bin/python -m benchmarks $(ARGS)\n" in makefile
    named = readme.partition('make bench ARGS="')[2].partition('"')[0]
    assert named
    assert {word for word in named.split() if word[0].isalpha()} <= set(catalogue())
    assert "benchmarks/RESULTS.md" in readme


def test_the_table_is_what_the_results_say() -> None:
    """RESULTS.md is rendered from results.json and never edited."""
    known = results.read(ROOT / "benchmarks/results.json")
    assert set(known) <= set(catalogue())
    assert (ROOT / "benchmarks/RESULTS.md").read_text() == table.render(catalogue(), known)


@pytest.mark.parametrize("name", ["virtme", "microvm"])
def test_the_fragments_are_configurations(name: str) -> None:
    """The kernels that only benchmarks need ask for options in the form of every fragment."""
    found = config.load([str(ROOT / f"benchmarks/{name}.config")])[-1]
    assert config.requests(found, "6.12")


# --- the table ----------------------------------------------------------------------------------------------------


def test_a_row_shows_median_spread_ratio_and_verdict() -> None:
    (line,) = lines(
        [Row("clone", "ours_s", Faster(25), "virtme_ng_s")], {"ours_s": [0.1, 0.3, 0.2], "virtme_ng_s": [9, 10, 11]}
    )
    assert line == ("| clone | ≥ 25 × faster | 0.2 (0.1–0.3) s | virtme ng: 10 (9–11) s | 50 × | reached | 3 | [1] |")


@pytest.mark.parametrize(
    ("target", "ours", "reached"),
    [
        (Faster(5), 2.0, True), (Faster(5), 2.1, False),
        (AtLeast(6), 6.0, True), (AtLeast(6), 5.0, False),
        (AtMost(30), 30.0, True), (AtMost(30), 30.1, False),
        (AtMostTimes(1.05), 10.5, True), (AtMostTimes(1.05), 10.6, False),
    ],
)  # fmt: skip
def test_a_target_is_reached_or_not(target, ours: float, reached: bool) -> None:
    (line,) = lines([Row("x", "ours_s", target, "peer_s")], {"ours_s": [ours], "peer_s": [10.0]})
    assert ("| reached |" in line, "**not reached**" in line) == (reached, not reached)


def test_a_share_of_the_peer_is_shown_as_that_share() -> None:
    (line,) = lines([Row("x", "ours_s", AtMostTimes(1.05), "peer_s")], {"ours_s": [1.02], "peer_s": [1.0]})
    assert "| 1.02 × | reached |" in line


def test_what_could_not_be_measured_says_why_and_is_no_success() -> None:
    """Neither a missing quantity nor an error may look like a target that was reached."""
    row = Row("x", "ours_s", AtMost(1), "peer_s")
    (failed,) = lines([row], {}, "no QEMU | here")
    (half,) = lines([row], {"ours_s": [0.1]})
    assert "not measured: no QEMU ¦ here" in failed
    assert "not measured" in half
    assert "reached" not in failed + half
    assert "not measured" in table.render({"toy": figure(row)}, {})


def test_a_ratio_without_a_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a peer"):
        Row("x", "ours_s", Faster(2))


def test_costs_are_what_no_row_shows() -> None:
    text = table.render(
        {"toy": figure(Row("x", "ours_s"))}, {"toy": Result({"ours_s": [1], "ours_peak_rss_mib": [120.5]}, 1, PLACE)}
    )
    assert "| toy | ours peak rss | 120 MiB | 120–120 |" in text.split("## What it costs")[1]
    assert "| toy | ours |" not in text


def test_measuring_some_again_leaves_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first = {"a": Result({"x_s": [1.0]}, 1, PLACE), "b": Result({"y_s": [2.0]}, 1, PLACE)}
    results.write(path, first)
    results.write(path, results.read(path) | {"b": Result({"y_s": [3.0]}, 2, PLACE)})
    assert results.read(path)["a"] == first["a"]
    assert results.read(path)["b"].samples == {"y_s": [3.0]}


def test_places_are_listed_once_each() -> None:
    entries = {name: Result({"ours_s": [1.0]}, 1, place) for name, place in
               (("a", PLACE), ("b", {"date": "2026-02-02"}), ("c", PLACE))}  # fmt: skip
    text = table.render({name: figure(Row(name, "ours_s"), name=name) for name in entries}, entries)
    assert [line[-5:] for line in text.splitlines() if line[:4] in ("| a ", "| b ", "| c ")] == [
        "[1] |", "[2] |", "[1] |",
    ]  # fmt: skip
    assert text.endswith("1. date 2026-01-01; commit 0123456789ab\n2. date 2026-02-02\n")


# --- measuring ----------------------------------------------------------------------------------------------------


def test_sides_take_turns_and_every_second_round_goes_backwards() -> None:
    turns: list[str] = []

    def side(name: str):
        turns.append(name)
        return {f"{name}_s": float(len(turns))}

    toy = figure(measuring=lambda _: contextlib.nullcontext([lambda: side("ours"), lambda: side("peer")]))
    done = measure(toy, cast(Bench, SimpleNamespace(progress=QUIET)), 3, PLACE)
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert done.samples == {"ours_s": [1.0, 4.0, 5.0], "peer_s": [2.0, 3.0, 6.0]}
    assert done.rounds == 3


def test_a_command_is_metered_with_all_that_it_waited_for(tmp_path: Path) -> None:
    """A grandchild's memory, bytes and status are in the figure; its output is kept."""
    program = f"data = bytearray(b'x') * (200 << 20); open({str(tmp_path / 'f')!r}, 'wb').write(data[: 8 << 20])"
    script = '"$1" -c "$2" && echo out && echo err >&2; exit 3'
    cost = meter.metered(["sh", "-c", script, "sh", sys.executable, program], timeout_s=60)
    assert (cost.status, cost.stdout, cost.stderr) == (3, "out\n", "err\n")
    assert 200 < cost.peak_rss_mib < 400
    assert cost.cpu_s > 0
    assert cost.wall_s > 0


def test_what_we_have_in_memory_is_not_the_commands() -> None:
    """Linux would count it: a child begins as a copy of its parent."""
    ours = bytearray(b"x") * (300 << 20)
    assert meter.metered(["true"], timeout_s=60).peak_rss_mib < 50
    assert len(ours) == 300 << 20


def test_a_command_that_does_not_end_is_an_error_and_gone() -> None:
    with pytest.raises(LaunchError, match=r"not done after 1 s"):
        meter.metered(["sleep", "60"], timeout_s=1)
    assert not meter.children(os.getpid())


def test_a_command_that_is_missing_is_an_error() -> None:
    with pytest.raises(LaunchError, match="no-such-program"):
        meter.metered(["no-such-program"], timeout_s=60)


def test_children_and_memory_are_read_from_proc() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as child:
        try:
            assert child.pid in meter.children(os.getpid())
            assert 0 < meter.pss_mib(child.pid) < 64
        finally:
            os.killpg(child.pid, 9)
    assert meter.rss_mib(os.getpid(), peak=True) >= meter.rss_mib(os.getpid()) > 1


def test_a_file_with_two_names_occupies_its_place_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    once = meter.disk_mib(tmp_path)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert meter.disk_mib(tmp_path) == pytest.approx(once, abs=0.01)


# --- the long log -------------------------------------------------------------------------------------------------


def written(log: Log) -> bytes:
    """A log as the module would have written it."""
    body = b"".join(event.RECORD.pack(*entry) for entry in log.events)
    return event.HEADER.pack(event.MAGIC, event.FORMAT, event.RECORD.size, 0, len(log.events), 0, 1 << 20) + body


def good() -> Log:
    log = Log()
    log.add(event.Kind.REGISTER)
    for _ in range(3):
        log.pair()
    log.add(event.Kind.UNREGISTER)
    return log


def judged(content: bytes) -> list[str]:
    log = Log()
    log.events = list(event.parse(content))
    return [finding.summary for finding in oracles.judge(recording(log))]


def test_a_repeated_log_is_one_that_a_guest_could_have_written() -> None:
    """As long as asked, in order, without a gap, and as good as the original log."""
    short = written(good())
    long = repeated(short, 1000)
    entries = sorted(event.parse(long), key=lambda entry: entry.seq)
    assert 1000 <= len(entries) < 1000 + len(event.parse(short))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(entry.kind == event.Kind.REGISTER for entry in entries) == 1
    assert entries[-1].kind == event.Kind.UNREGISTER
    assert judged(short) == judged(long) == []


def test_an_end_that_is_missing_from_a_repeated_log_is_found() -> None:
    """The timed judging really judges."""
    entries = list(event.parse(repeated(written(good()), 1000)))
    entries.remove(next(entry for entry in entries[500:] if entry.kind == event.Kind.END))
    log = Log()
    log.events = entries
    assert judged(written(log)) == ["a start whose invalidate_range_end never came"]


def test_a_log_without_a_callback_cannot_be_repeated() -> None:
    log = Log()
    log.add(event.Kind.REGISTER)
    with pytest.raises(MachineError, match="no callback"):
        repeated(written(log), 10)
