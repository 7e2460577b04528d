# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin in somebody else's project: which files, options and tests it takes, and how it counts them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import oracles
from harness.guest.boot import BootFailed
from harness.host.workspace import data
from harness.model.errors import CannotTest, GuestLost, HarnessError, LaunchError, MachineError
from harness.model.scenario import unwritten
from harness.model.shape import MachineShape
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.pytest_plugin import sessions
from harness.pytest_plugin.scenarios import _looks_like_a_scenario

# What the plugin imports late: a run of pytest within this one forgets what it was the first to import.
from harness.run import session as run_session
from harness.variants import catalogue
from tests.unit.recordings import recording

pytest_plugins = ["pytester"]
oracles.prepare()

OURS = sorted(data("scenarios").glob("*.yaml"))
SCENARIO = (data("scenarios") / "memcg-eagain.yaml").read_text()
FOREIGN = {
    "stack.yaml": "Resources:\n  Bucket: {Type: AWS::S3::Bucket, Properties: {Name: !Ref Name, Text: !Sub '${A}'}}\n",
    "play.yml": "- hosts: all\n  tasks:\n    - summary: x\n      steps: []\n",
    "several.yaml": "kind: A\n---\nkind: B\n",
    "broken.yaml": "a: [\n\tb: !!python/object:os.system x\n",
    "azure.yaml": "steps:\n- script: make\n",
    "bytes.yaml": "\xff\xfe\x00",
    "Not_A_Name.yaml": "a: 1\n",
    "empty.yaml": "",
}


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for the plugins that are installed takes a tenth of a second."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """A function that runs pytest in a project with one test that passes."""
    pytester.makepyfile(test_theirs="def test_theirs(): pass")
    pytester.mkdir("scenarios")

    def run(*words: str) -> pytest.RunResult:
        return pytester.runpytest("-p", "harness.pytest_plugin", "-p", "no:cacheprovider", *words)

    return run


def collected(ran: pytest.RunResult) -> list[str]:
    """The names that --collect-only -q printed."""
    return [line for line in ran.outlines if "::" in line]


def test_other_people_s_yaml_is_left_alone(pytester: pytest.Pytester, project) -> None:
    for name, text in FOREIGN.items():
        (pytester.path / "scenarios" / name).write_text(text, "latin-1")
    (pytester.path / "scenarios" / "dangling.yaml").symlink_to("nowhere")

    ran = project()

    ran.assert_outcomes(passed=1)
    assert ran.ret == 0


def test_a_scenario_is_known_beside_them(pytester: pytest.Pytester, project) -> None:
    (pytester.path / "scenarios" / "play.yml").write_text(FOREIGN["play.yml"])
    (pytester.path / "scenarios" / "mine.yaml").write_text(SCENARIO)

    ran = project("--collect-only", "-q")

    assert collected(ran) == ["scenarios/mine.yaml::mine", "test_theirs.py::test_theirs"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_scenario_of_ours_is_known_whatever_key_is_misspelt(path: Path) -> None:
    """A misspelt one is taken, so that its fault is shown."""
    text = path.read_text()

    for key in re.findall(r"^[a-z]+(?=:)", text, re.MULTILINE):
        broken = re.sub(rf"^{key}:", f"{key}z:", text, flags=re.MULTILINE)
        assert _looks_like_a_scenario(broken.encode()), key


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "---\n" + text + "...\n",
        lambda text: re.sub(r"^([a-z]+):", r'"\1" :', text, flags=re.MULTILINE),
        lambda text: text + "\tnot: [yaml\n",
        lambda text: text + "other: !Tag x\n---\nanother: 1\n",
    ],
    ids=["mark", "crlf", "document", "quoted", "broken", "tagged"],
)
def test_a_scenario_is_known_however_it_is_written(change: Callable[[str], str]) -> None:
    assert _looks_like_a_scenario(change(SCENARIO).encode())


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["summary", "steps:", "steps : x", " exercised:", "- summary:", "summary: a", "\n", "\r", "{", '"']
        )
        | st.text(max_size=5),
        max_size=12,
    )
)
def test_a_file_is_known_by_two_keys_and_nothing_else(parts: Sequence[str]) -> None:
    """Whatever else is in it."""
    text = "\n".join(parts)
    keys = {key for key in ("summary", "steps", "exercised") if re.search(rf'(?:\A|\n)"?{key}"?[ \t]*:(?:\s|\Z)', text)}

    assert _looks_like_a_scenario(text.encode("utf-8", "replace")) is (len(keys) >= 2)


def test_a_broken_scenario_is_shown_and_does_not_vanish(pytester: pytest.Pytester, project) -> None:
    (pytester.path / "scenarios" / "mine.yaml").write_text(SCENARIO.replace("steps:", "stepz:"))

    ran = project()

    assert ran.ret == pytest.ExitCode.INTERRUPTED
    ran.stdout.fnmatch_lines(["*mine.yaml:*: unknown key 'stepz' in a scenario (did you mean 'steps'?)"])


@pytest.mark.parametrize("name", ["other.yaml", "scenarios/../other.yaml", "./other.yaml::mine"])
def test_a_named_file_is_ours_and_its_fault_is_one_line(pytester: pytest.Pytester, project, name: str) -> None:
    (pytester.path / "other.yaml").write_text(FOREIGN["stack.yaml"])

    ran = project(name)

    assert ran.ret != 0
    ran.stdout.fnmatch_lines(["*other.yaml:2: the tag '!Ref' is not allowed*"])
    ran.stdout.no_fnmatch_line("*Traceback*")


def test_a_named_file_does_not_wait_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "scenarios", lambda: pytest.fail("read"))

    assert [entry.name for entry in catalogue.choose([str(data("scenarios") / "memcg-eagain.yaml")])] == [
        "memcg-eagain"
    ]


def test_a_named_file_that_another_plugin_collects_is_theirs(pytester: pytest.Pytester, project) -> None:
    (pytester.path / "theirs.yaml").write_text("a: 1\n")
    pytester.makeconftest(
        """
        import pytest

        class Item(pytest.Item):
            def runtest(self): pass

        class File(pytest.File):
            def collect(self): yield Item.from_parent(self, name="theirs")

        def pytest_collect_file(file_path, parent):
            return File.from_parent(parent, path=file_path) if file_path.suffix == ".yaml" else None
        """
    )

    project("theirs.yaml").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("mine", ["mine/deep/odd.yaml", "mine/scenarios/good.yaml"]),
        ("mine/deep/ other", ["mine/deep/odd.yaml"]),
        ("mine/*.yaml", ["mine/deep/odd.yaml", "mine/scenarios/good.yaml"]),
        ("", []),
    ],
)
def test_kernel_scenarios_says_which_files_are_ours(
    pytester: pytest.Pytester, project, setting: str, found: list[str]
) -> None:
    """Every YAML file there, and none elsewhere: an empty setting is for a project whose scenarios look like ours."""
    pytester.makeini(f"[pytest]\nkernel_scenarios = {setting}\n")
    for name, text in {"mine/scenarios/good.yaml": SCENARIO, "mine/deep/odd.yaml": "a: 1\n"}.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (pytester.path / "scenarios" / "good.yaml").write_text(SCENARIO)

    ran = project("--collect-only", "-q")

    faults = {"mine/deep/odd.yaml"} & set(found)
    assert {line.partition("::")[0] for line in collected(ran)} == {"test_theirs.py", *found} - faults
    assert {line.split()[1] for line in ran.outlines if line.startswith("ERROR ")} == faults


@pytest.mark.parametrize(
    ("name", "how"),
    [("--accel", "conftest"), ("--accel", "plugin"), ("--kernel-source", "conftest"), ("--kernel-accel", "conftest")],
)
def test_an_option_that_somebody_else_has_stays_theirs(pytester: pytest.Pytester, project, name: str, how: str) -> None:
    source = f"def pytest_addoption(parser): parser.addoption({name!r}, default='theirs')"
    words = []
    if how == "conftest":
        pytester.makeconftest(source)
    else:
        pytester.makepyfile(theirs=source)
        pytester.syspathinsert()
        words = ["-p", "theirs"]
    pytester.makepyfile(
        test_theirs=f"""
        from harness.pytest_plugin.options import value

        def test_theirs(pytestconfig):
            assert pytestconfig.getoption({name!r}) == "gpu"
            assert pytestconfig.getoption("--kernel-config") == ["lockdep"]
            assert value(pytestconfig, "--kernel-accel") == "auto"
        """
    )

    project(f"{name}=gpu", "--kernel-config=lockdep", *words).assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["--accel", "--kernel-accel"])
def test_accel_is_another_name_where_it_is_free(pytester: pytest.Pytester, project, name: str) -> None:
    pytester.makepyfile(test_theirs="def test_it(pytestconfig): assert pytestconfig.getoption('--accel') == 'tcg'")

    project(name, "tcg").assert_outcomes(passed=1)
    assert project(f"{name}=hvf").ret == pytest.ExitCode.USAGE_ERROR


def test_no_code_of_the_tree_under_test_is_run(pytester: pytest.Pytester, project) -> None:
    """The value of an option is no path to test, although pytest does not know the option until late."""
    tree = pytester.mkdir("linux")
    (tree / "conftest.py").write_text("raise SystemExit(77)\n")

    project("--kernel-source", str(tree), "--kernel-patch", str(tree), "test_theirs.py").assert_outcomes(passed=1)


def test_the_session_gets_what_the_options_say(pytester: pytest.Pytester, project, monkeypatch, capfd) -> None:
    made = []

    def session(request, _instrument, accel, _progress):
        made.append((request.source, request.patches, request.configs, request.contract, accel))
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(run_session, "Session", session)
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--kernel-source', default='x')")
    pytester.makepyfile(
        test_theirs="from harness.pytest_plugin import sessions\ndef test(pytestconfig): sessions.session(pytestconfig)"
    )

    project("--kernel-patch=none", "--kernel-patch", "a.patch", "--accel=tcg", "-s").assert_outcomes(passed=1)

    project("--kernel-contract=stock").assert_outcomes(passed=1)
    assert made == [
        ("debian:6.12", ("none", "a.patch"), (), "auto", "tcg"),
        ("debian:6.12", ("none",), (), "stock", "auto"),
    ]
    assert "--kernel-source is somebody else's option here" in capfd.readouterr().err


WARNED = Finding(
    "clean-log", "WARNING in planted_warning", "1 times\nconsole line 7:\n \x1b[31mRIP: planted_warning+0x1"
)
PANIC = Finding("no-hang", "the kernel panicked", "Kernel panic - not syncing: planted")


class Fake:
    """A session whose guests do what a test says: each judgement takes the next entry, and the last one stays."""

    def __init__(self, *judgements: Sequence[Finding] | Exception, start: Sequence[Exception | None] = ()) -> None:
        self.judgements = list(judgements)
        self.start = list(start)
        self.lab: object = 0
        self.began = self.looks = 0

    @contextlib.contextmanager
    def watched(self, **_: object) -> Iterator[SimpleNamespace]:
        """A guest, or why there is none."""
        self.began += 1
        if self.start and (error := self.start.pop(0)):
            raise error
        console = SimpleNamespace(log=Path("/run/guest_1/console.log"))
        seen = SimpleNamespace(machine=SimpleNamespace(console=console), result=None, slowdown=2.0, look=self.look)
        seen.driven = SimpleNamespace(
            broken="",
            events=Path("/run/events/guest_1.bin"),
            kept=Path("/run/guest_1/scenario.yaml"),
            recorded=recording,
        )

        def judge() -> None:
            said = self.judgements.pop(0) if len(self.judgements) > 1 else self.judgements[0]
            if isinstance(said, Exception):
                raise said
            seen.result = ScenarioResult("guest_1", Outcome.FAIL if said else Outcome.PASS, said)

        seen.judge = judge
        yield seen
        judge()

    def look(self) -> None:
        """Count the looks from outside."""
        self.looks += 1

    def decoded(self, _texts: Sequence[str], _loaded: Sequence[Path]) -> list[str]:
        """Reports of a kernel whose objects are gone."""
        raise MachineError("another kernel than before")


@pytest.fixture
def guests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """A function that runs a test file with guests that do what `fake` says."""

    def run(source: str, fake: Fake, *words: str) -> pytest.RunResult:
        monkeypatch.setattr(sessions, "session", lambda *_: fake)
        pytester.makepyfile(test_it=f"import pytest\nfrom harness.model.errors import GuestLost\n\n{source}")
        return pytester.runpytest(
            "-p", "harness.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers", "-rA", *words
        )

    return run


def test_a_test_is_green_only_when_the_kernel_was_quiet(guests) -> None:
    guests("def test(guest): pass", Fake(())).assert_outcomes(passed=1)

    ran = guests("def test(guest): pass", Fake([WARNED]))

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        [
            "[[]clean-log[]] WARNING in planted_warning",
            "console line 7:",
            " \\x1b[[]31mRIP: planted_warning+0x1",
            "console: /run/guest_1/console.log",
            "FAILED test_it.py::test - KernelFault: [[]clean-log[]] WARN*",
        ]
    )
    ran.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_the_test_s_own_failure_is_shown_too_and_no_line_of_ours(guests) -> None:
    """Of what a guest raised, too: its traceback ends at the call. In a test without a guest, nothing is cut."""
    lost = "from harness.guest import agent\ndef test(guest): agent._parse(b'short')"

    for source, own in (("def test(guest): assert 6 * 7 == 41", "assert (6 ? 7) == 41"), (lost, "*GuestLost: *")):
        ran = guests(source, Fake([PANIC]))

        ran.assert_outcomes(failed=1)
        ran.stdout.fnmatch_lines(["[[]no-hang[]] the kernel panicked", "the test itself:", ">*def test*", f"E *{own}"])
        ran.stdout.no_fnmatch_line("*harness/*.py*")
    chained = f"{lost}\ndef test_chained(guest):\n try: test(guest)\n except GuestLost: assert 6 * 7 == 41"
    for source in (lost, chained):
        alone = guests(source, Fake(()))
        assert alone.ret == 1
        alone.stdout.no_fnmatch_line("*harness/*.py*")
    others = guests(lost.replace("test(guest)", "test()"), Fake(()))
    others.stdout.fnmatch_lines(["*harness/guest/agent.py*"])


@pytest.mark.parametrize("body", ["pytest.skip('later')", "pytest.xfail('later')", "raise KeyError(1)"])
def test_no_way_to_end_a_test_hides_the_kernel_s_word(guests, body: str) -> None:
    ran = guests(f"def test(guest): {body}", Fake([WARNED]))

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*WARNING in planted_warning"])


@pytest.mark.parametrize("body", ["pass", "assert 1 == 2"])
def test_an_expected_failure_is_not_the_kernel_s(guests, body: str) -> None:
    """kernel_report says what a kernel is to do, xfail what a test is to assert."""
    ran = guests(f"@pytest.mark.xfail\ndef test(guest): {body}", Fake([WARNED]))

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*WARNING in planted_warning"])


@pytest.mark.parametrize(
    ("mark", "body"), [("", "pytest.skip('later')"), ("", "pytest.xfail('later')"), ("@pytest.mark.xfail", "assert 0")]
)
def test_a_kernel_that_nobody_heard_is_no_success(guests, mark: str, body: str) -> None:
    ran = guests(f"{mark}\ndef test(guest): {body}", Fake(LOST))

    ran.assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("marks", "findings", "words"),
    [
        (["'WARNING in planted_'"], [WARNED], ""),
        (["'WARNING in planted_', oracle='clean-log'"], [WARNED, WARNED], ""),
        (["'WARNING in'", "'panicked', oracle='no-hang'"], [WARNED, PANIC], ""),
        (["'WARNING in'"], [WARNED, PANIC], "[[]no-hang[]] the kernel panicked"),
        (["'WARNING in', oracle='no-hang'"], [WARNED], "[[]clean-log[]] WARNING in planted_warning"),
        (["'BUG in'"], [], "[[]kernel_report[]] the kernel was to do 'BUG in' and did not"),
    ],
)
def test_an_expected_report_must_come_and_no_other(guests, marks: list[str], findings, words: str) -> None:
    marked = "\n".join(f"@pytest.mark.kernel_report({mark})" for mark in marks)

    ran = guests(f"{marked}\ndef test(guest): pass", Fake(findings))

    ran.assert_outcomes(failed=1 if words else 0, passed=0 if words else 1)
    if words:
        ran.stdout.fnmatch_lines([words])


@pytest.mark.parametrize("arguments", ["", "'('", "1", "'a', orcale='b'"])
def test_a_marker_that_says_nothing_is_one_line_and_no_guest_begins(guests, arguments: str) -> None:
    fake = Fake(())

    ran = guests(f"@pytest.mark.kernel_report({arguments})\ndef test(guest): pass", fake)

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*::test: kernel_report: *(pytest --markers)"])
    assert fake.began == 0


def test_a_report_that_no_guest_can_make_is_not_waited_for(guests) -> None:
    ran = guests("@pytest.mark.kernel_report('x')\ndef test(): pass", Fake(()))

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["kernel_report: the test has no guest to report anything"])


def test_what_the_kernel_says_while_fixtures_are_taken_down_is_told_once(guests) -> None:
    """As pytest counts what happens there: an error. What the test failed by is not told again."""
    guests("def test(guest): pass", Fake((), [WARNED])).assert_outcomes(passed=1, errors=1)
    guests("def test(guest): pass", Fake([WARNED], [WARNED, WARNED])).assert_outcomes(failed=1)
    ran = guests("def test(guest): pass", Fake([WARNED], [WARNED, PANIC]))

    ran.assert_outcomes(failed=1, errors=1)


LOST = GuestLost("QEMU ended with status -9", "see dmesg")


def again(ran: pytest.RunResult) -> list[str]:
    """What is said of tests that were run again."""
    return [line for line in ran.outlines if line.startswith("AGAIN ") and ":" in line.partition("::")[2]]


@pytest.mark.parametrize(
    "fake", [lambda: Fake(LOST, ()), lambda: Fake((), start=[LOST])], ids=["in the test", "before it"]
)
def test_a_guest_that_the_host_lost_is_tried_again_once(guests, fake: Callable[[], Fake]) -> None:
    """Fixtures, too; the first time is counted as neither failure nor pass, and said."""
    source = "seen = []\n@pytest.fixture\ndef one(): seen.append(1)\ndef test(one, guest): print(len(seen))"
    made = fake()

    ran = guests(source, made, "-x")

    ran.assert_outcomes(passed=1)
    assert (made.began, ran.ret) == (2, 0)
    assert [line.partition(": ")[2] for line in again(ran)] == ["QEMU ended with status -9 (see dmesg)"]


@pytest.mark.parametrize("mark", ["", "@pytest.mark.xfail(strict=True)"])
@pytest.mark.parametrize("body", ["pass", "raise GuestLost('the channel was closed')"])
def test_the_second_loss_is_an_error_and_no_failure(guests, pytester: pytest.Pytester, mark: str, body: str) -> None:
    """For those who read JUnit's file, too, and where a failure is expected."""
    fake = Fake(LOST)

    ran = guests(f"{mark}\ndef test(guest): {body}", fake, "--junit-xml=j.xml")

    ran.assert_outcomes(errors=1)
    assert (fake.began, len(again(ran))) == (2, 1)
    assert 'errors="1" failures="0"' in (pytester.path / "j.xml").read_text()


