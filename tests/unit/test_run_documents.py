# SPDX-License-Identifier: GPL-2.0-only
"""A run directory may be damaged, or somebody else's: neither is ever a fault of the kernel."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.cli import main
from harness.commands import replay
from harness.guest import tape as tapes
from harness.host.progress import QUIET
from harness.kernel import lines
from harness.model import documents
from harness.model import recording as recordings
from harness.model.errors import MachineError, UsageError
from harness.model.verdict import Outcome
from harness.postmortem import kdump
from harness.report import document, manifest
from harness.report.write import write
from harness.run import decoding as decode
from harness.run import earlier, pipeline
from tests.unit.runs import NAMES
from tests.unit.verdicts import run_of

SCHEMAS = ("verdict", "record", "tape", "manifest", "run", "plan", "job", "matrix", "durations", "history")
# KernelCI's own.
OTHERS = {"kcidb"}


@pytest.fixture
def older(run: Path) -> Path:
    """The same as an earlier version left it, without a manifest."""
    (run / manifest.NAME).unlink()
    return run


def changed(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON document in its file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def everything(run: Path) -> list[Path]:
    """Every file of a run, below it."""
    return sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())


# --- damage


def test_a_flipped_bit_is_damage_or_changes_nothing(run: Path, capsys: pytest.CaptureFixture[str]):
    """Reports, and what tape.json vouches for, are not judged from."""
    dice = random.Random(7)  # noqa: S311 - the same flips each time
    for place in everything(run):
        whole = (run / place).read_bytes()
        at = dice.randrange(len(whole))
        (run / place).write_bytes(whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)]) + whole[at + 1 :])

        status = main(["judge", str(run)])

        said = capsys.readouterr().err
        listed = json.loads((run / manifest.NAME).read_bytes())["files"] if status == 0 else {}
        assert status in (0, 128), said
        # A digest that changed speaks of its file.
        told = "" if place.name == manifest.NAME else place
        assert status == 0 or f"{told}: is damaged: " in said, said
        assert str(place) not in listed
        (run / place).write_bytes(whole)
    assert main(["judge", str(run)]) == 0


@pytest.mark.parametrize("ask", [document.read, earlier.read, lambda run: replay.choose(run, [])])
def test_damage_is_told_whatever_is_asked_of_a_run(run: Path, ask: Callable[[Path], object]):
    (run / NAMES[0] / "console.log").write_bytes(b"BUG: something else")

    with pytest.raises(MachineError, match=r"console\.log: is damaged: its SHA-256 is not the one in manifest\.json"):
        ask(run)
    with pytest.raises(MachineError, match="is damaged"):
        decode.decode(run, "gcc", run, QUIET)


def test_a_file_that_is_gone_or_came_later_is_damage(run: Path):
    (run / NAMES[0] / "tape.json").write_text("{}")
    with pytest.raises(MachineError, match=r"quiet/tape\.json: is damaged: is not listed"):
        document.read(run)
    (run / NAMES[0] / "tape.json").unlink()
    (run / "events" / "quiet.bin").unlink()
    with pytest.raises(MachineError, match=r"events/quiet\.bin: is damaged: is missing"):
        document.read(run)


def test_a_run_that_lost_its_verdict_is_damaged_and_a_folder_that_never_had_one_is_no_run(run: Path):
    """A killed run has neither verdict nor manifest."""
    (run / document.NAME).unlink()
    with pytest.raises(MachineError, match=r"verdict\.json: is damaged: is missing"):
        document.read(run)
    (run / manifest.NAME).unlink()
    with pytest.raises(UsageError, match=r"not a run directory: no verdict\.json"):
        document.read(run)


def test_what_is_judged_again_is_still_whole(run: Path, capsys: pytest.CaptureFixture[str]):
    """The verdict changes, as with other oracles; the evidence is what it was."""
    old = document.read(run)
    listed = json.loads((run / manifest.NAME).read_text())["files"]
    write(dataclasses.replace(old, noise=("told otherwise",)), run)
    assert main(["judge", str(run)]) == 0

    now = json.loads((run / manifest.NAME).read_text())["files"]
    assert document.read(run).noise == ()
    assert {name: value for name, value in now.items() if name != document.NAME} == {
        name: value for name, value in listed.items() if name != document.NAME
    }
    assert "unverified" not in capsys.readouterr().err


def test_an_earlier_run_is_judged_and_said_to_be_unverified(older: Path, capsys: pytest.CaptureFixture[str]):
    """And stays so: nobody knows whether its files are what they were."""
    for _ in range(2):
        assert main(["judge", str(older)]) == 0
        assert f"unverified   {older}: has no manifest.json; a damaged" in capsys.readouterr().err
    for name in NAMES:
        (older / name / kdump.TEXT).unlink()
    assert main(["decode", str(older)]) == 0
    assert f"unverified   {older}" in capsys.readouterr().err


def test_a_recording_without_its_console_is_no_silent_kernel(older: Path, capsys: pytest.CaptureFixture[str]):
    (older / NAMES[0] / "console.log").unlink()

    assert main(["judge", str(older)]) == 128
    assert "quiet/console.log: is damaged: is missing" in capsys.readouterr().err


def test_a_recording_without_its_events_is_no_kernel_that_did_too_little(
    older: Path, capsys: pytest.CaptureFixture[str]
):
    (older / "events" / "quiet.bin").unlink()

    assert main(["judge", str(older)]) == 128
    assert "events/quiet.bin: is damaged: is missing" in capsys.readouterr().err


# --- names and links


@pytest.mark.parametrize(
    "name", ["../x", "../../x", "/etc", "a/b", "", ".", "..", "a\n", "a.b", "A", "x.1234567", "-x", "a" * 200, 3, None]
)
def test_a_name_leads_nowhere_but_below_the_run(older: Path, name: object):
    changed(older / document.NAME, lambda verdict: verdict["scenarios"][0].update(name=name))

    with pytest.raises(UsageError, match=r"not a run directory: \$\.scenarios\[0\]\.name: "):
        document.read(older)


@pytest.mark.parametrize("name", ["guest-1", "memcg-eagain.37", "lockdep-yes", "a"])
def test_the_names_that_we_give_are_names(older: Path, name: str):
    changed(older / document.NAME, lambda verdict: verdict["scenarios"][0].update(name=name))

    assert document.read(older).scenarios[0].name == name


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "place",
    ["quiet", "events", "quiet/console.log", "quiet/record.json", "quiet/scenario.yaml", "events/quiet.bin",
     "quiet/postmortem.txt", "taped.2/tape.json", "taped.2/tape.gz", "kernel", "kernel/vmlinux", "kernel/initrd.cpio",
     "kernel/modules", "kernel/modules/some.ko", "verdict.json", "manifest.json"],
)  # fmt: skip
def test_a_link_in_a_run_is_not_followed(run: Path, place: str, kept: bool):
    """With the same content behind it, and with none."""
    elsewhere = run.parent / "elsewhere"
    (run / place).rename(elsewhere)
    if not kept:
        shutil.rmtree(elsewhere) if elsewhere.is_dir() else elsewhere.unlink()
    (run / place).symlink_to(elsewhere)

    # A folder in which nothing is found any more is damage.
    with pytest.raises((UsageError, MachineError), match=r"links are not followed|some\.ko: is damaged: is missing"):
        document.read(run)


@pytest.mark.parametrize("place", ["quiet/console.log", "quiet/record.json", "events/quiet.bin", "verdict.json"])
def test_a_pipe_in_a_run_is_not_waited_for(older: Path, place: str):
    (older / place).unlink()
    os.mkfifo(older / place)

    with pytest.raises(UsageError, match="not a regular file"):
        document.read(older)


def test_a_run_may_itself_be_reached_by_a_link(run: Path):
    (run.parent / "link").symlink_to(run)

    assert main(["judge", str(run.parent / "link")]) == 0


def test_what_is_written_replaces_a_link_and_not_what_it_points_to(run: Path, monkeypatch: pytest.MonkeyPatch):
    (run / NAMES[0] / "console.log").write_text("WARNING: CPU: 0 PID: 1 at mm/rmap.c:1 f+0x1/0x2\n")
    changed(run / NAMES[0] / "record.json", lambda record: record.pop("digests"))
    (run / NAMES[0] / "postmortem.txt").write_text("task 7\n")
    write(document.read(older_of(run)), run)
    elsewhere = run.parent / "elsewhere"
    elsewhere.write_text("mine")
    for name in (f"{NAMES[0]}/decoded.txt", "junit.xml", "report.html", "results.ktap"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(elsewhere)
    kernel = SimpleNamespace(kernel=SimpleNamespace(build_id="ab" * 20))
    monkeypatch.setattr(pipeline, "prepare", lambda *_: kernel)
    monkeypatch.setattr(lines, "find", lambda *_: {})

    [first, _] = decode.decode(run, "gcc", run, QUIET)
    main(["judge", str(run)])

    assert first == run / NAMES[0] / "decoded.txt"
    assert "task 7" in first.read_text()
    assert elsewhere.read_text() == "mine"
    assert not [path for path in run.rglob("*") if path.is_symlink()]


def older_of(run: Path) -> Path:
    """The run, without its manifest."""
    (run / manifest.NAME).unlink()
    return run


def test_what_is_trusted_has_the_names_that_its_writers_use():
    assert {"postmortem.txt", "tape.json", "tape.gz"} == {kdump.TEXT, tapes.RECORD, tapes.TAPE}
    assert {kdump.TEXT, tapes.RECORD, tapes.TAPE} < set(manifest.EVIDENCE)
    assert {tapes.KERNEL, tapes.INITRD} == set(manifest._SHARED)


# --- schemas


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_names_no_file_of_a_machine(name: str):
    schema = json.loads((documents.SCHEMAS / f"{name}.json").read_text())

    Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"{name}.json"
    assert {path.stem for path in documents.SCHEMAS.iterdir()} == {*SCHEMAS, *OTHERS}


def unknown(content: Any, schema: Any, root: Any) -> list[str]:
    """The fields of a document that its schema does not name."""
    schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(content, list):
        return [name for entry in content for name in unknown(entry, schema.get("items", {}), root)]
    if not isinstance(content, dict) or "properties" not in schema:
        return []
    named = schema["properties"]
    return [
        name
        for field, value in content.items()
        for name in ([field] if field not in named else unknown(value, named[field], root))
    ]


@pytest.mark.parametrize(
    ("name", "place"),
    [("verdict", "verdict.json"), ("record", "quiet/record.json"), ("tape", "taped.2/tape.json"),
     ("manifest", "manifest.json")],
)  # fmt: skip
def test_each_field_that_is_written_is_in_its_schema(made: Path, name: str, place: str):
    """A field that is added comes with what it may be."""
    content = json.loads((made / place).read_text())
    schema = json.loads((documents.SCHEMAS / f"{name}.json").read_text())

    assert unknown(content, schema, schema) == []
    assert documents.read(made / place, name) == content


def test_a_verdict_of_each_kind_fits_its_schema():
    stopped = run_of([], error="no\nspace", forced=Outcome.ERROR, seconds={"boot": -1e-9})

    assert document.parse(document.render(stopped)).error == "no\nspace"


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    """A change: the value at a path."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


