# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pexpect
import pytest

from tests.guest.command import LIMIT_S, ROOT, argv, environment, harness


@pytest.mark.guest
@pytest.mark.kernel_build
def test_the_shell_is_a_person_s_with_the_module_loaded() -> None:
    """A prompt without the kernel's noise in it, and Ctrl-] to leave."""
    program, *words = argv("shell")
    shell = pexpect.spawn(program, words, cwd=str(ROOT), env=environment(), timeout=LIMIT_S, encoding="utf-8")

    shell.expect_exact("leave with Ctrl-]")
    shell.expect_exact("guest# ")
    shell.sendline("cut -d' ' -f1 /proc/modules; echo d''one")
    shell.expect_exact("notifier_hold")
    shell.expect_exact("done")
    shell.sendcontrol("]")
    shell.expect(pexpect.EOF)
    shell.close()

    assert shell.exitstatus == 0


@pytest.mark.guest
def test_the_shell_wants_a_terminal() -> None:
    """129 and a hint, not a hang."""
    ended = harness("shell")

    assert ended.status == 129
    assert "needs a terminal" in ended.stderr


@pytest.mark.guest
def test_a_command_runs_in_a_fresh_guest_and_its_status_is_ours() -> None:
    ended = harness("shell", "sh", "-c", "cut -d' ' -f1 /proc/modules; echo to stderr >&2; exit 3")

    assert (ended.status, ended.stdout) == (3, "notifier_hold\n")
    assert "to stderr" in ended.stderr
    assert harness("shell", "sh", "-c", "kill -9 $$").status == 128 + 9


@pytest.mark.guest
def test_a_terminal_gets_no_control_characters_of_a_command() -> None:
    """A pipe gets the bytes as they are."""
    words = ("shell", "printf", r"\033[31mred")
    program, *rest = argv(*words)
    shell = pexpect.spawn(program, rest, cwd=str(ROOT), env=environment(), timeout=LIMIT_S, encoding="utf-8")

    shell.expect_exact(r"\x1b[31mred")
    shell.expect(pexpect.EOF)
    assert harness(*words).stdout == "\x1b[31mred"
