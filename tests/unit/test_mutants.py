# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from harness import oracles
from harness.cli import main
from harness.commands import mutants as campaign
from harness.commands.mutants import Trial
from harness.host import process
from harness.host.progress import QUIET
from harness.host.workspace import data
from harness.kernel import patches, source, versions
from harness.model.contract import Contract
from harness.model.errors import CannotTest, MachineError, UsageError
from harness.model.run import RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report.document import render
from harness.run.pipeline import KernelRequest, RunRequest
from harness.terminal import Terminal
from harness.variants import catalogue, instruments, mutants
from harness.variants.mutants import Mutant
from tests.unit.verdicts import run_of

MUTANTS = mutants.catalogue()
FILES = [mutant for ports in MUTANTS.values() for mutant in ports]
SCENARIOS = {"all"} | {
    name for scenario in catalogue.scenarios().values() for name in (scenario.name, scenario.path.stem)
}
ORACLES = set(oracles.catalogue())
CONFIGS = sorted(data("kernel-configs").glob("*.config"))
FAULT = "/sys/module/notifier_hold/parameters/fault"
HEAD = "SPDX-License-Identifier: GPL-2.0-only\nSubject: ends nothing\nKernels: 6.1, 6.12\n"


def mutant(expected: str = "pairing", also: tuple[str, ...] = ()) -> Mutant:
    return Mutant("planted", Path("planted.patch"), "planted", expected, also, ("memcg-eagain",), ("6.12",))


def request_to(out: Path, jobs: int = 0, configs: tuple[str, ...] = ()) -> RunRequest:
    return RunRequest(KernelRequest(configs=configs), instruments.NOTIFIER_HOLD, (), jobs=jobs, out=out)


def verdict(outcome: str, **found: str) -> RunVerdict:
    """The verdict on a run of one scenario, with what each oracle found."""
    findings = tuple(Finding(name.replace("_", "-"), text) for name, text in found.items())
    return ran_on([ScenarioResult("memcg-eagain", Outcome(outcome), findings)])


def ran_on(results: list[ScenarioResult], error: str = "") -> RunVerdict:
    """A verdict with these results; error: why the run could not be judged."""
    return run_of(results, error=error, forced=Outcome.INCONCLUSIVE if error else None)


# --- the files


def test_there_are_enough_ways_to_get_it_wrong_on_each_kernel_and_to_write_it_otherwise() -> None:
    """And each that is known is ported, or said to be missing."""
    for version in versions.served():
        chosen, missing = mutants.choose((), version)

        assert {entry.name for entry in chosen} | set(missing) == set(MUTANTS)
        assert sum(not entry.equivalent for entry in chosen) >= 16
        assert sum(entry.equivalent for entry in chosen) >= 5
        assert sum(entry.name.startswith("rare-") for entry in chosen) >= 3


