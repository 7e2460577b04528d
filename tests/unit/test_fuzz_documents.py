# SPDX-License-Identifier: GPL-2.0-only
"""Whatever is in the files of a run or of a scenario: nothing but a HarnessError comes of it, and no wrong *fail*.

fuzzing.py says how to search longer.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness import pressures
from harness.commands.judge import judge
from harness.guest import tape as tapes
from harness.model import recording as recordings
from harness.model import scenario, strict_yaml
from harness.model.characters import UNSAFE
from harness.model.errors import HarnessError, MachineError, UsageError
from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import document, html, junit, ktap, lines, manifest
from harness.run import earlier, judging, planning, resuming
from harness.variants import catalogue
from tests.unit.fuzzing import fuzz
from tests.unit.runs import NAMES, SCENARIO

# --- what can be wrong with a file

DEEP: Any = "deep"
for _ in range(50):
    DEEP = [DEEP]
ODD = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2**31, 2**64, -(2**70), 0.5, 1.0, -0.0, 1e308, float("nan"), float("inf"),
        "", "0", "x" * 5000, "\x1b[2J\n\r", "\u202e\u2028", "\ud800", "../../x", "/etc/passwd", "a b", "%s{0}$x",
        [], {}, [[]], [None], {"": None}, DEEP, "all", ">= 1", "complete", "tape.gz", "pass", "error",
    ]
)  # fmt: skip

KEYS_OF_OTHERS = st.sampled_from(["", "x", "\x1b[0m", "name", "schema", "..", "\n"])


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document, with every key of it."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield content, key
        yield from places(value)


def wrong(content: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """A document with something of another type, missing, twice, elsewhere or too deep."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(content))
        if not known:
            break
        where, key = known[draw(st.integers(0, len(known) - 1))]
        match draw(st.sampled_from(["odd", "odd", "gone", "more", "swap", "nest"])):
            case "odd":
                where[key] = copy.deepcopy(draw(ODD))
            case "gone":
                del where[key]
            case "more" if isinstance(where, list):
                where.insert(key, copy.deepcopy(where[key]))
            case "more":
                where[draw(st.sampled_from(["", "x", "\x1b[0m", "name", "schema", "..", "\n"]))] = copy.deepcopy(
                    where[key]
                )
            case "swap":
                there, other = known[draw(st.integers(0, len(known) - 1))]
                where[key] = copy.deepcopy(there[other])
            case "nest":
                where[key] = {"a": [where[key]]}
    return content


