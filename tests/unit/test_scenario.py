# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import catalogue
from harness.drive import plan
from harness.model import scenario
from harness.model.errors import UsageError

GOOD = """\
# a sample
summary: x
cgroup: {max: 64M}
buffers:
  held: {kind: anon, size: 16M}
subscribers:
  dev: {buffer: held, policy: accept}
steps:
  - {touch: held, seed: 1}
  - {pressure: memcg-charge, size: 96M}
exercised: {callbacks: 1}
"""
PRESSURES = {"memcg-charge": {"size": True}}


def load(tmp_path: Path, text: str) -> list[scenario.Scenario]:
    path = tmp_path / "sample.yaml"
    path.write_text(text, encoding="utf-8")
    return scenario.load(path, PRESSURES)


def test_every_scenario_of_the_project_loads() -> None:
    """The folder lists itself; the default set is not empty."""
    assert len(catalogue.scenarios()) >= 10
    assert catalogue.choose([])


def test_a_scenario_becomes_commands_in_order(tmp_path: Path) -> None:
    """Set-up, steps, tear-down; subscribers go before their memory."""
    (sample,) = load(tmp_path, GOOD)

    verbs = [command.text.split()[0] for command in plan(sample)]

    assert verbs == [
        "mark",
        "vmstat",
        "cgroup",
        "map",
        "subscribe",
        "touch",
        "charge",
        "release",
        "unsubscribe",
        "unmap",
        "vmstat",
        "log",
        "mark",
    ]


def test_vary_makes_one_scenario_a_word(tmp_path: Path) -> None:
    """An axis is an entry, not a copy of the file."""
    text = GOOD.replace("policy: accept", "policy: $policy") + "vary: {yes: {policy: accept}, no: {policy: errno}}\n"

    first, second = load(tmp_path, text.replace("yes:", "'yes':").replace("no:", "'no':"))

    assert (first.name, second.name) == ("sample-yes", "sample-no")
    assert (first.subscribers["dev"].policy, second.subscribers["dev"].policy) == ("accept", "errno")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "policy: accept",
            "polcy: accept",
            r"sample.yaml:7: unknown key 'polcy' in subscriber 'dev'.*did you mean 'policy'",
        ),
        ("policy: accept", "policy: acept", r"sample.yaml:7: unknown policy 'acept'.*did you mean 'accept'"),
        ("summary:", "sumary:", r"sample.yaml:2: unknown key 'sumary' in a scenario.*did you mean 'summary'"),
        ("buffer: held", "buffer: hold", r"sample.yaml:7: unknown buffer 'hold'.*did you mean 'held'"),
        ("size: 16M", "size: 16MB", r"sample.yaml:5: '16MB' is no size"),
        ("size: 16M", "size: 5000", r"sample.yaml:5: 5000 bytes are no whole pages of 4096"),
        ("seed: 1}", "seed: 1, expect: {minflt: '>= x'}}", r":9: minflt cannot be '>= x'"),
        ("touch: held", "tuch: held", r":9: a step begins with its verb, and 'tuch' is none.*did you mean 'touch'"),
        ("seed: 1", "sead: 1", r"sample.yaml:9: unknown key 'sead' in step 'touch'.*did you mean 'seed'"),
        ("pressure: memcg-charge", "pressure: memcg", r"sample.yaml:10: unknown pressure 'memcg'"),
        (", size: 96M", "", r"sample.yaml:10: pressure 'memcg-charge' lacks the key 'size'"),
        ("callbacks: 1", "callback: 1", r"unknown key 'callback' in exercised.*did you mean 'callbacks'"),
        ("callbacks: 1", "callbacks: lots", r"exercised callbacks is 'lots', not a whole number"),
        ("exercised: {callbacks: 1}", "", r"must say what it exercises"),
        (
            "summary: x",
            "summary: x\nsummary: y",
            r":3: the key 'summary' is given twice \(first in line 2\)",
        ),
        ("summary: x", "summary: [", r"sample.yaml:\d+: not YAML"),
        ("steps:", "timeout: -1\nsteps:", r"timeout is -1, not a whole number from 1 to 86400"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """File, line, what is wrong, and the nearest right word."""
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))

    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_name_are_usage_errors(tmp_path: Path) -> None:
    """Both tell what to do."""
    with pytest.raises(UsageError, match="no such file"):
        catalogue.choose([str(tmp_path / "none.yaml")])
    with pytest.raises(UsageError, match=r"unknown scenario 'memcg-acept'.*did you mean 'memcg-accept'"):
        catalogue.choose(["memcg-acept"])
