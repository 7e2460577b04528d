# SPDX-License-Identifier: GPL-2.0-only
"""A run that ends before its end loses nothing that was judged, and the rest of it ends in the verdict of the whole.

The guests are made up; what is written, judged and gone on with is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import pressures
from harness.cli import main
from harness.commands.judge import judge
from harness.guest import image
from harness.guest.boot import BootFailed
from harness.guest.machine import Pace
from harness.host import accelerator, workspace
from harness.host.accelerator import Choice
from harness.host.progress import QUIET
from harness.kernel import build
from harness.kernel.patches import PatchSeries
from harness.kernel.places import Places
from harness.model import begun, documents, scenario
from harness.model.contract import ContractFacts
from harness.model.errors import GuestLost, HarnessError, OutOfSpace, UsageError
from harness.model.postmortem import Hangs
from harness.model.recording import Recording
from harness.model.run import RunVerdict
from harness.model.verdict import Outcome
from harness.report import document, manifest
from harness.report import write as writing
from harness.run import order, pipeline, reached, resuming
from harness.run.pipeline import KernelRequest, RunRequest
from harness.variants import instruments
from tests.unit import fuzzing
from tests.unit.fuzzing import fuzz
from tests.unit.recordings import Log, complaint, recording
from tests.unit.runs import SCENARIO
from tests.unit.test_fuzz_documents import rotten

KEYS = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
# The second does not apply to the kernel.
NAMES = ("good", "silent", "bad-call", "bad-log")


class Killed(BaseException):
    """Nothing runs after it: kill -9."""


class World:
    """A host on which runs end. at: the step at which it happens; how: what happens then and from then on."""

    def __init__(self) -> None:
        self.at, self.how = 0, ""
        self.steps = 0
        self.driven: list[str] = []
        self.boots = True
        self.lost: set[str] = set()
        self.build_id, self.image = "ab" * 20, "one"
        self.contract = "mayfail"

    def step(self, *, writes: bool = False) -> None:
        """The world goes on by a step, or ends."""
        self.steps += 1
        if not self.how or self.steps < self.at:
            return
        if self.how == "kill":
            raise Killed
        if self.how == "full" and writes:
            raise OutOfSpace("no space left")

    def interrupt(self, _: object) -> None:
        """A result is told when Ctrl-C comes."""
        if self.how == "interrupt" and self.steps >= self.at:
            raise KeyboardInterrupt

    def better(self) -> None:
        """Nothing happens any more."""
        self.how, self.driven = "", []


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> World:
    # A user's history is no place for runs that never were.
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    return arranged(monkeypatch)


def arranged(monkeypatch: pytest.MonkeyPatch) -> World:
    """A host with kernels and guests that are made up."""
    world = World()
    real = workspace.write_atomic

    def write_atomic(path: Path, content: str | bytes) -> None:
        world.step(writes=True)
        real(path, content)
        world.step()

    for module in (workspace, manifest, writing):
        monkeypatch.setattr(module, "write_atomic", write_atomic)

    def drive(scenario: Any, machine: Any, *words: Any) -> Recording:
        world.step()
        place, events = machine.place, words[3]
        one = made(scenario)
        (place / "console.log").write_bytes(one.console)
        events.parent.mkdir(exist_ok=True)
        events.write_bytes(one.events.source)
        world.driven.append(scenario.name)
        if scenario.name in world.lost:
            raise GuestLost("the host was busy")
        world.step()
        return one

    class Lab:
        refused, came = "", "clone"

        def __init__(self, *_: object, instrument: Any, **__: object) -> None:
            self.kernel, self.cache, self.instrument, self.hangs = None, None, instrument, Hangs()

        @contextlib.contextmanager
        def machine(self, _: object, place: Path, __: object) -> Iterator[Any]:
            if not world.boots:
                (place / "console.log").write_bytes(b"Kernel panic - not syncing: x\n")
                world.driven.append(place.name)
                raise BootFailed("silent", "no word of init", "", 1.0)
            yield SimpleNamespace(place=place, ready_s=0.0, cloned=True)

        def pace(self, _: object) -> Pace:
            return Pace(1.0)

    def prepare(*_: object) -> pipeline.Prepared:
        recipe = SimpleNamespace(series=PatchSeries(), source=SimpleNamespace(commit="01ab mm: x"))
        kernel = SimpleNamespace(release="6.12.1", build_id=world.build_id, cached=True, recipe=recipe)
        contract = ContractFacts("auto", world.contract, "made up")
        return pipeline.Prepared(kernel, None, contract)  # type: ignore[arg-type]

    def keep_kernel(_: object, folder: Path, *__: object) -> None:
        (folder / "kernel").mkdir(exist_ok=True)
        (folder / "kernel" / "build-id").write_text(world.build_id + world.image)

    monkeypatch.setattr(pipeline, "drive", drive)
    monkeypatch.setattr(pipeline, "Lab", Lab)
    monkeypatch.setattr(pipeline, "prepare", prepare)
    monkeypatch.setattr(pipeline, "files", lambda *_: {})
    monkeypatch.setattr(pipeline, "missing", lambda one, *_: "no such option" if one.name == "silent" else "")
    monkeypatch.setattr(pipeline, "_keep_kernel", keep_kernel)
    # It is kept in the cache, of which there is none.
    monkeypatch.setattr(order, "remember", lambda *_: None)
    monkeypatch.setattr(accelerator, "choose", lambda *_: Choice("tcg", "made up"))
    monkeypatch.setattr(build, "inputs", lambda *_: "12")
    monkeypatch.setattr(image, "assemble", lambda *_: SimpleNamespace(key=world.image))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return world


def made(one: Any) -> Recording:
    """What a scenario of this name leaves."""
    log = Log()
    for _ in range(3):
        log.pair()
    console = complaint() if "call" in one.name else ["BUG: sleeping function called"] if "log" in one.name else []
    kept = recording(log, console, plan=one)
    return dataclasses.replace(kept, events=dataclasses.replace(kept.events, source=log.packed()))


def request(folder: Path, **changes: Any) -> RunRequest:
    """A run of everything, on one machine after the other."""
    scenarios = [found for name in NAMES for found in scenario.load(Path(f"{name}.yaml"), KEYS, SCENARIO)]
    fields: dict[str, Any] = {"kernel": KernelRequest(), "instrument": instruments.NOTIFIER_HOLD, "jobs": 1}
    return RunRequest(**fields | {"scenarios": scenarios, "out": folder} | changes)


def begin(world: World, folder: Path, **changes: Any) -> RunVerdict | None:
    """Run it; None when it did not come to its end."""
    return done(world, request(folder, **changes))


def go_on(world: World, folder: Path) -> RunVerdict | None:
    """Run the rest of it."""
    run = resuming.read(folder)
    if run.complete:
        return run.verdict
    return done(world, resuming.request(run, instruments.NOTIFIER_HOLD))


def done(world: World, asked: RunRequest) -> RunVerdict | None:
    try:
        return pipeline.run(asked, Path("/nowhere"), QUIET, world.interrupt)[0]
    except (Killed, KeyboardInterrupt, OutOfSpace):
        return None


def essence(verdict: RunVerdict | None) -> dict[str, Any]:
    """What a verdict says of the kernel, without the seconds."""
    assert verdict is not None
    told = verdict.document()
    # Of the last session.
    del told["machines"]
    for entry in (told, *told["scenarios"]):
        for name in ("seconds", "phases"):
            entry.pop(name, None)
    return told


KINDS = ("kill", "full", "interrupt")


@pytest.mark.parametrize("how", KINDS)
def test_whenever_a_run_ends_the_rest_of_it_ends_in_the_same_verdict(world: World, tmp_path: Path, how: str):
    """Before and after a file is written, and beside a guest: a fourth of these moments, or all when it is fuzzed."""
    expected = essence(begin(world, tmp_path / "whole"))
    assert [entry["verdict"] for entry in expected["scenarios"]] == ["pass", "fail", "fail"]
    steps = world.steps

    for at in range(1 + KINDS.index(how), steps + 1, 1 if os.environ.get(fuzzing.VARIABLE) else 4):
        folder = tmp_path / str(at)
        world.at, world.how, world.steps = at, how, 0
        begin(world, folder)
        recorded = {path.parent.name for path in folder.glob("*/record.json")}
        world.better()

        if (folder / begun.NAME).exists():
            assert essence(go_on(world, folder)) == expected, at
            # What ended beside an interrupt is not believed.
            assert how == "interrupt" or recorded.isdisjoint(world.driven), at
            assert essence(document.read(folder)) == expected
            assert resuming.read(folder).complete
        world.better()
        shutil.rmtree(folder, ignore_errors=True)


ENDS = st.tuples(st.sampled_from(KINDS), st.integers(1, 30))


@fuzz(10)
@given(st.sampled_from([0, 1, 2]), st.lists(ENDS, min_size=1, max_size=4), st.booleans())
def test_a_run_may_end_many_times(maxfail: int, ends: list[tuple[str, int]], judged: bool):
    """And be judged in between. Where it stops by itself, at a limit of findings, it stops as if nothing had been."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        world, folder = arranged(patch), Path(place) / "run"
        expected = essence(begin(world, Path(place) / "whole", maxfail=maxfail))
        world.how, world.at = ends[0]
        world.steps = 0
        verdict = begin(world, folder, maxfail=maxfail)
        for world.how, world.at in [*ends[1:], ("", 0)]:
            if verdict is not None or not (folder / begun.NAME).exists():
                break
            if judged:
                with contextlib.suppress(Killed, OutOfSpace):
                    judge(resuming.read(folder))
            world.steps = 0
            verdict = go_on(world, folder)

        assert verdict is None or verdict.error != "" or essence(verdict) == expected