def test_a_fault_of_the_judge_is_none_of_the_kernel_s(guests) -> None:
    fake = Fake(KeyError("a bug"))

    ran = guests("def test(guest): pass", fake, "-o", "xfail_strict=true")

    ran.assert_outcomes(errors=2)
    ran.stdout.fnmatch_lines(["the harness failed:", "KeyError: 'a bug'"])
    assert fake.began == 1


def test_a_test_s_own_failure_counts_although_the_guest_was_lost_then(guests) -> None:
    fake = Fake(LOST)

    ran = guests("def test(guest): assert 1 == 2", fake)

    ran.assert_outcomes(failed=1)
    assert fake.began == 1


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (LaunchError("no QEMU", "apt install qemu"), {"errors": 1}, "no QEMU (apt install qemu)"),
        (CannotTest("the module does not load"), {"errors": 1}, "the module does not load"),
        (BootFailed("panic", "panic after 1 s", "VFS: \x1b[1m", 1.0), {"failed": 1}, "the kernel did not boot: panic*"),
    ],
)
def test_a_guest_that_does_not_begin_is_a_line_and_is_not_tried_again(guests, error, outcome, words: str) -> None:
    """A kernel that does not boot has failed the test."""
    fake = Fake((), start=[error])

    ran = guests("def test(guest): pass", fake)

    ran.assert_outcomes(**outcome)
    ran.stdout.fnmatch_lines([words])
    ran.stdout.no_fnmatch_line("*pytest_plugin.py*")
    assert fake.began == 1


