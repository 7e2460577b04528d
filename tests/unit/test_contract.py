# SPDX-License-Identifier: GPL-2.0-only
"""By which rules a kernel is judged: those of the patch, or those of Linux as it is."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from harness import oracles, pressures
from harness.commands import _options
from harness.commands.explore import Hunt
from harness.commands.explore import document as explored
from harness.host.progress import QUIET
from harness.kernel import contracts, patches, versions
from harness.kernel.source import fetch
from harness.model import recording as recordings
from harness.model import scenario as scenarios
from harness.model.contract import AUTO, EARLIER, Contract, ContractFacts
from harness.model.errors import UsageError
from harness.model.event import (
    BLOCKABLE,
    HAS_END,
    MAYFAIL,
    OBSERVED,
    OWN_BUFFER,
    PF_MEMALLOC,
    RECLAIM_STATE,
    UNMAP_ONE,
    Policy,
    RangeEvent,
)
from harness.model.recording import Recording
from harness.model.run import RunVerdict
from harness.model.scenario import Scenario, Subscriber
from harness.model.verdict import Outcome, ScenarioResult
from harness.oracles import exercised, mayfail_gate, owed, ranges
from harness.report import document, html, junit, ktap, lines
from harness.run import judging
from harness.variants import catalogue
from tests.unit.conftest import diff
from tests.unit.recordings import MUNMAP, Log, complaint, recording, scenario
from tests.unit.verdicts import run_of

EAGAIN = -errno.EAGAIN
KEYS = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
# A start in direct reclaim as a kernel without the patch makes it.
BARE = {"flags": BLOCKABLE}
MARKED = ["MMU_NOTIFIER_RANGE_MAYFAIL is set, and the contract stock has no such range"]


def stock(one: Recording) -> Recording:
    """The same recording, of a kernel that is judged by the contract stock."""
    return dataclasses.replace(one, contract=Contract.STOCK)


def gate(one: Recording) -> list[str]:
    return [finding.summary for finding in mayfail_gate.judge(one)]


# --- what the oracles demand --------------------------------------------------------------------------------------


def test_good_reclaim_of_a_stock_kernel_passes_by_its_own_contract_alone() -> None:
    log = Log()
    for _ in range(100):
        log.pair(**BARE)

    assert oracles.judge(stock(recording(log))) == []
    assert gate(recording(log)) == ["direct reclaim came without MMU_NOTIFIER_RANGE_MAYFAIL"]


def test_a_refusal_of_a_range_that_may_block_is_complained_about_under_stock() -> None:
    log = Log()
    log.start(**BARE, result=EAGAIN)
    log.end(**BARE)
    log.end(**BARE)

    assert gate(stock(recording(log, complaint()))) == []
    assert gate(stock(recording(log))) == [
        "−EAGAIN (-11) without MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: the kernel must warn and did not"
    ]


def test_the_patch_breaks_the_contract_stock() -> None:
    """By its mark, wherever that is, and by what it tolerates."""
    log = Log()
    log.pair()
    assert gate(stock(recording(log))) == MARKED

    log.pair(result=EAGAIN)
    assert gate(stock(recording(log))) == [
        *MARKED,
        "−EAGAIN (-11) with MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: the kernel must warn and did not",
    ]


def test_a_range_that_may_not_block_may_be_refused_under_each_contract() -> None:
    log = Log()
    log.start(**(MUNMAP | {"flags": 0, "result": EAGAIN, "event": int(RangeEvent.CLEAR)}))

    assert gate(recording(log)) == gate(stock(recording(log))) == []


def test_a_driver_that_promised_to_refuse_no_other_range_is_told_of_under_stock_too() -> None:
    log = Log()
    log.start(**BARE, result=EAGAIN, policy=int(Policy.EAGAIN_MAYFAIL))
    log.end(**BARE)
    log.end(**BARE)

    assert gate(stock(recording(log, complaint()))) == ["subscriber #1 refused a range that may not fail"]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "flags": st.sampled_from([0, BLOCKABLE, BLOCKABLE | MAYFAIL, MAYFAIL]),
                "pf_flags": st.sampled_from([0, PF_MEMALLOC]),
                "context": st.sampled_from([OWN_BUFFER | HAS_END, OWN_BUFFER | HAS_END | RECLAIM_STATE]),
                "result": st.sampled_from([0, EAGAIN, -errno.EBUSY]),
            }
        ),
        max_size=8,
    )
)
def test_the_contracts_differ_in_the_mark_and_in_nothing_else(starts: list[dict[str, Any]]) -> None:
    """Stock tells of a mark exactly where there is one; without a mark and reclaim, both say the same."""
    log = Log()
    for fields in starts:
        log.start(**fields)
    one = recording(log)

    assert (MARKED[0] in gate(stock(one))) is any(fields["flags"] & MAYFAIL for fields in starts)
    if not any(fields["flags"] & MAYFAIL or fields["pf_flags"] for fields in starts):
        assert gate(stock(one)) == gate(one)


def test_a_range_of_try_to_unmap_one_covers_whole_pages_whatever_its_flags() -> None:
    """Under stock no mark tells it from other ranges: probes do."""
    log = Log()
    context = OBSERVED | UNMAP_ONE | OWN_BUFFER | HAS_END | RECLAIM_STATE
    log.pair(**BARE, context=context, end=0x7F0000000800)

    found = [finding.summary for finding in ranges.judge(stock(recording(log)))]

    assert found == ["try_to_unmap_one() announces a range that does not cover whole pages"]
    log = Log()
    log.pair(**BARE, context=OWN_BUFFER | HAS_END, end=0x7F0000000800)
    assert list(ranges.judge(stock(recording(log)))) == []


# --- what a scenario must exercise --------------------------------------------------------------------------------


def asking(counted: dict[str, int], *policies: str) -> Scenario:
    """A scenario whose subscribers have these policies."""
    subscribers = {policy: Subscriber(policy, "held", policy) for policy in policies}
    return dataclasses.replace(scenario(counted), subscribers=subscribers)


@pytest.mark.parametrize(
    ("policies", "short"),
    [
        (["accept"], []),
        (["accept", "eagain-mayfail"], []),
        (["eagain-reclaim"], ["not enough eagain to judge"]),
        (["eagain-mayfail", "eagain-always"], ["not enough eagain to judge"]),
    ],
)
def test_what_only_a_mark_can_make_happen_is_not_demanded_of_a_stock_kernel(
    policies: Sequence[str], short: list[str]
) -> None:
    """A driver that refuses only what may fail refuses nothing there; one that refuses more was to refuse."""
    log = Log()
    log.pair(**BARE)
    plan = asking({"callbacks": 1, "mayfail": 1, "eagain": 1}, *policies)

    assert [finding.summary for finding in exercised.judge(stock(recording(log, plan=plan)))] == short
    assert len(list(exercised.judge(recording(log, plan=plan)))) == 2
    assert exercised.enough(stock(recording(log, plan=plan))) is (not short)


def test_everything_else_is_demanded_of_a_stock_kernel_too() -> None:
    plan = asking({"callbacks": 2, "mayfail": 1}, "accept")
    log = Log()
    log.pair(**BARE)

    assert judging.judge(stock(recording(log, plan=plan))).outcome is Outcome.INCONCLUSIVE
    log.pair(**BARE)
    assert judging.judge(stock(recording(log, plan=plan))).outcome is Outcome.PASS


def test_what_is_owed_is_owed_by_the_same_rule() -> None:
    plan = dataclasses.replace(asking({"callbacks": 1}, "accept"), owed={"mayfail": 1, "callbacks": 2})
    log = Log()
    log.pair(**BARE)

    found = [finding.summary for finding in owed.judge(stock(recording(log, plan=plan)))]

    assert found == ["callbacks did not follow from what was done"]


def test_reclaim_within_another_range_is_known_without_the_mark() -> None:
    """By the task's flags."""
    log = Log()
    log.start(**MUNMAP, range=1)
    log.pair(**BARE, range=2)
    log.end(**MUNMAP, range=1)

    assert exercised.count(stock(recording(log)))["nested"] == 1
    assert exercised.count(recording(log))["nested"] == 0