def test_what_stopped_at_a_limit_of_findings_goes_on_without_it(world: World, tmp_path: Path):
    expected = essence(begin(world, tmp_path / "whole"))
    stopped = begin(world, tmp_path / "run", maxfail=1)
    assert stopped is not None
    assert (stopped.not_run, stopped.interrupted) == (("bad-log",), False)
    world.better()

    assert essence(go_on(world, tmp_path / "run")) == expected
    assert world.driven == ["bad-log"]


def test_the_rest_runs_in_the_order_in_which_the_run_began(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known by then of other runs changes nothing, and a limit of findings stops at the same one."""
    monkeypatch.setattr(order, "order", lambda scenarios, *_: list(reversed(scenarios)))
    whole = begin(world, tmp_path / "whole", sorts=True, maxfail=1)
    assert whole is not None
    first = next(name for name in reversed(NAMES) if name.startswith("bad"))
    assert [result.name for result in whole.scenarios if result.outcome is Outcome.FAIL] == [first]
    world.better()
    monkeypatch.setattr(order, "order", lambda scenarios, *_: list(scenarios))

    rest = go_on(world, tmp_path / "whole")

    assert rest is not None
    done_before = [result.name for result in whole.scenarios]
    assert world.driven == [name for name in reversed(NAMES) if name not in (*done_before, "silent")]


def test_what_the_host_kept_from_being_judged_is_run_again(world: World, tmp_path: Path):
    expected = essence(begin(world, tmp_path / "whole"))
    world.lost = {"bad-call"}
    first = begin(world, tmp_path / "run")
    assert first is not None
    assert [result.outcome for result in first.scenarios][1] is Outcome.ERROR
    world.better()
    world.lost = set()

    assert essence(go_on(world, tmp_path / "run")) == expected
    assert world.driven == ["bad-call"]


@pytest.mark.parametrize("at", [4, 7, 10, 13])
def test_a_kernel_that_does_not_boot_fails_once(world: World, tmp_path: Path, at: int):
    world.boots = False
    expected = essence(begin(world, tmp_path / "whole"))
    assert (len(expected["scenarios"]), len(expected["skipped"])) == (1, 3)
    world.at, world.how, world.steps = at, "kill", 0
    begin(world, tmp_path / "run")
    world.better()

    assert essence(go_on(world, tmp_path / "run")) == expected


def test_rounds_are_gone_on_with(world: World, tmp_path: Path):
    expected = essence(begin(world, tmp_path / "whole", repeat=3))
    assert expected["not_run"] == []
    world.at, world.how, world.steps = 20, "kill", 0
    begin(world, tmp_path / "run", repeat=3)
    world.better()
    judged = list((tmp_path / "run").glob("*/record.json"))

    assert essence(go_on(world, tmp_path / "run")) == expected
    # What was judged before is told as fully as the rest.
    recorded = list((tmp_path / "run").glob("*/record.json"))
    assert 0 < len(judged) < len(recorded)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count('class="charts"') == len(recorded)


def killed(world: World, folder: Path, at: int = 12) -> Path:
    """A run that was killed after two scenarios."""
    world.at, world.how, world.steps = at, "kill", 0
    begin(world, folder)
    world.better()
    assert not (folder / document.NAME).exists()
    return folder


def test_a_killed_run_is_judged_and_says_what_is_left(world: World, tmp_path: Path, capsys):
    """Again and again in the same words."""
    run = killed(world, tmp_path / "a run")
    for _ in range(2):
        assert main(["judge", str(run)]) == 128

        said = capsys.readouterr().err
        assert "killed; 2 scenarios were not judged" in said
        assert f"harness run --resume '{run}'" in said
        assert "unverified" in said
        verdict = document.read(run)
        assert [result.name for result in verdict.scenarios] == ["good"]
        assert verdict.interrupted
        assert verdict.not_run == ("bad-call", "bad-log")


def test_what_was_judged_since_an_earlier_verdict_counts(world: World, tmp_path: Path):
    """Killed, judged, gone on with, killed again: the old verdict is not the last word."""
    run = killed(world, tmp_path / "run")
    main(["judge", str(run)])
    world.at, world.how, world.steps = 11, "kill", 0
    assert go_on(world, run) is None
    world.better()

    assert [result.name for result in resuming.read(run).verdict.scenarios] == ["good", "bad-call"]
    assert main(["report", str(run)]) == 1
    assert document.read(run).not_run == ("bad-log",)


def test_a_recording_that_a_loss_of_power_cut_has_not_been_judged(world: World, tmp_path: Path, capsys):
    expected = essence(begin(world, tmp_path / "whole"))
    run = killed(world, tmp_path / "run", 18)
    (run / "events" / "bad-call.bin").write_bytes(b"")

    assert main(["judge", str(run)]) == 128

    assert "not judged   bad-call: " in capsys.readouterr().err
    assert "bad-call" in document.read(run).not_run
    assert essence(go_on(world, run)) == expected


class Counts(reached.Watch):
    """In the place of guests that count: each scenario came by once."""

    def begin(self, _: object) -> None:
        """Guests of this world are no machines."""

    def end(self, _: object, name: str, __: object) -> None:
        """What the guest has counted."""
        self._counts[name] = [1]
        self._uncounted.pop(name)


def test_what_was_counted_of_a_patch_outlives_a_killed_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is kept for the next run only is not worth a verdict."""

    def full(*_: object) -> None:
        raise OutOfSpace("no space left")

    found = Places({("mm/rmap.c", 7): (16,)})
    monkeypatch.setattr(reached, "watch", lambda *_: Counts(found, Path("reached.ko")))
    monkeypatch.setattr(order, "remember", full)
    run = killed(world, tmp_path / "run")
    world.driven.clear()

    verdict = go_on(world, run)

    assert verdict is not None
    assert world.driven == ["bad-call", "bad-log"]
    assert verdict.coverage is not None
    (line,) = verdict.coverage.lines
    assert line.ran == {"good": 1, "bad-call": 1, "bad-log": 1}
    assert document.read(run).document() == verdict.document()


def test_a_complete_run_says_so_and_ends_as_it_ended(world: World, tmp_path: Path, capsys):
    begin(world, tmp_path / "run")

    assert main(["run", "--resume", str(tmp_path / "run"), "--json"]) == 1

    told = capsys.readouterr()
    assert f"{tmp_path / 'run'}: is complete, nothing is left to run" in told.err
    assert json.loads(told.out) == document.read(tmp_path / "run").document()


def test_a_run_in_words(world: World, tmp_path: Path, capsys, monkeypatch):
    """From another folder, by a relative name."""
    run = killed(world, tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    assert main(["run", "--resume", "run"]) == 1

    told = capsys.readouterr().err
    assert f"{run}: debian:6.12 + mayfail; 1 scenarios were judged, 2 are left" in told
    assert "pass         good" not in told
    assert "1 pass, 2 fail" in told


@pytest.mark.parametrize(
    "words", [["memcg-eagain"], ["--source", "debian:6.12"], ["--patch", "none"], ["--accel", "auto"], ["-x"],
              ["--repeat", "1"], ["--out", "x"], ["--record"], ["--timeout", "10"], ["--compiler", "gcc"]]
)  # fmt: skip
def test_what_a_run_has_decided_is_not_said_again(tmp_path: Path, capsys, words: list[str]):
    """Not even in the same words."""
    assert main(["run", "--resume", str(tmp_path), *words]) == 129

    said = capsys.readouterr().err
    assert (
        f"harness: --resume {tmp_path} and {words[0] if words[0][0] == '-' else 'SCENARIO'}".replace(
            " -x", " --maxfail"
        )
        in said
    )
    assert f"try: harness run --resume {tmp_path}" in said


def test_another_kernel_or_another_guest_is_not_gone_on_with(world: World, tmp_path: Path):
    """And nothing is lost."""
    run = killed(world, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for name, value, words in (("build_id", "cd" * 20, "had build id abababab"), ("image", "two", "has changed since")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world, name, value)
            with pytest.raises(UsageError, match=words):
                go_on(world, run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert go_on(world, run) is not None


@pytest.mark.usefixtures("world")
def test_a_run_that_asked_for_what_there_is_not_leaves_an_empty_folder(tmp_path: Path, monkeypatch):
    """So that --out takes it again."""

    def refuse(*_: object) -> None:
        raise UsageError("no such source")

    monkeypatch.setattr(pipeline, "prepare", refuse)

    with pytest.raises(UsageError):
        pipeline.run(request(tmp_path / "run"), Path("/nowhere"), QUIET, lambda _: None)

    assert list((tmp_path / "run").iterdir()) == []


# --- a run directory of somebody else's


def changed(run: Path, **changes: Any) -> None:
    content = json.loads((run / begun.NAME).read_text())
    (run / begun.NAME).write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenarios": ["../x"]}, r"scenarios\[0\]: '../x' does not match"),
        ({"scenarios": ["kernel"]}, "should not be valid"),
        ({"scenarios": ["good", "good"]}, "two scenarios are called 'good'"),
        ({"scenarios": ["absent"]}, "has no text of the scenario 'absent'"),
        ({"repeat": 10**9}, "repeat: 1000000000 is greater"),
        ({"repeat": 100_000, "scenarios": [f"s-{n}" for n in range(100)]}, "100000 × 100 scenarios"),
        ({"files": {"good.yaml": "!!python/object:os.system x"}}, "good.yaml:1: the tag"),
        ({"files": {"../\0.yaml": SCENARIO}}, "NUL"),
        ({"files": {"good.yaml": 3}}, "3 is not of type 'string'"),
        ({"compiler": "/tmp/evil"}, "'/tmp/evil' is not one of"),
        ({"accel": "xen"}, "'xen' is not one of"),
        ({"timeout_s": -1}, "-1 is less"),
        ({"schema": 2}, "a newer harness wrote it"),
        ({"folder": None}, "None is not of type 'string'"),
        ({"folder": "/nonexistent"}, "the folder in which it was called is gone"),
        ({"folder": "a\0"}, "the folder in which it was called is gone"),
    ],
)
def test_a_plan_that_no_run_has_is_refused(world: World, tmp_path: Path, capsys, changes: dict[str, Any], words: str):
    run = killed(world, tmp_path / "run")
    changed(run, **changes)

    assert main(["run", "--resume", str(run)]) == 129

    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert "Traceback" not in said


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "\x00", '{"schema": 1}'])
def test_a_plan_that_is_no_document_is_refused(world: World, tmp_path: Path, text: str):
    run = killed(world, tmp_path / "run")
    (run / begun.NAME).write_text(text)

    for command in (["run", "--resume"], ["judge"]):
        assert main([*command, str(run)]) == 129


