# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest

from harness.model import scenario, strict_yaml
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

    assert f"configuration base: {len(catalogue.choose([]))} pass; " in readme


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


def test_what_is_true_is_a_number_for_the_driver(tmp_path: Path) -> None:
    """As `end: false` of a selftest, which the driver reads as a number."""
    steps = "  - {selftest: mremap_test, policy: accept, end: false}\n"

    assert commands(tmp_path, steps)[0] == "selftest name=mremap_test policy=accept end=0"


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        ("{options: [KSM]}", ""),
        ("{options: [KSM, UPROBES, NUMA]}", "needs CONFIG_UPROBES, CONFIG_NUMA, which this kernel is built without"),
        ('{version: "6.1"}', ""),
        ('{version: "6.8"}', "needs Linux 6.8, and this is 6.1.192"),
        ('{until: "6.1"}', "is for Linux before 6.1, and this is 6.1.192"),
        ('{until: "6.2"}', ""),
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


# What is replaced in GOOD, by what, and what is then said.
FAULTS = [
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
    ("touch: held, seed: 1", "policy: dev", r"sample.yaml:9: step 'policy' lacks the key 'to'"),
    ("touch: held, seed: 1", "advise: held", r"sample.yaml:9: step 'advise' lacks the key 'advice'"),
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
    ("steps:", "needs: {until: 6.10}\nsteps:", r":8: 6.1 is not a version.*quote it: until"),
    ("seed: 1}", "seed: 1, in: kid}", r":9: unknown process 'kid'"),
    ("{touch: held, seed: 1}", "{wait: busy}", r":9: unknown thread 'busy'"),
    ("{touch: held, seed: 1}", "{advise: held, advice: colder}", r":9: unknown advice 'colder'.*mean 'cold'"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """File, line, what is wrong, and the nearest right word."""
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))

    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


STEP = "{touch: held, seed: 1}"


