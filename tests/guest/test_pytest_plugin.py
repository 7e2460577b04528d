# SPDX-License-Identifier: GPL-2.0-only
"""The plugin as a user has it: a directory of their own, the package installed, `python -m pytest`."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pytest

from harness.host.workspace import cache_dir, data
from harness.kernel import modules
from harness.pytest_plugin.sessions import session
from tests.guest.command import ROOT
from tests.guest.command import SCENARIOS as HOT
from tests.guest.command import pytest_of_a_user as run

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

SCENARIO = """\
summary: A user's own, in a folder of theirs.
cgroup: {max: 64M}
buffers:
  held: {kind: anon, size: 8M}
subscribers:
  device: {buffer: held, policy: eagain-reclaim}
steps:
  - {touch: held, seed: 1}
  - {hold: device, how: get}
  - {advise: held, advice: cold}
  - {pressure: memcg-charge, size: 96M}
  - {device-check: device, seed: 1}
exercised: {callbacks: 2000, direct_reclaim: 2000, mayfail: 2000, eagain: 2000}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory outside the checkout, with one scenario."""
    folder = tmp_path / "own"
    (folder / "scenarios").mkdir(parents=True)
    (folder / "scenarios" / "mine.yaml").write_text(SCENARIO)
    return folder


def test_scenarios_and_both_fixtures_work_from_a_users_directory(own: Path):
    """The scenario as an item, by path through `judged`, by name through `judged`, and a machine to talk to."""
    (own / "test_mine.py").write_text(
        textwrap.dedent("""
        from pathlib import Path

        def test_my_driver(guest):
            assert guest.run("uname", "-r").text.startswith("6.")
            assert "notifier_hold" in guest.agent.read_file("/proc/modules").decode()

        def test_reclaim(judged):
            result = judged("memcg-eagain")
            assert result.exercised["direct_reclaim"] > 4000

        def test_mine(judged):
            result = judged(str(Path(__file__).parent / "scenarios" / "mine.yaml"))
            assert result.name == "mine"
            assert result.exercised["eagain"] >= 2000
        """)
    )

    status, said = run(own, "-v")

    assert status == 0, said
    assert "scenarios/mine.yaml::mine PASSED" in said
    assert "4 passed" in said
    # Where to look afterwards.
    assert re.search(r"recordings: /\S+", said)


def test_what_was_not_exercised_fails_as_inconclusive_and_without_a_traceback(own: Path):
    shutil.copy(HOT / "hot-pages.yaml", own / "scenarios" / "hot-pages.yaml")

    status, said = run(own, "scenarios/hot-pages.yaml")

    assert status == 1, said
    assert re.search(r"^inconclusive", said, re.MULTILINE), said
    assert "[exercised]" in said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said
    assert "1 failed" in said


def test_judged_fails_a_users_test_with_the_findings(own: Path):
    """The user's line is shown, and no line of ours."""
    (own / "test_mine.py").write_text(f"def test_hot(judged):\n    judged({str(HOT / 'hot-pages.yaml')!r})\n")

    status, said = run(own, "test_mine.py")

    assert status == 1, said
    assert "> " in said
    assert "[exercised]" in said
    assert "pytest_plugin.py" not in said, said


def test_a_wrong_key_is_a_collection_error_of_one_line(own: Path):
    """It shows file, line, and the nearest right key."""
    (own / "scenarios" / "mine.yaml").write_text(SCENARIO.replace("buffers:", "bufers:"))

    status, said = run(own)

    assert status == pytest.ExitCode.INTERRUPTED, said
    assert "Traceback" not in said
    lines = said.splitlines()
    head = next(number for number, line in enumerate(lines) if "ERROR collecting scenarios/mine.yaml" in line)
    assert re.search(r"mine\.yaml:3: .*bufers.*buffers", lines[head + 1]), said
    assert "short test summary" in lines[head + 2], said