# --- which scenarios apply ----------------------------------------------------------------------------------------

SCENARIO = """\
summary: x
buffers: {held: {kind: anon, size: 4K}}
subscribers: {device: {buffer: held, policy: accept}}
steps: [{touch: held, seed: 1}]
exercised: {callbacks: 1}
"""


def load(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    (one,) = scenarios.load(path, KEYS)
    return one


def test_a_scenario_says_which_contract_it_is_about(tmp_path: Path) -> None:
    one = load(tmp_path, SCENARIO + "needs: {contract: mayfail}\n")

    assert one.needs.missing({}, "6.12.1", Contract.MAYFAIL) == ""
    assert one.needs.missing({}, "6.12.1", Contract.STOCK) == (
        "is for the contract mayfail, and this kernel is judged by stock"
    )
    both = load(tmp_path, SCENARIO)
    assert {both.needs.missing({}, "6.12.1", contract) for contract in Contract} == {""}


@pytest.mark.parametrize("word", ["stok", "[stock]", "1", "auto"])
def test_a_contract_that_there_is_not_is_refused_with_its_place(tmp_path: Path, word: str) -> None:
    with pytest.raises(UsageError, match=r"some\.yaml:6: unknown contract"):
        load(tmp_path, SCENARIO + f"needs: {{contract: {word}}}\n")


def test_each_of_our_scenarios_says_that_it_is_about_the_patch_or_proves_something_without() -> None:
    """A stock kernel runs more than half of them."""
    both = [one for one in catalogue.scenarios().values() if one.needs.contract is None]

    assert all(Contract.STOCK.demanded(one.exercised, one.policies) for one in both)
    assert len(both) > 100
    assert not [
        one.name for one in both if {"mayfail-trylock", "mayfail-fence"} & one.policies and one.name != "soak-mixed"
    ]


# --- which contract a kernel has ----------------------------------------------------------------------------------


def no_look() -> bool:
    raise AssertionError("the names of the patches say it")


@pytest.mark.parametrize("named", [["mayfail"], ["none"], ["mine.patch", "mayfail"], ["mayfail", "mutant.patch"]])
def test_the_patch_and_no_patch_at_all_are_judged_by_the_patch_s_contract(named: list[str]) -> None:
    """So that a kernel without it fails, which is what the patch is for."""
    assert contracts.choose(AUTO, named, no_look).used == Contract.MAYFAIL
    assert contracts.is_plain(named)


@pytest.mark.parametrize("contract", list(Contract))
def test_what_is_asked_for_is_what_is_judged(contract: Contract) -> None:
    chosen = contracts.choose(contract.value, ["mine.patch"], no_look)

    assert chosen == ContractFacts(contract.value, contract.value, "it was asked for")


@pytest.mark.parametrize(
    ("change", "contract"),
    [
        ("#define MMU_NOTIFIER_RANGE_MAYFAIL BIT(1)", "mayfail"),
        ("enum { MMU_NOTIFIER_RANGE_MAYFAIL = 2 };", "mayfail"),
        ("#define MMU_NOTIFIER_RANGE_MAYFAIL_NEVER 1", "stock"),
        ("int other;", "stock"),
    ],
)
@pytest.mark.usefixtures("variants")
def test_a_patch_of_the_user_s_has_the_contract_of_what_it_makes(
    toy: Path, cache: Path, tmp_path: Path, change: str, contract: str
) -> None:
    """In the header of notifiers, new or changed; a source that has the flag keeps it under any patch."""
    header = toy / "include/linux/mmu_notifier.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text("/* notifiers */\n")
    names = "--- a/include/linux/mmu_notifier.h\n+++ b/include/linux/mmu_notifier.h\n"
    (tmp_path / "x.patch").write_text(f"{names}@@ -1 +1 @@\n-/* notifiers */\n+{change}\n")
    source = fetch(str(toy), cache)
    made = patches.apply(patches.load([str(tmp_path / "x.patch")], source.version), source, cache)

    chosen = contracts.choose(AUTO, [str(tmp_path / "x.patch")], lambda: contracts.defines(source, made))

    assert chosen.used == contract
    assert "MMU_NOTIFIER_RANGE_MAYFAIL" in chosen.reason
    header.write_text(f"{change}\n")
    (tmp_path / "y.patch").write_text(diff("mm/rmap.c", "start(0)", "start(1)"))
    source = fetch(str(toy), cache)
    made = patches.apply(patches.load([str(tmp_path / "y.patch")], source.version), source, cache)
    assert contracts.defines(source, made) is (contract == "mayfail")


def test_a_source_without_the_header_is_stock(toy: Path, cache: Path) -> None:
    (toy / "include/linux/mmu_notifier.h").unlink(missing_ok=True)

    assert not contracts.defines(fetch(str(toy), cache), patches.Patched("none", {}))


def test_a_stock_kernel_has_no_patch_unless_one_is_named() -> None:
    parser = argparse.ArgumentParser()
    _options.kernel(parser)

    def asked(*words: str) -> tuple[str, Sequence[str]]:
        request = _options.kernel_request(parser.parse_args(words))
        return request.contract, request.patches

    assert asked() == (AUTO, (versions.PATCH,))
    assert asked("--contract", "stock") == ("stock", ("none",))
    assert asked("--contract", "mayfail") == ("mayfail", (versions.PATCH,))
    assert asked("--contract", "stock", "--patch", "mayfail") == ("stock", ("mayfail",))


# --- where it is said ---------------------------------------------------------------------------------------------

FACTS = ContractFacts("auto", "stock", "the \x1b[31msource <b> has no flag")


def verdict(facts: ContractFacts = FACTS) -> RunVerdict:
    return run_of([ScenarioResult("good", Outcome.PASS)], contract=facts)


def test_each_report_says_by_which_contract_it_judges() -> None:
    told = verdict()

    assert json.loads(document.render(told))["contract"] == FACTS.document()
    assert document.parse(document.render(told)).contract == FACTS
    (suite,) = JUnitXml.fromstring(junit.render(told))
    assert {entry.name: entry.value for entry in suite.properties()}["contract"] == "stock"
    for text in (ktap.render(told), html.render(told), "\n".join(lines.summary(told, "run", lambda *_: "pass"))):
        assert re.search(r"contract.*stock", text)
        assert "\x1b" not in text
        assert "<b>" not in html.render(told)


def test_a_run_that_ended_before_its_contract_was_known_claims_none() -> None:
    told = verdict(ContractFacts("auto", "", ""))

    assert document.parse(document.render(told)).contract.used == ""
    assert not any(line.startswith("contract") for line in lines.summary(told, "run", lambda *_: "pass"))
    assert "contract" not in ktap.render(told)


def test_a_verdict_of_an_earlier_version_was_given_by_the_patch_s_contract() -> None:
    older = json.loads(document.render(verdict()))
    del older["contract"]

    assert document.parse(json.dumps(older)).contract == EARLIER
    assert EARLIER.used == "mayfail"
    older["contract"] = {"requested": "auto", "used": "stok", "reason": ""}
    with pytest.raises(ValueError, match=r"contract\.used"):
        document.parse(json.dumps(older))


@pytest.mark.parametrize("contract", [*Contract, None])
def test_a_recording_is_judged_again_by_the_contract_that_it_has(tmp_path: Path, contract: Contract | None) -> None:
    """One of an earlier version by that of the patch."""
    log = Log()
    log.pair(**BARE)
    one = dataclasses.replace(recording(log), contract=contract or Contract.MAYFAIL)
    place = tmp_path / "sample"
    place.mkdir()
    (place / "console.log").write_bytes(one.console)
    (tmp_path / "events").mkdir()
    (tmp_path / "events/sample.bin").write_bytes(log.packed())
    content = json.loads(recordings.document(one, recordings.digests(place, "sample")))
    assert content["contract"] == one.contract
    if contract is None:
        del content["contract"]
    (place / "record.json").write_text(json.dumps(content))

    again = recordings.read(place, scenario())

    assert again.contract is one.contract
    assert bool(gate(again)) is again.contract.marks


def test_a_search_draws_no_driver_that_a_stock_kernel_must_complain_of_thousands_of_times() -> None:
    from harness.variants import generated

    seen: set[str] = set()

    @settings(derandomize=True, max_examples=40, deadline=None, database=None)
    @given(generated.scenarios(Contract.STOCK))
    def draw(drawn: dict[str, Any]) -> None:
        seen.update(one["policy"] for one in drawn["subscribers"].values())
        seen.update(step["to"] for step in drawn["steps"] if "policy" in step)

    draw()

    assert "eagain-reclaim" not in seen
    assert {"accept", "eagain-mayfail"} <= seen
    assert explored(Hunt(Path(), 1, contract=Contract.STOCK))["contract"] == "stock"


def test_each_state_of_a_search_for_a_change_is_judged_by_the_contract_of_its_bad_end(
    toy: Path, cache: Path, tmp_path: Path
) -> None:
    """A series that brings the flag is judged by the patch's contract before that, too."""
    from harness.bisect import kernels
    from harness.run.pipeline import KernelRequest

    (tmp_path / "y.patch").write_text(diff("mm/rmap.c", "start(0)", "start(1)"))

    def chosen(contract: str, *named: str) -> str:
        return kernels.contract(KernelRequest(str(toy), named, contract=contract), cache, QUIET)

    assert chosen(AUTO, "none") == chosen("mayfail", str(tmp_path / "y.patch")) == "mayfail"
    assert chosen(AUTO, str(tmp_path / "y.patch")) == chosen("stock", "none") == "stock"


@pytest.mark.parametrize(
    ("contract", "named", "said"),
    [
        ("mayfail", ["none"], []),
        ("mayfail", ["mayfail", "mine.patch"], []),
        ("mayfail", ["mine.patch"], ["--contract", "mayfail"]),
        ("stock", ["none"], ["--contract", "stock"]),
    ],
)
def test_how_to_see_a_culprit_says_by_which_contract_unless_the_patches_do(
    contract: str, named: list[str], said: list[str]
) -> None:
    from harness.commands import bisect
    from harness.run.pipeline import KernelRequest

    target = SimpleNamespace(name="abc", kernel=KernelRequest("git:x@abc", named, contract=contract))
    subject: Any = SimpleNamespace(
        space=SimpleNamespace(states=["abc"]), target=lambda _: target, before=lambda _: target
    )
    answer: Any = SimpleNamespace(first_bad="abc", sought={"scenario": "memcg-accept"})

    told = bisect._reproduce(argparse.Namespace(test=None), subject, answer)

    for line in told:
        words = line.split()
        assert words[-1] == "memcg-accept"
        assert words[words.index("--contract") :][:2] == said if said else "--contract" not in words


def test_every_state_of_a_subject_gets_the_contract_of_the_last(toy: Path, cache: Path, tmp_path: Path) -> None:
    """For patches here; commits and options have the same field."""
    from harness.bisect.subjects import Patches
    from harness.commands import bisect
    from harness.run.pipeline import KernelRequest

    (tmp_path / "y.patch").write_text(diff("mm/rmap.c", "start(0)", "start(1)"))
    terminal: Any = QUIET
    series = Patches(["y"], [str(tmp_path / "y.patch")], KernelRequest(str(toy), ("none",)))

    agreed = bisect._agreed(series, cache, terminal)

    assert {agreed.target(0).kernel.contract, agreed.goods[0].kernel.contract} == {"stock"}
    assert agreed.goods[0].kernel.patches == ("none",)