def test_a_guest_of_the_user_s_own_is_theirs(guests) -> None:
    ran = guests(
        "@pytest.fixture\ndef guest(): return 'Alice'\ndef test(guest): assert guest == 'Alice'", Fake([PANIC])
    )

    ran.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [(Outcome.PASS, "passed"), (Outcome.INCONCLUSIVE, "failed"), (Outcome.ERROR, "errors")],
)
def test_a_scenario_s_error_is_none_of_the_kernel_s_failures(
    pytester: pytest.Pytester, guests, monkeypatch, outcome: Outcome, counted: str
) -> None:
    """As an item, and through `judged`."""
    fake = Fake()
    result = ScenarioResult("memcg-eagain", outcome, reason="because")
    monkeypatch.setattr(fake, "missing", lambda _: "", raising=False)
    monkeypatch.setattr(fake, "judge", lambda _: result, raising=False)
    monkeypatch.setattr(catalogue, "choose", lambda _: [unwritten("mine", MachineShape())])
    pytester.mkdir("scenarios")
    (pytester.path / "scenarios" / "mine.yaml").write_text(SCENARIO)

    ran = guests("def test(judged): judged('memcg-eagain')", fake)

    ran.assert_outcomes(**{counted: 2})
    ran.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_an_error_of_the_harness_is_a_line_without_control_characters(guests, monkeypatch) -> None:
    fake = Fake()

    def refuse(_: object) -> str:
        raise HarnessError("/tmp/\x1b]0;x\x07", "look")

    monkeypatch.setattr(fake, "missing", refuse, raising=False)
    monkeypatch.setattr(catalogue, "choose", lambda _: [unwritten("mine", MachineShape())])

    ran = guests("def test(judged): judged('memcg-eagain')", fake)

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["/tmp/\\x1b]0;x\\x07 (look)"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("needs='KASAN'", "needs CONFIG_KASAN, which this kernel is built without"),
        ("needs=['KSM', 'CONFIG_KASAN']", "needs CONFIG_KASAN, which"),
        ("without='KSM'", "is for kernels without CONFIG_KSM, and this one has it"),
        ("version='6.13'", "needs Linux 6.13, and this is 6.12.1"),
        ("until='6.12'", "is for Linux before 6.12, and this is 6.12.1"),
    ],
)
def test_a_test_is_skipped_on_a_kernel_without_what_it_needs(guests, tmp_path: Path, words: str, says: str) -> None:
    (tmp_path / "config").write_text("CONFIG_KSM=y\n")
    fake = Fake(())
    fake.lab = SimpleNamespace(kernel=SimpleNamespace(config=tmp_path / "config", release="6.12.1"))

    ran = guests(f"@pytest.mark.kernel({words})\ndef test(guest): pass", fake)

    ran.assert_outcomes(skipped=1)
    ran.stdout.fnmatch_lines([f"SKIPPED*{says}*"])
    assert fake.began == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("expct='x'", "unknown word 'expct' (did you mean 'expect'?)"),
        ("'x'", "it takes only names with values, as in kernel(memory='1G')"),
        ("expect='('", "*unterminated subpattern*"),
        ("expect=3", "expect is 3, neither a text nor a list of texts"),
        ("memory='1M'", "*a guest needs 128M to boot"),
        ("memory='much'", "'much' is not a size (write 64K, 16M or 1G)"),
        ("cpus=0", "*cpus is 0, not a whole number from 1 to 64"),
        ("timeout='1 s'", "timeout is '1 s', not a number of seconds from 0 to 86400"),
        ("timeout=float('nan')", "timeout is nan, not a number*"),
        ("needs='kasan'", "'kasan' is not the name of an option, as KASAN is"),
        ("version=6.8", "6.8 is not a version, as '6.8' is"),
        ("accel='hvf'", "accel is 'hvf', not auto, kvm, tcg"),
    ],
)
def test_a_wrong_word_in_a_marker_is_one_line_and_no_guest_begins(guests, words: str, says: str) -> None:
    fake = Fake(())

    ran = guests(f"@pytest.mark.kernel({words})\ndef test(guest): pass", fake)

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines([f"*test_it.py::test: kernel: {says}*"])
    ran.stdout.no_fnmatch_line("*Traceback*")
    assert fake.began == 0