def broken(content: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """A file with flipped bits, or a part missing, twice, or foreign."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        to = min(len(content), at + draw(st.sampled_from([1, 2, 8, 100])))
        match draw(st.sampled_from(["flip", "flip", "end", "gone", "twice", "foreign"])):
            case "flip" if content:
                content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
            case "end":
                content = content[:at]
            case "gone":
                content = content[:at] + content[to:]
            case "twice":
                content = content[:to] + content[at:]
            case _:
                content = content[:at] + draw(st.binary(min_size=1, max_size=12)) + content[at:]
    return content


def rotten(content: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """A JSON document that is wrong, or a file of it that is broken."""
    if draw(st.integers(0, 9)) < 7:
        return json.dumps(wrong(json.loads(content), draw)).encode()
    return broken(content, draw)


# --- the doors


def passes_or_is_damaged(ask: Callable[[], RunVerdict]) -> bool:
    """Whether a run passes, as it did, or is said to be damaged."""
    try:
        return ask().outcome is Outcome.PASS
    except MachineError as damage:
        return "is damaged" in damage.message


def judged(run: Path, name: str) -> ScenarioResult | None:
    """The result of a scenario, judged from its files alone; None when they are refused."""
    try:
        return judging.judge(recordings.read(run / name, earlier.scenario_of(run / name, name)))
    except HarnessError:
        return None


@fuzz()
@given(st.data())
def test_a_verdict(made: Path, run: Path, data: st.DataObject) -> None:
    """Shown in every way, or refused."""
    (run / document.NAME).write_bytes(rotten((made / document.NAME).read_bytes(), data.draw))
    (run / manifest.NAME).unlink(missing_ok=True)
    try:
        verdict = document.read(run)
    except HarnessError:
        return
    shown = [*lines.summary(verdict, str(run), lambda _, word: word), html.render(verdict), ktap.render(verdict)]
    for result in verdict.scenarios:
        shown += lines.result(result, lambda _, word: word)
    assert not UNSAFE.search("".join(shown))
    junit.render(verdict)
    assert document.parse(document.render(verdict)).document() == verdict.document()
    assert verdict.outcome is not Outcome.FAIL


@fuzz()
@given(st.data())
def test_a_record(made: Path, run: Path, data: st.DataObject) -> None:
    (run / NAMES[0] / "record.json").write_bytes(rotten((made / NAMES[0] / "record.json").read_bytes(), data.draw))

    result = judged(run, NAMES[0])

    # What is judged can be written and read.
    if result is not None:
        assert ScenarioResult.restore(json.loads(json.dumps(result.document()))).outcome is result.outcome


@fuzz()
@given(st.data())
def test_an_event_log(made: Path, run: Path, data: st.DataObject) -> None:
    place = f"events/{NAMES[0]}.bin"
    (run / place).write_bytes(broken((made / place).read_bytes(), data.draw))

    judged(run, NAMES[0])


@fuzz()
@given(st.data())
def test_a_console(made: Path, run: Path, data: st.DataObject) -> None:
    place = f"{NAMES[0]}/console.log"
    (run / place).write_bytes(broken((made / place).read_bytes(), data.draw))

    judged(run, NAMES[0])


@fuzz()
@given(st.data())
def test_a_tape(made: Path, run: Path, data: st.DataObject) -> None:
    (run / NAMES[1] / tapes.RECORD).write_bytes(rotten((made / NAMES[1] / tapes.RECORD).read_bytes(), data.draw))
    try:
        tape = tapes.load(run / NAMES[1])
    except HarnessError:
        return
    assert tapes._command(tape.shape)


@fuzz()
@given(st.data())
def test_a_manifest(made: Path, run: Path, data: st.DataObject) -> None:
    """It is damaged, or the run is as it was."""
    (run / manifest.NAME).write_bytes(rotten((made / manifest.NAME).read_bytes(), data.draw))

    assert passes_or_is_damaged(lambda: document.read(run))


@fuzz()
@given(st.data())
def test_a_file_of_a_run_with_a_manifest(made: Path, run: Path, data: st.DataObject) -> None:
    """Never a fail: it is damaged, or the verdict is what it was."""
    listed = sorted(json.loads((made / manifest.NAME).read_bytes())["files"])
    place = data.draw(st.sampled_from(listed))
    shutil.copyfile(made / manifest.NAME, run / manifest.NAME)
    (run / place).write_bytes(broken((made / place).read_bytes(), data.draw))
    fine = passes_or_is_damaged(lambda: judge(resuming.read(run)))
    shutil.copyfile(made / place, run / place)
    shutil.copyfile(made / document.NAME, run / document.NAME)

    assert fine


KEYS = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
TEXTS = [SCENARIO, *(entry.path.read_text(encoding="utf-8") for entry in catalogue.scenarios().values())]


def loaded(path: Path, content: bytes) -> None:
    """Read a scenario, and make the driver's commands of it."""
    path.write_bytes(content)
    found, said = [], str(path)
    try:
        found = scenario.load(path, KEYS)
    except UsageError as refused:
        said = refused.message

    assert str(path) in said
    for one in found:
        assert all("\n" not in command.text for command in planning.plan(one))


@fuzz()
@given(st.data())
def test_a_scenario(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    if data.draw(st.booleans()):
        loaded(tmp_path / "some.yaml", broken(text.encode(), data.draw))
        return
    (tmp_path / "some.yaml").write_text(text, encoding="utf-8")
    content = wrong(plain(strict_yaml.load(tmp_path / "some.yaml")), data.draw)
    if isinstance(content, dict):
        loaded(tmp_path / "some.yaml", strict_yaml.dump(content).encode("utf-8", "surrogatepass"))


def plain(value: Any) -> Any:
    """The same without the places of its keys."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value
