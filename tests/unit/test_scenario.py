# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.model import scenario
from harness.model.errors import UsageError
from harness.run.planning import plan
from harness.variants import catalogue

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


def test_readme_shows_as_many_passes_as_the_default_set_has() -> None:
    """A guest test compares the whole line; this test needs no kernel."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

    assert f"configuration base: {len(catalogue.choose([]))} pass\n" in readme


def test_a_scenario_becomes_commands_in_order(tmp_path: Path) -> None:
    """Set-up, steps, tear-down; subscribers leave before their memory is unmapped."""
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


def commands(tmp_path: Path, steps: str) -> list[str]:
    """The commands of the sample with other steps, from its first step on."""
    (sample,) = load(tmp_path, re.sub(r"(?s)steps:.*(?=exercised)", f"steps:\n{steps}", GOOD))
    texts = [command.text for command in plan(sample)]
    return texts[next(i for i, text in enumerate(texts) if text.startswith("subscribe name=dev")) + 1 :]


def test_a_step_runs_in_a_child_process_or_in_the_background(tmp_path: Path) -> None:
    """Threads and processes that no step waited for or ended are so before subscribers and memory go."""
    steps = """\
  - {fork: kid}
  - {touch: held, seed: 1, in: kid, background: busy}
  - {pressure: memcg-charge, size: 1M, background: press}
  - {wait: busy, in: kid, expect: {pages: 4096}}
"""
    assert commands(tmp_path, steps)[:8] == [
        "fork name=kid",
        "@kid &busy touch name=held seed=1",
        "&press charge size=1M",
        "@kid wait name=busy",
        "wait name=press",
        "end name=kid",
        "release name=dev",
        "unsubscribe name=dev",
    ]


def test_what_a_child_process_made_goes_with_it(tmp_path: Path) -> None:
    """The driver neither makes nor takes down a subscriber of another process."""
    (sample,) = load(
        tmp_path,
        re.sub(r"(?s)steps:.*(?=exercised)", "steps: [{fork: kid}, {subscribe: dev, in: kid}, {kill: kid}]\n", GOOD),
    )

    texts = [command.text for command in plan(sample)]

    assert [text for text in texts if "name=dev" in text] == [
        "@kid subscribe name=dev buffer=held policy=accept interface=register end=1"
    ]
    assert "end name=kid" not in texts


def test_a_thread_does_a_step_again_and_again(tmp_path: Path) -> None:
    """It repeats the step until it is waited for, so only a thread can do that."""
    steps = "  - {pressure: memcg-charge, size: 1M, again: true, background: press}\n"

    assert commands(tmp_path, steps)[0] == "&press + charge size=1M"
    with pytest.raises(UsageError, match="only a thread does something again and again"):
        load(tmp_path, GOOD.replace("size: 96M}", "size: 96M, again: true}"))


def test_a_value_with_spaces_is_one_word_for_the_driver(tmp_path: Path) -> None:
    """A probe of tracefs is such a value."""
    steps = "  - {write: /sys/kernel/tracing/uprobe_events, value: 'p:one /tmp/text:0x0'}\n"

    assert commands(tmp_path, steps)[0] == 'write path=/sys/kernel/tracing/uprobe_events value="p:one /tmp/text:0x0"'


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        ("{options: [KSM]}", ""),
        ("{options: [KSM, UPROBES, NUMA]}", "needs CONFIG_UPROBES, CONFIG_NUMA, which this kernel is built without"),
        ('{version: "6.1"}', ""),
        ('{version: "6.8"}', "needs Linux 6.8, and this is 6.1.192"),
        ("{without: [NUMA]}", ""),
        ("{without: [NUMA, KSM]}", "is for kernels without CONFIG_KSM, and this one has it"),
    ],
)
def test_a_scenario_names_what_a_kernel_lacks_for_it(tmp_path: Path, needs: str, missing: str) -> None:
    """Options are checked by the kernel's configuration, =m included, a version by its release."""
    (sample,) = load(tmp_path, GOOD + f"needs: {needs}\n")

    assert sample.needs.missing({"KSM": "m"}, "6.1.192") == missing


def test_vary_makes_one_scenario_a_word(tmp_path: Path) -> None:
    """An axis is one entry, not a copy of the file."""
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
        ("size: 16M", "size: 16MB", r"sample.yaml:5: '16MB' is not a size"),
        ("size: 16M", "size: 5000", r"sample.yaml:5: 5000 bytes are not whole pages of 4096"),
        ("seed: 1}", "seed: 1, expect: {minflt: '>= x'}}", r":9: minflt cannot be '>= x'"),
        ("touch: held", "tuch: held", r":9: a step begins with its verb, and 'tuch' is not a verb.*mean 'touch'"),
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
        ("steps:", "never: [mayfal]\nsteps:", r":8: unknown counter 'mayfal'.*did you mean 'mayfail'"),
        ("steps:", "needs: {options: [CONFIG-X]}\nsteps:", r":8: options must be names like KSM"),
        ("steps:", "needs: {version: 6.10}\nsteps:", r":8: 6.1 is not a version.*quote it"),
        ("seed: 1}", "seed: 1, in: kid}", r":9: unknown process 'kid'"),
        ("{touch: held, seed: 1}", "{wait: busy}", r":9: unknown thread 'busy'"),
        ("{touch: held, seed: 1}", "{advise: held, advice: colder}", r":9: unknown advice 'colder'.*mean 'cold'"),
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


@pytest.mark.parametrize("offset", ["16M", "100", "4K100"])
def test_a_subscribers_offset_lies_in_its_buffer(tmp_path: Path, offset: str) -> None:
    """A driver's refusal would come after a boot."""
    with pytest.raises(UsageError, match=r"sample\.yaml:.*(not in whole pages|is not a size)"):
        load(tmp_path, GOOD.replace("policy: accept", f"policy: accept, offset: {offset}"))


def test_a_subscriber_is_for_its_buffer_from_the_offset_on(tmp_path: Path) -> None:
    (sample,) = load(tmp_path, GOOD.replace("policy: accept", "policy: accept, offset: 8M"))

    assert any(command.text.endswith(f" offset={8 << 20}") for command in plan(sample))