@pytest.mark.parametrize(
    ("words", "findings", "counted"),
    [
        ("expect='WARNING in planted_'", [WARNED], "passed"),
        ("expect='WARNING in planted_'", [], "failed"),
        ("allow='WARNING in planted_'", [WARNED], "passed"),
        ("allow='WARNING in planted_'", [], "passed"),
        ("allow='WARNING in planted_'", [WARNED, PANIC], "failed"),
        ("expect=['WARNING', 'panicked']", [WARNED, PANIC], "passed"),
    ],
)
def test_a_marker_says_what_a_kernel_must_and_may_do(guests, words: str, findings, counted: str) -> None:
    guests(f"@pytest.mark.kernel({words})\ndef test(guest): pass", Fake(findings)).assert_outcomes(**{counted: 1})


def test_markers_of_a_class_and_of_its_test_add_up(guests, monkeypatch) -> None:
    """The nearest one counts."""
    seen: list[object] = []
    fake = Fake([WARNED])

    def watched(**words: object):
        seen.append(words["shape"])
        return Fake.watched(fake)

    monkeypatch.setattr(fake, "watched", watched)
    ran = guests(
        "@pytest.mark.kernel(memory='1G', cpus=4, allow='WARNING')\nclass TestIt:\n"
        "    @pytest.mark.kernel(memory='256M', cmdline='a=1 b')\n    def test(self, guest): pass",
        fake,
    )

    ran.assert_outcomes(passed=1)
    assert seen == [MachineShape(memory_mib=256, cpus=4, cmdline=("a=1", "b"))]


