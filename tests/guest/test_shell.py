# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.guest.command import LIMIT_S, ROOT, argv, environment, harness

# A record for the kernel's log, as the kernel writes it.
WARNING = "<4>WARNING: CPU: 0 PID: 1 at mm/vmscan.c:1 shrink_everything+0x1/0x2"


@pytest.mark.guest
@pytest.mark.kernel_build
@pytest.mark.parametrize("leave", ["\x1d", "exit\r"], ids=["key", "exit"])
def test_the_shell_is_a_person_s_with_the_module_loaded(leave: str) -> None:
    """A prompt without the kernel's noise in it, a terminal of the size of theirs, and two ways to leave."""
    program, *words = argv("shell")
    shell = pexpect.spawn(program, words, cwd=str(ROOT), env=environment(), timeout=LIMIT_S, encoding="utf-8")

    shell.expect_exact("leave with exit or Ctrl-]")
    shell.expect_exact("guest# ")
    shell.sendline("cut -d' ' -f1 /proc/modules; echo d''one")
    shell.expect_exact("notifier_hold")
    shell.expect_exact("done")
    shell.setwinsize(50, 132)
    shell.sendline("until stty size | grep -q '^50 132'; do sleep 0.1; done; echo r''esized")
    shell.expect_exact("resized")
    shell.send(leave)
    shell.expect(pexpect.EOF)
    shell.close()

    assert shell.exitstatus == 0


@pytest.mark.guest
def test_the_shell_wants_a_terminal() -> None:
    """The exit code is 129 with a hint; the command does not hang."""
    ended = harness("shell")

    assert ended.status == 129
    assert "needs a terminal" in ended.stderr


@pytest.mark.guest
def test_a_command_runs_in_a_fresh_guest_and_its_status_is_ours() -> None:
    command = "cut -d' ' -f1 /proc/modules; wc -c; echo to stderr >&2; exit 3"
    ended = harness("shell", "sh", "-c", command, given="x" * 200_000)

    assert (ended.status, ended.stdout) == (3, "notifier_hold\n200000\n")
    assert "to stderr" in ended.stderr
    assert harness("shell", "sh", "-c", "kill -9 $$").status == 128 + 9


@pytest.mark.guest
@pytest.mark.parametrize(
    ("command", "status", "complaint"),
    [
        (f"printf {WARNING!r} > /dev/kmsg; exit 5", 5, r"WARNING in shrink_everything \(console line \d+\)"),
        ("echo c > /proc/sysrq-trigger", 1, r"kernel panic: sysrq triggered crash \(console line \d+\)"),
    ],
)
def test_what_the_kernel_said_meanwhile_is_told(command: str, status: int, complaint: str) -> None:
    """The status is the command's, if it has one."""
    ended = harness("shell", "sh", "-c", command)

    assert ended.status == status, ended.stderr
    assert re.search(rf"^harness: the guest's kernel: {complaint}$", ended.stderr, re.MULTILINE), ended.stderr
    console = re.search(r"^harness: console: (\S+)$", ended.stderr, re.MULTILINE)
    assert console, ended.stderr
    assert Path(console[1]).is_file()


@pytest.mark.guest
def test_a_guest_whose_pid_1_stands_still_is_not_waited_for() -> None:
    """Nothing runs in it, so nothing can come; what is found out of it, is told."""
    freeze = "cd /sys/fs/cgroup; mkdir x; echo 1 > x/cgroup.procs; echo 1 > x/cgroup.freeze; sleep 1000"
    ended = harness("shell", "sh", "-c", freeze)

    # A host that is too busy to tell is to blame itself.
    assert ended.status in (1, 128), ended.stderr
    assert re.search("the guest's kernel: |PID 1 stands still", ended.stderr), ended.stderr


@pytest.mark.guest
def test_a_terminal_gets_no_control_characters_of_a_command() -> None:
    """A pipe gets the bytes as they are."""
    words = ("shell", "printf", r"\033[31mred")
    program, *rest = argv(*words)
    shell = pexpect.spawn(program, rest, cwd=str(ROOT), env=environment(), timeout=LIMIT_S, encoding="utf-8")

    shell.expect_exact(r"\x1b[31mred")
    shell.expect(pexpect.EOF)
    assert harness(*words).stdout == "\x1b[31mred"


@pytest.mark.guest
@pytest.mark.kernel_build
def test_a_scenario_of_a_run_is_done_again_up_to_where_it_stopped(tmp_path: Path) -> None:
    """A scenario that ran to its end stops before its memory is unmapped and its subscribers leave."""
    assert harness("run", "--out", tmp_path / "run", "memcg-accept").status == 0

    ended = harness("shell", tmp_path / "run", "sh", "-c", "pidof drive >&2; cat /sys/fs/cgroup/work/memory.max")

    assert (ended.status, ended.stdout) == (0, f"{32 << 20}\n"), ended.stderr
    assert "memcg-accept was done again up to step " in ended.stderr


@pytest.mark.guest
@pytest.mark.kernel_build
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_comes_to_a_living_guest_by_the_line_that_is_printed() -> None:
    """The functions of the kernel and of the module have names in gdb."""
    with subprocess.Popen(
        argv("shell", "--gdb", "sleep", "1000"), env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stderr is not None
        line = next(line for line in shell.stderr if line.startswith("gdb "))
        look = ["-nx", "-batch", "-ex", "info address nh_log_open", "-ex", "print $rip != 0"]
        debugger = subprocess.run(
            [*shlex.split(line), *look], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        shell.send_signal(signal.SIGINT)
        said = shell.stderr.read()

    assert debugger.returncode == 0, debugger.stderr
    assert "nh_log_open" in debugger.stdout
    assert "= 1" in debugger.stdout
    assert (shell.returncode, said) == (130, "harness: interrupted; no process is left\n")