def test_every_oracle_that_judges_a_kernel_has_a_mutant_that_only_it_need_see() -> None:
    expected = {entry.expected for entry in FILES if not entry.equivalent}

    assert expected >= {"pairing", "mayfail-gate", "integrity", "no-hang"}


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: str(entry.path.relative_to(entry.path.parents[1])))
def test_a_file_names_scenarios_and_oracles_that_there_are_and_holds_a_diff(entry: Mutant) -> None:
    assert entry.in_module or set(entry.scenarios) <= SCENARIOS
    assert {*filter(None, [entry.expected]), *entry.also} <= ORACLES
    if entry.in_module:
        (scenario,) = catalogue.choose(entry.scenarios)
        assert (scenario.steps[0].verb, scenario.steps[0].target) == ("write", FAULT)
    else:
        assert len(patches.load([str(entry.path)], "6.12").patches) == 1
        assert re.search(r"^\n.*\n?---\ndiff --git", entry.path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_ports_of_a_mutant_are_the_same_mutant(name: str) -> None:
    ports = MUTANTS[name]

    assert len({(entry.summary, entry.expected, entry.also, entry.scenarios) for entry in ports}) == 1
    kernels = [(kernel, contract) for entry in ports for kernel in entry.kernels for contract in entry.contracts]
    assert len(set(kernels)) == len(kernels)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Subject: no licence\n", "needs a line 'SPDX-License-Identifier: …'"),
        (HEAD, "needs one of 'Expected-oracle: NAME' and 'Equivalent: yes'"),
        (HEAD + "Expected-oracle: pairing\nEquivalent: yes\n", "needs one of"),
        (HEAD + "Expected-oracle: paring\nScenarios: all\n", "unknown oracle 'paring'"),
        (HEAD + "Expected-oracle: pairing\n", "needs a line 'Scenarios: …'"),
        (HEAD + "Scenario: all\n", "x.patch:4: 'Scenario' is no field of a mutant"),
        (HEAD + "Equivalent: yes\nTimeout: soon\n", "Timeout is 'soon', no whole number of seconds"),
        (HEAD + "Kernels: 6.6\n", "x.patch:4: 'Kernels' is there twice"),
        (HEAD + "Equivalent: yes\nContract: stok\n", "unknown contract 'stok'"),
        (HEAD + "Equivalent: yes\nContract: ,\n", "names no contract"),
        (HEAD + "Equivalent: yes\nFixed-by: 12345\n", "Fixed-by is '12345', no commit"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x.patch"
    path.write_text(text + "\n---\ndiff --git a/x b/x\n")

    with pytest.raises(UsageError, match=re.escape(complaint)):
        mutants.load(path)


def test_a_port_serves_its_version_and_those_up_to_the_next_kernel_that_is_served() -> None:
    """What nobody has ported is missing there: it could apply in another function, and be another mutant."""
    old = Mutant("m", Path("6.1/m.patch"), "", "pairing", (), (), ("6.1",))
    new = Mutant("m", Path("m.patch"), "", "pairing", (), (), ("6.12",))

    assert mutants.port([old, new], "6.6.3") is old
    assert mutants.port([new, old], "6.12.117") is new
    assert mutants.port([old, new], "6.18.0") is new
    assert mutants.port([old, new], "5.10.200") is old
    assert mutants.port([old, new], "7.3.4") is None


def test_a_mutant_is_tried_by_the_first_contract_that_is_asked_for_and_that_it_has_a_file_for() -> None:
    """A file for stock kernels is another one where the patch changes the same lines."""
    stock = ("range-is-one-page", "range-starts-at-the-vma", "ksm-merges-in-silence", "unmarked")

    tried = {one.name: one for one in mutants.choose(stock, "6.12.117")[0]}
    assert {name: one.contract for name, one in tried.items()} == {
        "range-is-one-page": Contract.MAYFAIL,
        "range-starts-at-the-vma": Contract.STOCK,
        "ksm-merges-in-silence": Contract.MAYFAIL,
        "unmarked": Contract.MAYFAIL,
    }
    chosen, missing = mutants.choose(stock, "6.12.117", (Contract.STOCK,))
    assert {one.name: one.path.parent.name for one in chosen} == {
        "range-is-one-page": "stock",
        "range-starts-at-the-vma": "stock",
        "ksm-merges-in-silence": "mutants",
    }
    assert missing == ["unmarked"]
    assert "unmarked" not in mutants.choose((), "6.1.9", (Contract.STOCK,))[1], "it is none of them"


def test_twenty_faults_that_linux_had_are_tried_on_a_stock_kernel() -> None:
    """Each with a commit that brought or ended it, and a scenario that a stock kernel runs."""
    chosen, _ = mutants.choose((), "6.12.117", (Contract.STOCK,))

    assert len([one for one in chosen if one.history]) >= 20
    for one in chosen:
        assert any(found.needs.contract is None for found in catalogue.choose(one.scenarios)), one.name


def test_no_other_is_tried_with_the_scenarios_of_a_configuration_that_it_lacks() -> None:
    assert {name for entry in FILES for name in entry.configs} <= {path.stem for path in CONFIGS}
    assert not {"mirror-numa-hint", "mirror-uprobe"} & set(mutants.scenarios("6.12.117"))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown mutant 'skips-the-ends'"):
        mutants.choose(["skips-the-ends"], "6.12")


def test_what_changes_the_header_that_all_include_comes_last() -> None:
    chosen, _ = mutants.choose((), "6.12.117")

    order = [entry.costs_headers for entry in chosen]
    assert order == sorted(order)


def test_they_are_listed_with_the_oracle_that_must_see_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "mutants", "--json"]) == 0

    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(MUTANTS)
    assert listed["skips-the-end"]["expected"] == "pairing"
    assert listed["switch"]["expected"] == "none: equivalent"