def test_the_time_of_a_test_is_that_of_its_guest(guests) -> None:
    """Twice as slow, twice as long; then it is a failure with the line where it was, and the guest is looked at."""
    fake = Fake(())

    ran = guests(
        "import threading\n@pytest.mark.kernel(timeout=0.05)\ndef test(guest):\n    threading.Event().wait(60)", fake
    )

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        ["*threading.Event().wait(60)*", "E *not done within 0.1 s = 0.05 s × slow-down 2.0 (limit)"]
    )
    ran.stdout.no_fnmatch_line("*pytest_plugin/guests.py*")
    assert fake.looks == 1
    guests("@pytest.mark.kernel(timeout=60)\ndef test(): pass", fake).assert_outcomes(passed=1)


def test_a_failure_says_how_to_repeat_it_and_what_could_not_be_decoded(guests) -> None:
    ran = guests(
        "@pytest.mark.parametrize('x', ['a b'])\ndef test(guest, x): pass", Fake([WARNED]), "--kernel-config=kasan"
    )

    ran.stdout.fnmatch_lines(
        [
            "no source lines: another kernel than before",
            "*- to repeat it -*",
            "pytest --kernel-config=kasan 'test_it.py::test[[]a b[]]'",
        ]
    )


def test_a_fixture_that_builds_upon_somebody_else_s_guest_says_so(guests) -> None:
    ran = guests(
        "@pytest.fixture\ndef guest(): return 'Alice'\ndef test(notifier): pass\ndef test_m(module): pass", Fake(())
    )

    ran.assert_outcomes(errors=2)
    ran.stdout.fnmatch_lines(["this fixture needs the fixture `guest` of the harness, and the project has its own"])