@pytest.mark.parametrize("place", ["good", "events", "bad-log", "kernel", "run.json", "report.html", "good/new"])
def test_nothing_is_written_through_a_link(world: World, tmp_path: Path, place: str):
    run, elsewhere = killed(world, tmp_path / "run"), tmp_path / "elsewhere"
    if (run / place).exists():
        (run / place).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (run / place).symlink_to(elsewhere)
    before = sorted(tmp_path.joinpath("elsewhere").rglob("*"))

    assert main(["run", "--resume", str(run)]) == 129
    assert sorted(elsewhere.rglob("*")) == before


@fuzz(15)
@given(st.data())
def test_a_hostile_plan(data: st.DataObject):
    """It is refused in one line, or read."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        run = killed(arranged(patch), Path(place) / "run")
        # Which run it is, and when it began, differ each time.
        changed(run, id="0" * 32, began_s=1.0)
        text = rotten((run / begun.NAME).read_bytes(), data.draw)
        (run / begun.NAME).write_bytes(text)
        with contextlib.suppress(HarnessError):
            resuming.request(resuming.read(run), instruments.NOTIFIER_HOLD)


def test_a_plan_that_rotted_is_damage(world: World, tmp_path: Path, capsys):
    begin(world, tmp_path / "run", maxfail=1)
    changed(tmp_path / "run", repeat=2)

    assert main(["run", "--resume", str(tmp_path / "run")]) == 128
    assert "run.json: is damaged" in capsys.readouterr().err


def test_an_earlier_run_cannot_be_gone_on_with(world: World, tmp_path: Path, capsys):
    begin(world, tmp_path / "run", maxfail=1)
    for name in (begun.NAME, manifest.NAME):
        (tmp_path / "run" / name).unlink()

    assert main(["run", "--resume", str(tmp_path / "run")]) == 129
    assert "has no run.json (an earlier version made it)" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path: Path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main(["run", "--resume", str(folder)]) == 129
        assert "not a run directory" in capsys.readouterr().err


def test_a_run_that_is_under_way_is_left_alone(world: World, tmp_path: Path, capsys):
    """Another process has its lock."""
    run = Path(shutil.copytree(killed(world, tmp_path / "ours"), tmp_path / "run"))
    with folder_lock(run):
        for command in (["run", "--resume"], ["judge"]):
            assert main([*command, str(run)]) == 129
            assert f"{run}: another harness is writing there" in capsys.readouterr().err


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    argv = ["flock", "--exclusive", "--nonblock", str(folder), "sh", "-c", "echo; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdin
        assert child.stdout.readline()
        yield
        child.stdin.close()


def test_what_is_written_fits_its_schema(world: World, tmp_path: Path):
    """Each field that is written is named there; an earlier version wrote fewer."""
    begin(world, tmp_path / "run")
    content = documents.read(tmp_path / "run" / begun.NAME, "run")
    schema = json.loads((documents.SCHEMAS / "run.json").read_text())

    later = {"contract", "base_config", "sandbox", "id", "began_s"}
    assert set(content) == set(schema["properties"]) == {*schema["required"], *later}
    assert content["skipped"] == {"silent": "no such option"}
    assert content["kernel"]["build_id"] == "ab" * 20


@pytest.mark.parametrize("asked", ["auto", "stock", "mayfail"])
def test_a_run_is_gone_on_with_by_its_own_contract(world: World, tmp_path: Path, asked: str) -> None:
    """That which it was judged by, or which it asked for before its kernel was known."""
    folder = tmp_path / "run"
    begin(world, folder, kernel=KernelRequest(contract=asked))
    chosen = documents.read(folder / begun.NAME, "run")["contract"]
    assert chosen == {"requested": "auto", "used": "mayfail", "reason": "made up"}

    (folder / manifest.NAME).unlink()
    changed = json.loads((folder / begun.NAME).read_text())
    run = resuming.Unfinished(folder, document.read(folder))
    for used, wanted in (("stock", "stock"), ("", asked)):
        changed["contract"] = {"requested": asked, "used": used, "reason": ""}
        changed["skipped"] = {}
        (folder / begun.NAME).write_text(json.dumps(changed))
        assert resuming.request(run, instruments.NOTIFIER_HOLD).kernel.contract == wanted

    del changed["contract"]
    (folder / begun.NAME).write_text(json.dumps(changed))
    assert resuming.request(run, instruments.NOTIFIER_HOLD).kernel.contract == "mayfail"
