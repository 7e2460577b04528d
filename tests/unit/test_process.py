# SPDX-License-Identifier: GPL-2.0-only
"""The only way to start subprocesses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host import confinement, process
from harness.model.errors import LaunchError


def test_a_command_is_told_with_its_words():
    """The error shows the status, both outputs, and a line to paste."""
    done = process.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_s=10)

    assert (done.status, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert done.command == "sh -c 'echo out; echo err >&2; exit 7'"


def test_input_reaches_a_supervised_command():
    """A shell gives its background jobs /dev/null; ours must not."""
    assert process.run(["cat"], timeout_s=10, stdin=b"hello").stdout == "hello"


def test_bytes_that_are_no_text_are_kept():
    """Escaped, not dropped."""
    assert process.run(["printf", r"\377"], timeout_s=10).stdout == r"\xff"


def test_lines_are_heard_with_errors_among_them():
    """Both outputs in the order of writing."""
    heard: list[str] = []

    process.run(["sh", "-c", "echo a; echo b >&2; echo c"], timeout_s=10, on_line=heard.append)

    assert heard == ["a", "b", "c"]


@pytest.mark.parametrize("on_line", [None, lambda _line: None])
def test_a_late_command_is_ended(on_line):
    """The limit is in the message."""
    with pytest.raises(LaunchError, match=r"limit 0\.2 s"):
        process.run(["sleep", "1000"], timeout_s=0.2, on_line=on_line)


def test_what_a_child_that_died_did_not_read_leaves_nothing_open():
    child = process.spawn(["true"], stdin=subprocess.PIPE)
    with process.running(child):
        assert child.stdin
        child.wait()
        child.stdin.write(b"unread")

    assert child.stdin.closed
    assert child.stdout
    assert child.stdout.closed


def test_a_missing_program_is_named():
    """The error says how to install it."""
    with pytest.raises(LaunchError, match="no-such-program: not found"):
        process.run(["no-such-program"], timeout_s=1)


def test_the_environment_is_explicit(monkeypatch: pytest.MonkeyPatch):
    """Variables that an enclosing git hook or make exports do not reach our children."""
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("MAKEFLAGS", "-n")
    env = process.environment(ONE="1")

    assert not {"GIT_DIR", "MAKEFLAGS"} & set(env)
    assert (env["ONE"], env["LC_ALL"]) == ("1", "C.UTF-8")


def test_what_is_expendable_goes_first_for_lack_of_memory():
    """Whatever user it becomes; everybody else keeps the score that the harness has."""
    words = ["cat", "/proc/self/oom_score_adj"]
    told = [
        subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        for argv in (words, process.tied(words), process.tied(words, expendable=True), confinement.tied(words))
    ]

    assert told[1] == told[0] != "1000"
    assert told[2:] == ["1000", "1000"]


@pytest.mark.parametrize("wrap", ["supervised", "tied"])
def test_children_die_with_the_harness(wrap):
    """A kill -9 of the harness ends them: the pipe that they hold open closes."""
    script = f"""
import os, sys
from harness.host import confinement, process
process.spawn(["sleep", "1000"], stdout=sys.stdout.fileno(), wrap=process.{wrap})
os.write(2, b"up")
import signal
signal.pause()
"""
    root = Path(__file__).resolve().parents[2]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=root
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stderr.read(2) == b"up"
        child.send_signal(signal.SIGKILL)

        assert child.stdout.read() == b""