LATE_FAULTS = [
    # Findings that are expected: an oracle of ours, and an expression that RE2 takes.
    ("exercised:", "expect: {exercised: '('}\nexercised:", r":11: '\(' is not a regular expression: missing \)"),
    ("exercised:", "expect: {pairing: '(?=x)'}\nexercised:", r":11: .* is not a regular expression: invalid perl"),
    ("exercised:", "expect: {pairing: '(x)\\1'}\nexercised:", r":11: .* not a regular expression: invalid escape"),
    ("exercised:", "expect: {no-hnag: x}\nexercised:", r":11: unknown oracle 'no-hnag'.*mean 'no-hang'"),
    ("exercised:", "expect: {zzz: x}\nexercised:", r":11: unknown oracle 'zzz'.*known: clean-log, .*, selftests"),
    ("exercised:", "expect: {pairing: [x]}\nexercised:", r":11: what pairing is to find must be a text"),
    # Replies that are expected: a field that the step's reply has, and a value that it can have.
    (STEP, "{touch: held, expect: {majfalt: 0}}", r":9: unknown field 'majfalt' .* 'touch'.*mean 'majflt'"),
    (STEP, "{touch: held, expect: {held: 1}}", r":9: unknown field 'held' .*known: majflt, minflt, ms, pages"),
    (STEP, "{pages: held, expect: {held: 1}}", r":9: unknown field 'held'"),
    (STEP, "{advise: held, advice: cold, expect: {busy: 0}}", r":9: unknown field 'busy'"),
    (STEP, "{pressure: memcg-charge, size: 1M, expect: {short: true}}", r":9: unknown field 'short'"),
    (STEP, "{touch: held, expect: {majflt: true}}", r":9: majflt cannot be True .a number, all"),
    (STEP, "{touch: held, expect: {majflt: 0.5}}", r":9: majflt cannot be 0.5"),
    (STEP, "{touch: held, expect: {majflt: [0]}}", r":9: majflt cannot be \[0\]"),
    (STEP, "{stats: dev, expect: {own: all}}", r":9: own cannot be 'all'"),
    (
        STEP,
        "{touch: held, background: a}\n  - {asleep: a, expect: {uninterruptible: 1}}",
        r":10: .* .true or false",
    ),
    (STEP, "{touch: held, background: a, expect: {majflt: 0}}", r":9: the reply of a thread comes when"),
    (STEP, "{touch: held, background: a}\n  - {wait: a, expect: {times: 1}}", r":10: unknown field 'times'"),
    (STEP, "{wait: a, background: a, expect: {majflt: 1}}", r":9: the reply of a thread comes when"),
    # What the module would refuse, and a mirror whose answer the kernel does not follow.
    ("policy: accept", "interface: mirror, policy: eagain-mayfail", r":7: mirror 'dev' has the policy 'eagain-m"),
    (
        "accept}\nsteps:",
        "accept, interface: mirror}\nsteps:\n  - {policy: dev, to: eagain-always}",
        r":9: 'dev' is a mirror",
    ),
    ("policy: accept", "interface: interval, accessed: 'yes'", r":7: 'dev' is an interval, which is not asked"),
    (STEP, "{mirror: dev}", r":9: 'dev' is no mirror"),
    (STEP, "{compare: dev}", r":9: 'dev' is no mirror"),
    # What no device gets for itself, and huge pages that are none.
    (
        "policy: accept}\nsteps:",
        "interface: tlb}\nsteps:\n  - {mirror: dev, access: exclusive}",
        r":9: a device gets no page of 'held' for itself .that is for a mirror of anonymous",
    ),
    (
        "anon, size: 16M}\nsubscribers:\n  dev: {buffer: held, policy: accept}\nsteps:",
        "shmem, size: 16M}\nsubscribers:\n  dev: {buffer: held}\nsteps:\n  - {device-move: dev}",
        r":9: a driver moves no page of 'held' .that is for anonymous memory",
    ),
    (
        "policy: accept}\nsteps:",
        "interface: tlb}\nsteps:\n  - {advise: held, advice: cold, background: a}",
        r":9: 'dev' has interface: tlb, and may be told when a range is over",
    ),
    ("policy: accept", "interface: mirror, end_ms: 10", r":7: 'dev' has no invalidate_range_end that could wait"),
    ("policy: accept", "policy: accept, end: false, end_ms: 10", r":7: 'dev' has no invalidate_range_end that could"),
    ("policy: accept", "policy: accept, end_ms: 10001", r":7: end_ms is 10001, not a whole number from 0 to"),
    ("kind: anon, size: 16M", "kind: hugetlb, size: 1M", r":5: 1048576 bytes are not whole huge pages of 2M"),
    # What a line for the driver cannot hold, and what is looked up on the host.
    (STEP, '{write: /proc/x, value: "1\\nquit"}', r":9: value cannot be '1\\nquit'"),
    (STEP, "{write: /proc/x, value: 'a\"b'}", r":9: value cannot be 'a\"b'"),
    (STEP, "{write: /proc/x y, value: 1}", r":9: write cannot be '/proc/x y'"),
    (STEP, "{touch: [held]}", r":9: touch cannot be \['held'\]"),
    (STEP, "{touch: held, seed: {a: 1}}", r":9: seed cannot be"),
    (STEP, "{insmod: ../../evil}", r":9: insmod cannot be '../../evil'"),
    (STEP, "{selftest: ../evil, policy: accept}", r":9: selftest cannot be '../evil'"),
    # Numbers that no machine has, or with which no kernel boots.
    ("steps:", "shape: {memory: 1M}\nsteps:", r":8: 1048576 bytes of memory, and a guest needs 128M"),
    ("steps:", "shape: {memory: 9999999G}\nsteps:", r":8: '9999999G' is more than 1024G"),
    ("steps:", "shape: {cmdline: [quiet]}\nsteps:", r":8: cmdline must be text"),
    ("size: 16M", "size: [16M]", r":5: \['16M'\] is not a size"),
    ("size: 16M", f"size: {'9' * 4000}M", r":5: '9+M' is not a size"),
    (
        "  - {touch",
        "  - {touch: held}\n" * 1000 + "  - {touch",
        r":8: a scenario has 1 to 1000 steps, and this one",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), LATE_FAULTS)
