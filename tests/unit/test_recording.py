# SPDX-License-Identifier: GPL-2.0-only
"""Recordings of this version and of earlier versions are written and read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.model import recording as recordings
from harness.model.errors import MachineError, UsageError
from harness.model.postmortem import PostMortem
from harness.model.recording import Answer, Ended, Recording
from harness.oracles import integrity
from tests.unit.recordings import Log, recording, scenario

ANSWERS = (
    Answer(0, "subscribe", "device", "", "subscribe name=device buffer=held", {"ok": True, "subscriber": 4}, {}, 0.1),
    Answer(2, "user-check", "held", "kid", "@kid user-check name=held seed=1", {"ok": True, "bad": 3}, {}, 0.1),
    Answer(3, "wait", "presser", "", "wait name=presser", {"ok": True}, {}, 0.1),
)


@pytest.fixture
def kept() -> Recording:
    """A recording of three commands, in a guest that deadlocked."""
    found = PostMortem("two tasks", [["pid 7 drive", "pid 9 kswapd0"]])
    return dataclasses.replace(recording(answers=ANSWERS), postmortem=found)


def written(one: Recording, folder: Path) -> Path:
    """The folder of a scenario."""
    place = folder / one.scenario.name
    place.mkdir()
    (place / "console.log").write_bytes(one.console)
    (folder / "events").mkdir()
    (folder / "events" / f"{one.scenario.name}.bin").write_bytes(Log().packed())
    (place / "record.json").write_text(recordings.document(one, recordings.digests(place, one.scenario.name)))
    return place


def test_what_is_written_is_read_again(kept: Recording, tmp_path: Path) -> None:
    again = recordings.read(written(kept, tmp_path), scenario())

    assert list(again.answers) == list(ANSWERS)
    assert again.postmortem == kept.postmortem
    assert (again.ended, again.console) == (kept.ended, kept.console)


def test_a_recording_is_judged_again_by_the_same_times(kept: Recording, tmp_path: Path) -> None:
    """7.13496 s, written as 7.135, would be 7.13 s in one verdict and 7.14 s in the other."""
    answers = [dataclasses.replace(answer, seconds=0.12345678) for answer in kept.answers]
    raw = dataclasses.replace(
        kept, seconds=7.13496, postmortem_s=1.23456, slowdown=45.678, loop_ms=5.43219, answers=answers
    )
    one = recordings.settled(raw)

    again = recordings.read(written(raw, tmp_path), scenario())

    assert again.seconds == one.seconds == 7.135
    assert (again.postmortem_s, again.slowdown) == (one.postmortem_s, one.slowdown)
    assert again.loop_ms == one.loop_ms == 5.432
    assert [answer.seconds for answer in again.answers] == [answer.seconds for answer in one.answers]


def test_an_earlier_recording_has_only_the_lines_and_they_tell_the_rest(kept: Recording, tmp_path: Path) -> None:
    place = written(kept, tmp_path)
    document = json.loads((place / "record.json").read_text())
    for entry in document["answers"]:
        for name in ("verb", "target", "process"):
            del entry[name]
    del document["circles"], document["waits"], document["digests"]
    (place / "record.json").write_text(json.dumps(document))

    again = recordings.read(place, scenario())

    assert list(again.answers) == list(ANSWERS)
    assert again.postmortem == PostMortem("two tasks")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("@kid &busy + charge size=1M", ("charge", "", "kid")),
        ("&busy advise name=held advice=cold", ("advise", "held", "")),
        ("vmstat", ("vmstat", "", "")),
        ("", ("", "", "")),
    ],
)
def test_a_line_names_who_does_what_to_what(line: str, told: tuple[str, str, str]) -> None:
    entry = {"step": 1, "command": line, "reply": {}, "expect": {}, "seconds": 0.0}

    answer = Answer.restore(entry)

    assert (answer.verb, answer.target, answer.process) == told


@pytest.mark.parametrize("gone", [("verb",), ("target",), ("process", "verb"), ("verb", "target", "process")])
def test_what_an_entry_does_not_say_its_line_does(gone: tuple[str, ...]) -> None:
    """And what it says besides is no concern of ours."""
    whole = dataclasses.asdict(ANSWERS[1])

    entry = {name: value for name, value in whole.items() if name not in gone} | {"more": 1}

    assert Answer.restore(entry) == ANSWERS[1]


def test_a_subscriber_is_called_as_in_its_scenario(kept: Recording) -> None:
    assert kept.subscriber(4) == "device"
    assert kept.subscriber(5) == "#5"


def test_a_finding_says_what_was_done_to_what_and_in_which_process(kept: Recording) -> None:
    """A prefix of the driver's line is no verb."""
    (finding,) = integrity.judge(kept)

    assert finding.summary == "user-check held in kid: pages with the wrong content"


def damaged(place: Path) -> str:
    """What is said of a recording."""
    with pytest.raises(MachineError, match="is damaged") as caught:
        recordings.read(place, scenario())
    return caught.value.message


@pytest.mark.parametrize("part", ["sample/console.log", "events/sample.bin"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_recording_that_lost_a_part_is_damaged_and_judges_no_kernel(
    kept: Recording, tmp_path: Path, part: str, earlier: bool
) -> None:
    """An earlier version wrote no digests, but a driver that answered everything has given its log."""
    place = written(kept, tmp_path)
    if earlier:
        (place / "record.json").write_text(recordings.document(kept))

    (tmp_path / part).unlink()

    assert damaged(place) == f"{tmp_path / part}: is damaged: is missing"


@pytest.mark.parametrize("part", ["sample/console.log", "events/sample.bin"])
def test_a_part_that_a_loss_of_power_cut_is_damage(kept: Recording, tmp_path: Path, part: str) -> None:
    place = written(kept, tmp_path)

    (tmp_path / part).write_bytes(b"")

    assert damaged(place) == f"{tmp_path / part}: is damaged: its SHA-256 is not the one in record.json"


def test_an_event_log_that_came_later_is_none_of_the_recording(kept: Recording, tmp_path: Path) -> None:
    place = written(kept, tmp_path)
    (place / "record.json").write_text(
        recordings.document(kept, {"console": recordings.digests(place, "sample")["console"]})
    )

    assert "events/sample.bin: is damaged" in damaged(place)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_guest_that_panicked_gave_no_log(kept: Recording, tmp_path: Path, earlier: bool) -> None:
    kept = dataclasses.replace(kept, ended=Ended.PANIC)
    place = written(kept, tmp_path)
    (tmp_path / "events" / "sample.bin").unlink()
    digests = None if earlier else recordings.digests(place, "sample")
    (place / "record.json").write_text(recordings.document(kept, digests))

    assert len(recordings.read(place, scenario()).events) == 0


def test_a_part_that_is_a_link_is_not_followed(kept: Recording, tmp_path: Path) -> None:
    place = written(kept, tmp_path)
    (place / "console.log").rename(tmp_path / "elsewhere")
    (place / "console.log").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError, match="links are not followed"):
        recordings.read(place, scenario())