PROGRAM = """
from harness.guest.agent import GuestResult
from harness.pytest_plugin.guest import Guest

def test(guest, request, monkeypatch):
    text = b'1..3\\nok 1 good\\nnot ok 2 bad \\x1b[1m\\nok 3 other # SKIP no swap\\n'
    monkeypatch.setattr(Guest, 'put', lambda *_: '/tmp/p')
    monkeypatch.setattr(Guest, 'run', lambda *_, **__: GuestResult(('p',), 0, text, b''))
    assert guest.program('/bin/p').stdout == text
"""


def test_what_a_program_of_a_guest_tells_are_subtests(guests) -> None:
    ran = guests(PROGRAM, Fake(()), "-o", "verbosity_subtests=1")

    ran.stdout.fnmatch_lines(["SUBFAILED[[]p: bad \\x1b[[]1m[]]*", "*1 failed*"], consecutive=False)
    ran.stdout.fnmatch_lines(["SUBSKIPPED[[]p: other[]]*no swap*"])
    assert ran.ret == 1


def test_before_pytest_9_a_program_s_failures_fail_the_test(guests) -> None:
    ran = guests(PROGRAM, Fake(()), "-p", "no:subtests")

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["bad \\x1b[[]1m: not ok 2*"])


@pytest.mark.parametrize("name", ["cow", "mm:", "../x:y", "mm:../../x", "mm:a b"])
def test_the_name_of_a_selftest_is_no_path(guests, name: str) -> None:
    ran = guests(f"def test(guest): guest.kselftest({name!r})", Fake(()))

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*is not the name of a selftest (write COLLECTION:PROGRAM, as in mm:cow)"])