# --- what a run proves


@pytest.mark.parametrize(
    ("entry", "ran", "word", "good", "code", "note"),
    [
        (mutant(), verdict("fail", pairing="lost"), "killed", True, 0, ""),
        (mutant(), verdict("pass"), "survived", False, 1, "pairing saw nothing"),
        (mutant(), verdict("fail", integrity="torn"), "survived", False, 1, "but integrity (memcg-eagain: torn)"),
        (
            mutant(),
            verdict("fail", pairing="lost", integrity="torn"),
            "killed",
            False,
            1,
            "by accident also integrity",
        ),
        (mutant(also=("integrity",)), verdict("fail", pairing="a", integrity="b"), "killed", True, 0, ""),
        # A finding that only shows how little happened proves nothing about the mutant.
        (mutant(), verdict("inconclusive", exercised="too little"), "survived", False, 1, "too little happened in"),
        (mutant(), verdict("error"), "error", False, 128, "not judged"),
        (mutant(), ran_on([], "no"), "error", False, 125, "no"),
        (mutant(), None, "error", False, 128, "not judged"),
        (mutant(""), verdict("pass"), "survived", True, 0, ""),
        (mutant(""), verdict("fail", pairing="lost"), "killed", False, 1, "falsely accused: pairing"),
        (mutant(""), verdict("inconclusive", exercised="too little"), "error", False, 125, "not judged"),
    ],
)
def test_a_mutant_is_killed_by_the_oracle_that_its_file_names_and_by_no_other(
    entry: Mutant, ran: RunVerdict | None, word: str, good: bool, code: int, note: str
) -> None:
    trial = Trial(entry, ran)

    assert (trial.verdict, trial.good, trial.exit_code) == (word, good, code)
    assert note in trial.note
    assert bool(trial.note) is not good


@pytest.mark.parametrize(
    ("ran", "code"),
    [
        ([verdict("fail", pairing="lost")], 0),
        ([verdict("fail", pairing="lost"), verdict("pass"), None], 1),
        ([verdict("fail", pairing="lost"), None], 128),
        ([ran_on([], "does not build")], 125),
    ],
)
def test_one_survivor_decides_then_what_could_not_be_judged(ran: list[RunVerdict | None], code: int) -> None:
    trials = [Trial(mutant(), entry) for entry in ran]

    assert campaign.Campaign(trials, (), Path()).exit_code == code


def test_the_document_keeps_equivalents_apart() -> None:
    trials = [Trial(mutant(), verdict("fail", pairing="lost")), Trial(mutant(""), verdict("pass"))]

    told = campaign.Campaign(trials, ["older"], Path("runs/1")).document()

    (killed,), (survived,) = told["mutants"], told["equivalents"]
    assert {key: killed[key] for key in ("name", "expected", "killed_by", "verdict")} == {
        "name": "planted", "expected": "pairing", "killed_by": ["pairing"], "verdict": "killed",
    }  # fmt: skip
    assert survived["verdict"] == "survived"
    assert told["skipped"] == ["older"]


