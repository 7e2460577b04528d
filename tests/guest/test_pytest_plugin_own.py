# SPDX-License-Identifier: GPL-2.0-only
"""Tests of a user's own: their module, their programs, notifiers and pressure, and what a failure tells."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.command import LIMIT_S, ROOT, harness, of_a_user
from tests.guest.command import pytest_of_a_user as run

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

MODULE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>

static int warns;
module_param(warns, int, 0);
static int nobody_reads;

static noinline int mine_probe(void)
{
	return WARN_ON(warns);
}

static int __init mine_init(void)
{
	return mine_probe() ? 0 : 0;
}

static void __exit mine_exit(void)
{
}
module_init(mine_init);
module_exit(mine_exit);
MODULE_LICENSE("GPL");
"""
TESTS = '''
import pytest

def test_everything_goes_in_and_out(guest, module, kernel, tmp_path):
    assert module("my module") == ["mine"]
    guest.rmmod("mine")
    guest.modprobe("test_hmm")
    assert guest.run("uname", "-r", check=True).text.strip() == kernel.release
    assert guest.get(guest.put("my module/mine.c", "/tmp/deep/x"), tmp_path / "x") == (tmp_path / "x").read_bytes()
    assert guest.run("sh", "-c", "cat /share/mine.c > /share/new").status if guest.share("my module") else 0
    with pytest.raises(OSError, match="No such file"):
        guest.run("cat", "/share/link", check=True)
    assert guest.qmp("query-status")["status"] == "running"
    assert guest.dump().stat().st_size > 1 << 20

@pytest.mark.kernel(memory="256M", cpus=1)
def test_warns_after_a_reboot(guest, module):
    first = guest.boot_id
    guest.reboot()
    assert guest.boot_id != first
    assert guest.run("nproc").text == "1\\n"
    module("my module", warns=1)

def test_is_wrong(notifier, pressure, observed):
    device = notifier.subscribe(policy="eagain")
    pressure.memcg()
    assert observed.eagain == 1, "by hand"
    del device

@pytest.mark.kernel(config=["kasan"], timeout=1, needs="NO_SUCH_OPTION")
def test_unbuilt():
    """Its marks alone build nothing."""
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory of a user's, with a module."""
    folder = tmp_path / "my module"
    folder.mkdir()
    (folder / "mine.c").write_text(MODULE)
    (folder / "Makefile").write_text("obj-m := mine.o\n")
    (folder / "link").symlink_to("/etc/hostname")
    (tmp_path / "test_mine.py").write_text(TESTS)
    return tmp_path


def test_a_failure_of_one_s_own_tells_all_that_is_known(own: Path) -> None:
    """Title, source lines of the module, events beside each other, and how to repeat it; and no frame of ours."""
    before = {path: path.read_bytes() for path in (own / "my module").iterdir() if not path.is_symlink()}

    status, said = run(own, "-v", "-n2", "--junitxml=j.xml")

    assert status == 1, said
    assert "2 failed, 2 passed" in said, said
    assert "mine.c:6:12: warning: ‘nobody_reads’ defined but not used" in said, said
    warned = said[said.index(" test_warns_after_a_reboot __") :]
    assert re.search(r"^\[clean-log\] WARNING in mine_probe$", warned, re.MULTILINE), said
    assert re.search(r"^ +mine\.c:\d+ \(mine_probe\)$", warned, re.MULTILINE), said

    wrong = said[said.index(" test_is_wrong __") :]
    assert re.search(r"^E +AssertionError: by hand", wrong, re.MULTILINE), said
    assert re.search(r"^ +event +ms  pid \d+", wrong, re.MULTILINE), said
    assert re.search(r"^ +\d+ +\d+\.\d{3}  start device-2 1 pages mayfail reclaim", wrong, re.MULTILINE), said
    assert re.search(r"^pytest test_mine\.py::test_is_wrong$", wrong, re.MULTILINE), said
    assert not re.search(r"harness/\S+\.py:\d", said), said
    assert 'errors="0" failures="2" skipped="0" tests="4"' in (own / "j.xml").read_text()
    assert {path: path.read_bytes() for path in (own / "my module").iterdir() if not path.is_symlink()} == before


def test_nothing_is_left_of_an_interrupted_test(own: Path) -> None:
    (own / "test_mine.py").write_text(
        "def test(guest):\n    print('PID', guest.machine.pid, flush=True)\n    guest.run('sleep', '600')\n"
    )
    # A shell ignores the signal for what it starts in the background.
    child = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", "-q"],
        cwd=own,
        env=of_a_user(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    line = next(line for line in child.stdout if line.startswith("PID "))

    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=LIMIT_S)

    assert child.returncode == pytest.ExitCode.INTERRUPTED, said
    assert "KeyboardInterrupt" in said
    assert not Path("/proc", line.split()[1]).exists()


@pytest.mark.nightly
def test_a_use_after_free_that_has_nothing_to_do_with_mm_is_found(tmp_path: Path) -> None:
    """The example, on the kernel that the suite has with KASAN."""
    shutil.copytree(ROOT / "examples" / "ioctl-misc", tmp_path / "example")
    configs = [f"--kernel-config={name}" for name in ("lockdep", "debug-vm", "kasan")]

    status, said = run(tmp_path / "example", *configs)

    assert status == 0, said
    assert "2 passed, 6 subtests passed" in said


@pytest.mark.nightly
def test_the_kernel_s_own_tests_are_subtests(tmp_path: Path) -> None:
    """A suite of KUnit, and a program of the selftests."""
    (tmp_path / "test_suites.py").write_text(
        "def test_kunit(guest):\n    guest.kunit('list-kunit-test')\n\n\n"
        "def test_selftest(guest):\n    guest.kselftest('mm:mremap_test', timeout_s=120)\n"
    )

    status, said = run(tmp_path, "--kernel-config=kunit", "-rA")

    assert re.search(r"SUBPASS\S* ?\[list-kunit-test: list-kunit-test: list_test_list_init\]", said), said
    assert re.search(r"SUB\w+ ?\[mremap_test: ", said), said
    assert status in (0, 1), said


def test_the_shell_has_the_module_and_the_folder(own: Path) -> None:
    """Of the folder, only what is in it; and nothing can be written there."""
    command = "cut -d' ' -f1 /proc/modules; ls /share; touch /share/x; cat /share/link"

    ended = harness("shell", "--module", own / "my module", "--share", own / "my module", "sh", "-c", command)

    assert ended.stdout.split() == ["mine", "notifier_hold", "Makefile", "link", "mine.c"]
    assert "Read-only file system" in ended.stderr
    assert "/share/link': No such file" in ended.stderr
    assert ended.status == 1
    wrong = harness("shell", "--module", own, "true")
    assert wrong.status == 129
    assert "holds no module: no Makefile and no Kbuild" in wrong.stderr


def test_a_module_is_made_in_the_place_that_build_tells(own: Path) -> None:
    document = harness("build", "--json").document
    folder = own / "my"
    (own / "my module").rename(folder)

    subprocess.run(["make", "-C", document["build_dir"], f"M={folder}"], check=True, capture_output=True)

    assert (folder / "mine.ko").is_file()
    assert document["make"].startswith("make ")
