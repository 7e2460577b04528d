# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.matrix_simulation import night
from harness import cli
from harness.kernel import versions
from harness.matrix import plan as plans
from harness.matrix import shard
from harness.matrix.job import Job
from harness.matrix.shard import Durations
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from tests.unit.matrices import TWO, plan_of

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = ROOT / "plans" / "nightly.yaml"


def test_each_point_of_the_axes_is_a_job_and_what_is_expected_goes_with_it(tmp_path: Path) -> None:
    jobs = plan_of(tmp_path).jobs

    assert [(job.patch, job.expected.verdict, job.expected.oracles) for job in jobs] == [
        (("mayfail",), Outcome.PASS, ()),
        (("none",), Outcome.FAIL, ("mayfail-gate",)),
    ]
    assert [job.name for job in jobs] == ["6.12_mayfail_base_memcg-accept", "6.12_none_base_memcg-accept"]
    assert jobs[1].command == "harness run --source debian:6.12 --patch none memcg-accept"


def test_excludes_leave_out_and_includes_come_on_top(tmp_path: Path) -> None:
    text = """\
kernels: [debian:6.12, debian:6.1]
configs: [base, [lockdep, kasan]]
exclude: [{config: [lockdep, kasan], kernel: debian:6.1}, {config: base}]
include: [{kernel: debian:6.1, contract: stock, config: base, repeat: 3}]
"""

    (made, included) = plan_of(tmp_path, text).jobs

    assert made.command == "harness run --source debian:6.12 --config lockdep --config kasan"
    assert included.command == "harness run --source debian:6.1 --contract stock --repeat 3"
    assert included.title == "debian:6.1 + none by stock, base: the default set × 3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernel: [debian:6.12]", "1: unknown key 'kernel' in a plan (did you mean 'kernels'?)"),
        ("summary: x", "1: a plan lacks the key 'kernels'"),
        ("kernels: []", "1: $.kernels: []"),
        ("kernels: [6.12]", "1: $.kernels[0]: 6.12 is not of type 'string'"),
        ("kernels: [debian:6.12]\nconfigs: [lokdep]", "2: --config lokdep: no such fragment"),
        ("kernels: [debian:6.12]\npatches: [mayfial]", "2: there is no patch 'mayfial' (did you mean 'mayfail'?)"),
        ("kernels: [debian:6.12]\npatches: [[none, mayfail]]", "2: none beside mayfail"),
        ("kernels: [debian:6.12]\npatches: ['-']", "2: a matrix has no standard input"),
        ("kernels: [debain:6.12]", "1: there is no kernel 'debain:6.12' (did you mean 'debian:6.12'?)"),
        ("kernels: [git:/no/such@HEAD]", "1: there is no kernel"),
        ("kernels: [debian:6.12]\ncontracts: [stok]", "2: there is no contract 'stok' (did you mean 'stock'?)"),
        ("kernels: [debian:6.12]\naccelerators: [kvn]", "2: there is no accelerator 'kvn' (did you mean 'kvm'?)"),
        ("kernels: [debian:6.12]\nqemus: [9.2]", "2: $.qemus[0]"),
        ("kernels: [debian:6.12]\nqemus: ['9.2']", "2: '9.2' is not the path of a QEMU"),
        ("kernels: [debian:6.12]\nscenarios: [memcg-eagian]", "2: unknown scenario 'memcg-eagian' (did you mean"),
        ("kernels: [debian:6.12]\nscenarios: [[default, all]]", "2: default beside other scenarios"),
        ("kernels: [debian:6.12]\nrepeats: [0]", "2: $.repeats[0]: 0 is less than the minimum of 1"),
        ("kernels: [debian:6.12]\nminutes: 0", "2: $.minutes: 0 is less"),
        ("kernels: [debian:6.12]\nexclude:\n- {kernl: x}", "3: unknown key 'kernl' in an entry of exclude (did you"),
        ("kernels: [debian:6.12]\nexclude:\n- {kernel: x}", "3: no job has kernel: x, which exclude names"),
        ("kernels: [debian:6.12]\nexclude:\n- {kernel: debian:6.12}", "has no job: everything is excluded"),
        ("kernels: [debian:6.12]\nexpect:\n- {patch: none, verdict: fail}", "3: no job has patch: none"),
        ("kernels: [debian:6.12]\nexpect:\n- {patch: mayfail, oracle: paring}", "3: unknown oracle 'paring' (did you"),
        (
            "kernels: [debian:6.12]\nexpect:\n- {patch: mayfail, oracle: pairing, verdict: pass}",
            "3: only a failure has an oracle",
        ),
        ("kernels: [debian:6.12]\ninclude:\n- {config: lokdep}", "3: "),
        ("kernels: [debian:6.12]\ninclude: 7", "2: $.include: 7 is not of type 'array'"),
        ("- 1", "1: the top level must be a mapping"),
        ("kernels: &a [debian:6.12]", "1: anchors and aliases are not allowed"),
        ("kernels: [debian:6.12]\nrepeats: [" + ", ".join(map(str, range(1, 101))) + "]\n"
         "configs: [" + ", ".join(f"[{word}]" for word in ("kasan", "lockdep") * 600) + "]", "120000 jobs (limit"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_the_right_word(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        plan_of(tmp_path, text)

    assert said in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_a_night_has_each_kernel_that_is_served_with_and_without_the_patch() -> None:
    jobs = plans.read(NIGHTLY).jobs

    for contract in ("mayfail", "stock"):
        for config in ((), ("lockdep",), ("kasan",)):
            served = {job.kernel for job in jobs if job.contract == contract and job.config == config}
            assert served == set(versions.sources())
    assert {job.kernel for job in jobs if job.expected.verdict is Outcome.FAIL} == set(versions.sources())
    assert {job.kernel for job in jobs if job.config == ("selftests",)} == set(versions.sources())
    assert len({job.name for job in jobs}) == len(jobs)


@pytest.mark.parametrize("job", plans.read(NIGHTLY).jobs, ids=lambda job: job.name)
def test_each_job_of_the_night_is_a_command_that_a_person_can_type(job: Job) -> None:
    program, *words = shlex.split(job.command)

    assert program == "harness"
    assert cli.parse(words).source == job.kernel
    assert cli.parse([*job.words("/tmp/out")]).out == Path("/tmp/out")
    assert cli.parse(job.build_words()).source == job.kernel


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150)
JOBS = st.builds(
    Job,
    kernel=TEXTS,
    patch=st.lists(TEXTS, max_size=3).map(tuple),
    config=st.lists(TEXTS, max_size=3).map(tuple),
    scenarios=st.lists(TEXTS, max_size=3).map(tuple),
    qemu=st.one_of(st.just(""), TEXTS),
    repeat=st.integers(1, 99),
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(JOBS, JOBS)
def test_a_name_is_a_folder_of_its_own(one: Job, other: Job) -> None:
    for job in (one, other):
        assert Path(job.name).name == job.name
        assert len(job.name.encode()) < 200
        assert job.name.isascii()
        assert not job.name.startswith((".", "-"))
    facts = [job.document() | {"patch": list(job.value("patch"))} for job in (one, other)]
    assert (one.name == other.name) == (facts[0] == facts[1])
    assert Job.restore(one.document()) == one


SMALL = st.builds(
    Job,
    kernel=st.sampled_from(["debian:6.12", "debian:6.1", "debian:7.2", "debian:7.3"]),
    config=st.sampled_from([(), ("kasan",), ("lockdep",)]),
    scenarios=st.sampled_from([("memcg-accept",), ("memcg-eagain",), ("signals-storm",)]),
    repeat=st.integers(1, 3),
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(SMALL, unique=True, min_size=1, max_size=40),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
    st.floats(0, 500),
)
def test_shards_have_each_job_once_are_stable_and_balanced(jobs: list[Job], count: int, random, build_s: float) -> None:
    durations = Durations(
        {job.name: [random.uniform(0, 1000)] for job in jobs if random.random() < 0.8},
        {job.build: build_s for job in jobs},
    )
    shuffled = random.sample(jobs, len(jobs))

    parts = shard.parts(jobs, durations, count)

    assert shard.parts(shuffled, durations, count) == parts
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in jobs)
    even = shard.seconds(jobs, durations) / count
    longest = max(durations.of(job) for job in jobs)
    # Each kernel that is built twice, and the last piece of each shard, come on top of an even part.
    assert max(shard.seconds(part, durations) for part in parts) <= even * 2.25 + longest + 2 * build_s + 1e-6
    whole = {group.jobs[0].build: group.seconds for group in shard.groups(jobs, durations)}
    for build, seconds in whole.items():
        if seconds <= even:
            assert sum(any(job.build == build for job in part) for part in parts) == 1


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/4", "1/999999"])
def test_a_shard_is_one_of_so_many(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shard.parse(text)


def test_the_same_plan_has_another_digest_when_it_is_edited(tmp_path: Path) -> None:
    assert plan_of(tmp_path).digest != plan_of(tmp_path, TWO + "minutes: 5\n").digest


def test_one_kernel_of_a_plan_and_one_accelerator_make_another_plan() -> None:
    whole, part = plans.read(NIGHTLY), plans.read(NIGHTLY, kernel="debian:6.1", accel="kvm")

    assert {job.kernel for job in part.jobs} == {"debian:6.1"}
    assert all(job.command.count("--accel kvm") == 1 for job in part.jobs)
    assert part.digest != whole.digest
    with pytest.raises(UsageError, match=r"has no job for --source debian:6\.2"):
        plans.read(NIGHTLY, kernel="debian:6.2")


@pytest.mark.parametrize(
    ("jobs", "hosts", "kernels", "lost"), [(40, 3, 4, 0), (40, 3, 4, 2), (1, 9, 1, 0), (7, 1, 7, 0)]
)
def test_a_simulated_night_runs_everything_and_a_host_costs_one_retry(
    jobs: int, hosts: int, kernels: int, lost: int
) -> None:
    found = night(jobs, hosts, kernels, lost=lost)

    assert found.took >= max(found.critical, found.work / hosts)
    assert found.again == lost
    assert found == night(jobs, hosts, kernels, lost=lost)