def test_the_matrix_shows_who_saw_what(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [
        Trial(mutant(also=("no-hang",)), verdict("fail", pairing="a", integrity="b", no_hang="c")),
        Trial(mutant(), verdict("pass")),
    ]

    Terminal().table(*campaign.matrix(campaign.Campaign(trials, (), Path("runs/1"))))

    header, first, second = capsys.readouterr().err.splitlines()[:3]
    assert header.split() == ["mutant", "integrity", "no-hang", "pairing", "verdict"]
    assert first.split() == ["planted", "!", "+", "X", "killed"]
    assert second.split() == ["planted", "-", "survived"]


# --- the campaign


@pytest.mark.parametrize(
    ("contract", "kernels"),
    [
        ("auto", [["mayfail"], ["mayfail", "unmarked"], ["none"], ["range-starts-at-the-vma"]]),
        ("stock", [["none"], ["range-starts-at-the-vma"]]),
        ("mayfail", [["mayfail"], ["mayfail", "unmarked"]]),
    ],
)
def test_a_stock_mutant_breaks_a_stock_kernel_that_went_first(
    ran: list[list[str]], tmp_path: Path, contract: str, kernels: list[list[str]]
) -> None:
    """Each kernel is judged by the contract of its mutants; what has none that was asked for is named."""
    request = request_to(tmp_path / "out", 1)
    request = dataclasses.replace(request, kernel=dataclasses.replace(request.kernel, contract=contract))

    done = campaign.run(request, ["unmarked", "range-starts-at-the-vma"], tmp_path, QUIET, lambda _: None)

    def said(words: list[str], option: str) -> list[str]:
        return [Path(value).stem for word, value in itertools.pairwise(words) if word == option]

    assert sorted(said(words, "--patch") for words in ran) == sorted(kernels)
    stock = [said(words, "--contract") == ["stock"] for words in ran]
    assert stock == ["mayfail" not in said(words, "--patch") for words in ran]
    assert len(done.skipped) == (0 if contract == "auto" else 1)
    assert {told["contract"] for told in done.document()["mutants"]} == (
        {"mayfail", "stock"} if contract == "auto" else {contract}
    )


def test_one_of_another_configuration_has_an_unbroken_kernel_of_its_own(ran: list[list[str]], tmp_path: Path) -> None:
    """Without that its lines would not be built, and it would survive."""
    names = ["unmarked", "hinting-tells-nobody", "uprobe-tells-nobody"]

    campaign.run(request_to(tmp_path / "out", 1, ("lockdep",)), names, tmp_path, QUIET, lambda _: None)

    def configs(words: list[str]) -> list[str]:
        return [value for word, value in itertools.pairwise(words) if word == "--config"]

    kernels = [["lockdep"], ["lockdep", "numa"], ["lockdep", "uprobes"]]
    assert [configs(words) for words in ran] == [*kernels, *kernels]
    outs = [Path(words[words.index("--out") + 1]).name for words in ran]
    assert outs == ["unbroken", "unbroken-numa", "unbroken-uprobes", *names]


@pytest.mark.parametrize("said", [render(verdict("fail", integrity="torn")), ""])
def test_where_one_configuration_does_not_pass_the_others_are_tried(
    said: str, ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = process.run

    def run(argv: list[str], **keys: object) -> process.Completed:
        done = good(argv, **keys)  # type: ignore[arg-type]
        return dataclasses.replace(done, status=1, stdout=said) if "numa" in argv else done

    monkeypatch.setattr(process, "run", run)

    done = campaign.run(
        request_to(tmp_path / "out", 1), ["unmarked", "hinting-tells-nobody"], tmp_path, QUIET, lambda _: None
    )

    assert [trial.mutant.name for trial in done.trials if trial.ran] == ["unmarked"]
    untried = done.trials[1]
    assert untried.verdict == "error"
    assert "the patch --config numa as it is does not pass" in untried.error
    assert [Path(words[words.index("--out") + 1]).name for words in ran] == ["unbroken", "unbroken-numa", "unmarked"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every `harness run` that a campaign starts passes, or fails by pairing when a mutant is in it; their words."""
    started: list[list[str]] = []

    def run(argv: list[str], **_: object) -> process.Completed:
        started.append(argv)
        broken = any("skips-the-end" in word for word in argv)
        said = render(verdict("fail", pairing="lost") if broken else verdict("pass"))
        return process.Completed(tuple(argv), 0, said, "")

    class Tree:
        version = "6.12.117"

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(source, "fetch", lambda *_: Tree)
    return started


def test_the_unbroken_patch_goes_first_with_all_that_the_mutants_are_tried_with(
    ran: list[list[str]], tmp_path: Path
) -> None:
    request = request_to(tmp_path / "out", 2, ("zram",))
    told: list[Trial] = []

    done = campaign.run(request, ["skips-the-end", "switch"], tmp_path, QUIET, told.append)

    assert [trial.mutant.name for trial in told] == ["skips-the-end", "switch"]
    assert done.exit_code == 0
    unbroken, *others = ran
    assert unbroken[:4] == [sys.executable, "-m", "harness.cli", "run"]
    assert all("--no-patch-coverage" in argv for argv in ran), "it costs 6 s a mutant"
    assert [word for word in unbroken if word.endswith(".patch")] == []
    assert {"after-reclaim", "munmap-eagain", "lazyfree"} <= set(unbroken)
    assert not any("soak" in word or "deadlock" in word for word in unbroken)
    broken, switch = sorted(others, key=len)
    assert len(switch) > len(broken)
    assert broken[broken.index("--patch") :][:4] == [
        "--patch",
        "mayfail",
        "--patch",
        broken[broken.index("--patch") + 3],
    ]
    assert broken[broken.index("--config") + 1] == "zram"
    assert json.loads((tmp_path / "out" / "mutants.json").read_text())["mutants"][0]["verdict"] == "killed"


@pytest.mark.usefixtures("ran")
def test_what_was_tried_outlives_an_interrupt(tmp_path: Path) -> None:
    """So do the names of the mutants that were not tried."""

    def stop(_: Trial) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign.run(
            request_to(tmp_path / "out"),
            ["skips-the-end", "switch"],
            tmp_path,
            QUIET,
            stop,
        )

    kept = json.loads((tmp_path / "out" / "mutants.json").read_text())
    assert [trial["name"] for trial in kept["mutants"]] == ["skips-the-end"]
    assert (kept["equivalents"], kept["untried"]) == ([], ["switch"])


def test_the_whole_set_can_be_asked_for(ran: list[list[str]], tmp_path: Path) -> None:
    request = request_to(tmp_path / "out")

    campaign.run(request, ["skips-the-end"], tmp_path, QUIET, lambda _: None, whole=True)

    default = {scenario.name for scenario in catalogue.choose(())}
    assert all(default <= set(words) for words in ran)


def test_right_rewrites_get_every_scenario_when_the_whole_set_is_asked_for(
    ran: list[list[str]], tmp_path: Path
) -> None:
    request = request_to(tmp_path / "out")

    campaign.run(request, ["switch"], tmp_path, QUIET, lambda _: None, whole=True)

    every = {scenario.name for scenario in catalogue.choose(["all"])}
    assert all(every <= set(words) for words in ran)


@pytest.mark.parametrize(
    ("said", "error"), [(render(verdict("fail", integrity="torn")), CannotTest), ("", MachineError)]
)
def test_nothing_is_proved_where_the_patch_itself_does_not_pass(
    said: str, error: type[Exception], ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run", lambda argv, **_: process.Completed(tuple(argv), 1, said, "harness: no QEMU\n"))

    with pytest.raises(error, match="memcg-eagain" if said else "no QEMU"):
        campaign.run(
            request_to(tmp_path / "out"),
            ["switch"],
            tmp_path,
            QUIET,
            print,
        )
    assert ran == []


def test_a_scenario_in_which_nothing_happens_anyway_is_left_out(
    ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What proves nothing on the unbroken patch must not count for a survivor, nor against a right rewrite."""

    def run(argv: list[str], **_: object) -> process.Completed:
        ran.append(argv)
        said = verdict("pass" if any(word.endswith(".patch") for word in argv) else "inconclusive")
        return process.Completed(tuple(argv), 0, render(said), "")

    monkeypatch.setattr(process, "run", run)
    request = request_to(tmp_path / "out")

    done = campaign.run(request, ["rare-end-skipped", "switch"], tmp_path, QUIET, lambda _: None)

    rare, switch = done.trials
    assert rare.verdict == "error"
    assert rare.note == "too little happens in each of its scenarios, even on the unbroken kernel"
    assert switch.good
    assert not any("memcg-eagain" in words for words in ran[1:])