def test_what_would_fail_after_the_run_fails_before_it(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A misspelt word is no fault of the kernel, and a boot is a high price for finding it."""
    test_a_fault_is_one_line_with_its_place(tmp_path, old, new, message)


def test_a_wait_may_expect_what_its_thread_replies(tmp_path: Path) -> None:
    steps = "{touch: held, background: a, again: true}\n  - {wait: a, expect: {majflt: '<= 3', times: 2, pages: all}}"

    (sample,) = load(tmp_path, GOOD.replace(STEP, steps))

    assert sample.steps[1].expect == {"majflt": "<= 3", "times": 2, "pages": "all"}


def test_an_expected_finding_is_matched_in_linear_time() -> None:
    """A backtracking matcher tries 2^60 ways here; and a text may hold what is not UTF-8."""
    expected = scenario.Expected("pairing", "^(a+)+$|bad")

    assert not expected.met_by("pairing", "a" * 60 + "b")
    assert expected.met_by("pairing", "\ud800 bad")
    assert not expected.met_by("no-hang", "bad")


BOMB = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in itertools.pairwise("abcdefgh"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'summary: x\nvary: "\0"\n', r":2: '\\x00' is not allowed in text"),
        (b'summary: x\nvary: "\\e[31m"\n', r":2: '\\x1b' is not allowed in text"),
        (b'summary: x\nvary: "\\ud800"\n', r":2: not YAML: found invalid Unicode"),
        ("summary: \u202eevil\n".encode(), r":1: '\\u202e' is not allowed in text"),
        (b"summary: x\nvary: \xff\n", r":2: byte 17 is not UTF-8"),
        (b"summary: x\ndefault: !!bool foo\n", r":2: the tag .*bool' is not allowed"),
        (b"summary: x\ntimeout: !!int ''\n", r":2: the tag .*int' is not allowed"),
        (b"summary: x\nvary: !!python/object:os.system x\n", r":2: the tag .* is not allowed"),
        (b"summary: x\ntimeout: " + b"9" * 6000, r":2: not a value: Exceeds the limit"),
        (b"summary: x\ntimeout: 0x_\n", r":2: not a value: invalid literal"),
        (b"summary: 2020-13-45\n", r":1: not a value: month must be"),
        (b"summary: 2020-10-10\n", r":1: summary must be text"),
        (b"2020-10-10: x\n", r":1: the key .* is not a word"),
        (BOMB.encode(), r":1: anchors and aliases are not allowed"),
        (b"summary: *x\n", r":1: anchors and aliases are not allowed"),
        (b"summary: " + b"[" * 20000, r":1: nested more than 32 deep"),
        (b"- " * 20000, r":1: nested more than 32 deep"),
        (b"summary: " + b"x" * 65536, r": cannot be read: more than 65536 bytes"),
        (b"<<: {summary: x}\n", r":1: not YAML"),
        (b"summary: x\n---\nsummary: y\n", r":2: not YAML"),
        (b"", r":1: the top level must be a mapping"),
    ],
)
def test_a_file_that_is_meant_to_hurt_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sample.yaml"
    path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        scenario.load(path, PRESSURES)

    assert re.search(f"sample.yaml{message}", str(caught.value)), str(caught.value)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and a device may never end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(UsageError, match=f"{name}.yaml: cannot be read"):
            scenario.load(tmp_path / f"{name}.yaml", PRESSURES)


def test_what_is_written_needs_no_anchors() -> None:
    """A search for scenarios writes the same mapping twice."""
    twice = {"policy": "accept"}

    assert "&" not in strict_yaml.dump({"one": twice, "two": twice})


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