def test_the_options_choose_the_kernel_and_its_findings_are_shown(own: Path):
    """On a kernel without the patch the same scenario fails, at the gate, with flag, errno and the site of the WARN."""
    status, said = run(
        own, "--kernel-source=debian:6.12", "--kernel-patch=none", "--kernel-config=base", "--kernel-accel=tcg"
    )

    assert status == 1, said
    gate = r"^\[mayfail-gate\] .*MMU_NOTIFIER_RANGE_MAYFAIL.*EAGAIN \(-11\).*WARN at mm/mmu_notifier\.c:\d+"
    assert re.search(gate, said, re.MULTILINE), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--kernel-source=/nonexistent", "--source /nonexistent: no such file or directory"),
        ("--kernel-patch=mayfial", "--patch mayfial: no such patch"),
        ("--kernel-config=bsae", "--config bsae: no such fragment or file"),
    ],
)
def test_an_option_that_names_nothing_is_one_line(own: Path, option: str, complaint: str):
    """In a scenario's item, and in tests that use the fixtures."""
    (own / "test_mine.py").write_text(
        "def test_guest(guest):\n    pass\n\n\ndef test_judged(judged):\n    judged('memcg-eagain')\n"
    )

    status, said = run(own, option)

    assert status == 1, said
    shown = said[: said.index("short test summary info")]
    assert len([line for line in shown.splitlines() if complaint in line]) == 3, said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said


def test_an_accelerator_that_does_not_exist_is_refused_at_once(own: Path):
    status, said = run(own, "--kernel-accel=hvf")

    assert status == pytest.ExitCode.USAGE_ERROR
    assert "--kernel-accel" in said


@pytest.fixture
def planted(pytestconfig: pytest.Config) -> Path:
    """A module of somebody else's that commits a fault when it is told to."""
    kernel = session(pytestconfig).lab.kernel
    return modules.build_module(data("guest-modules") / "planted", kernel, cache_dir())


def test_what_the_kernel_says_fails_the_test_unless_it_was_expected(own: Path, planted: Path):
    """A WARN in a test that asserts nothing, and a panic: title and stack, the user's line, and no line of ours.

    Two workers of pytest-xdist: each has its own run directory, with folders that no scenario can have.
    """
    (own / "scenarios" / "mine.yaml").rename(own / "scenarios" / "guest-1.yaml")
    (own / "test_mine.py").write_text(
        textwrap.dedent(f"""
        from pathlib import Path

        import pytest

        from harness.model.errors import GuestLost

        @pytest.fixture
        def driver(guest):
            guest.agent.write_file("/tmp/planted.ko", Path({str(planted)!r}).read_bytes())
            assert guest.run("insmod", "/tmp/planted.ko").status == 0
            yield guest
            assert guest.run("rmmod", "planted").status == 0

        def test_quiet(driver):
            pass

        def test_warns(driver):
            driver.agent.write_file("/dev/planted", "warning")

        @pytest.mark.kernel_report("WARNING in planted_warning", oracle="clean-log")
        def test_is_to_warn(driver):
            driver.agent.write_file("/dev/planted", "warning")

        def test_panics(guest):
            guest.run("sh", "-c", "echo c > /proc/sysrq-trigger")

        @pytest.mark.kernel_report("kernel panic: sysrq triggered crash", oracle="clean-log")
        @pytest.mark.kernel_report("the kernel panicked", oracle="no-hang")
        def test_is_to_panic(guest):
            with pytest.raises(GuestLost):
                guest.run("sh", "-c", "echo c > /proc/sysrq-trigger")
        """)
    )

    status, said = run(own, "-v", "-n2")

    assert status == 1, said
    for name in ("test_quiet", "test_is_to_warn", "test_is_to_panic", "guest-1"):
        assert re.search(rf"PASSED \S+::{name}\b", said), said
    for name, title in (
        ("test_warns", "WARNING in planted_warning"),
        ("test_panics", "kernel panic: sysrq triggered crash"),
    ):
        failure = said[said.index(f" {name} __") :]
        assert re.search(rf"^\[clean-log\] {title}$", failure, re.MULTILINE), failure
        assert re.search(rf"^FAILED \S+::{name} - KernelFault: \[clean-log\]", said, re.MULTILINE), said
    assert re.search(r"^ planted_\w+\+0x", said, re.MULTILINE), said
    assert re.search(r"^>  .*sysrq-trigger", said, re.MULTILINE), said
    assert "2 failed, 4 passed in" in said
    assert not re.search(r"harness/\S+\.py:\d", said), said
    consoles = {Path(found) for found in re.findall(r"^console: (\S+)$", said, re.MULTILINE)}
    assert all(re.fullmatch(r"guest_\d", path.parent.name) and path.is_file() for path in consoles), consoles
    # A worker has no other place to say it.
    assert len(consoles) == 2


def test_pytest_without_a_scenario_prepares_no_kernel(own: Path):
    """A user who has the package installed pays nothing in other projects."""
    (own / "scenarios" / "mine.yaml").unlink()
    (own / "test_other.py").write_text("def test_other():\n    assert True\n")

    status, said = run(own)

    assert status == 0, said
    assert "recordings" not in said
    assert ROOT.as_posix() not in said