def test_without_the_plugin_nothing_of_it_is_there(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it is installed."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makepyfile("def test(pytestconfig): assert pytestconfig.pluginmanager.has_plugin('kernel_harness')")

    for words, counted in (((), "passed"), (("-p", "no:kernel_harness"), "failed")):
        pytester.runpytest("-p", "no:cacheprovider", *words).assert_outcomes(**{counted: 1})


def test_what_could_not_be_done_for_a_test_is_an_error_at_its_line(guests) -> None:
    """A module that does not compile, a word that no scenario has: it says nothing of the kernel."""
    fails = "from harness.pytest_plugin.guest import Guest\nfrom harness.model.errors import BuildError\n"
    fails += "@pytest.fixture(autouse=True)\ndef broken(monkeypatch):\n"
    fails += (
        "    def load(*_): raise BuildError('my.c:3: no such thing')\n    monkeypatch.setattr(Guest, 'load', load)\n"
    )
    fails += "@pytest.fixture\ndef driver(broken, module): module('x')\n"

    ran = guests(f"{fails}def test(module): module('x')\ndef test_driver(driver): pass", Fake(()))

    ran.assert_outcomes(errors=2)
    ran.stdout.fnmatch_lines(["*module('x')", "E *BuildError: my.c:3: no such thing"])