FIRST = ("scenarios", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("schema", value=2), "its schema is 2, and this harness reads up to 1: a newer harness wrote it"),
        (put("schema", value=True), r"\$\.schema"),
        (put(*FIRST, "seconds", value=-1), r"\$\.scenarios\[0\]\.seconds: -1 is less than the minimum"),
        (put(*FIRST, "seconds", value=float("nan")), "NaN is no number"),
        (put(*FIRST, "seconds", value=float("-inf")), "-Infinity is no number"),
        (put(*FIRST, "seconds", value=True), r"seconds: True is not of type 'number'"),
        (put(*FIRST, "attempts", value=True), r"attempts: True is not of type 'integer'"),
        (put(*FIRST, "attempts", value=1.0), r"attempts: 1\.0 is not of type 'integer'"),
        (put(*FIRST, "attempts", value=0), r"attempts: 0 is less than"),
        (put(*FIRST, "exercised", "callbacks", value="4"), r"exercised\.callbacks: '4' is not of type 'integer'"),
        (put(*FIRST, "exercised", "\x1b[2J", value=4), r"exercised: .* does not match"),
        (put(*FIRST, "selftests", "\n", value={"pass": 1, "fail": 0, "skip": 0}), r"selftests: .* does not match"),
        (put(*FIRST, "findings", value=[{"oracle": "a\nb", "summary": "", "evidence": ""}]), r"oracle: .* not match"),
        (put(*FIRST, "findings", value=[3]), r"findings\[0\]: 3 is not of type 'object'"),
        (put(*FIRST, "tape", value="../../tape.gz"), r"tape: .* is not one of"),
        (put(*FIRST, "name", value="taped.2"), "two scenarios are called 'taped.2'"),
        (put("skipped", 0, "name", value="quiet"), "two scenarios are called 'quiet'"),
        (put("kernel", "cached", value="yes"), r"kernel\.cached: 'yes' is not of type 'boolean'"),
        (put("kernel", "build_id", value="ab\n"), r"kernel\.build_id: .* does not match"),
        (put("seconds", "total", value=1e99), r"seconds\.total: 1e\+99 is greater"),
        (put("error", value=None), r"error: None is not of type"),
        (put("verdict", value="good"), r"\$\.verdict: 'good' is not one of"),
    ],
)
def test_a_verdict_that_no_run_has_is_refused_with_its_place(older: Path, change: Any, message: str):
    changed(older / document.NAME, change)

    with pytest.raises(UsageError, match=message) as caught:
        document.read(older)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"schema": 1, "schema": 1}', "the key 'schema' is given twice"),
        ('{"seconds": 1e999}', "1e999 is no finite number"),
        ('{"seconds": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("\x00", "Expecting value"),
        ("\xff\xfe\x00", "truncated data|codec"),
        ("", "Expecting value"),
        ("[]", r"\$: \[\] is not of type 'object'"),
    ],
)
def test_a_text_that_is_no_document_is_refused(older: Path, text: str, message: str):
    for name, ask in (
        (document.NAME, document.read),
        ("quiet/record.json", lambda run: recordings.read(run / "quiet", earlier.scenario_of(run / "quiet", "quiet"))),
        ("taped.2/tape.json", lambda run: tapes.load(run / "taped.2")),
    ):
        (older / name).write_text(text, encoding="latin-1")
        with pytest.raises(UsageError, match=message):
            ask(older)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("ended", value="well"), r"\$\.ended: 'well' is not one of"),
        (put("slowdown", value=0), r"slowdown: 0 is less than or equal"),
        (put("seconds", value=-1), "seconds: -1 is less"),
        (put("after", "allocstall", value=True), r"after\.allocstall: True is not of type 'integer'"),
        (put("answers", 0, "step", value=-1), r"answers\[0\]\.step"),
        (put("answers", 0, "command", value=3), r"answers\[0\]\.command"),
        (put("answers", 0, "reply", value=[]), r"answers\[0\]\.reply"),
        (put("answers", 0, "expect", value={"majflt": ">= x"}), r"answers\[0\]\.expect\.majflt"),
        (put("answers", 0, value=None), r"answers\[0\]: None"),
        (put("circles", value=["ab"]), r"circles\[0\]"),
    ],
)
def test_a_record_that_no_scenario_leaves_is_refused(older: Path, change: Any, message: str):
    changed(older / "quiet" / "record.json", change)

    with pytest.raises(UsageError, match=f"not a recording of a scenario: .*{message}"):
        recordings.read(older / "quiet", earlier.scenario_of(older / "quiet", "quiet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # It becomes a part of a command of gdb.
        (put("module", value="0x1 -s x\nshell rm"), r"\$\.module"),
        (put("shape", "cpus", value=True), r"shape\.cpus"),
        (put("shape", "board", value="virt"), r"shape\.board"),
        (put("shape", value=None), r"\$\.shape"),
        (put("instructions", value=-1), r"\$\.instructions"),
        (put("seconds", value=float("inf")), "Infinity is no number"),
    ],
)
def test_a_tape_that_no_machine_leaves_is_refused(older: Path, change: Any, message: str):
    changed(older / "taped.2" / "tape.json", change)

    with pytest.raises(UsageError, match=rf"tape\.json: no recording: .*{message}"):
        tapes.load(older / "taped.2")


def test_a_module_with_a_name_that_gdb_would_obey_is_none(run: Path):
    (run / "kernel/modules/some.ko").rename(run / "kernel/modules/x;shell.ko")

    assert earlier.module(run) is None
