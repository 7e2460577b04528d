# SPDX-License-Identifier: GPL-2.0-only
"""What a shell offers at its cursor: the names of what there is, and the options of the command."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from harness.cli import COMMANDS
from harness.commands import _names, _slow
from harness.commands.completion import SHELLS
from harness.host.workspace import data
from tests.unit.runs import run_directory

ROOT = Path(__file__).resolve().parents[2]
HARNESS = Path(sys.executable).with_name("harness")
# Bash's own, of which `:` and `=` end a word.
BREAKS = " \t\n\"'><=;|&(:"


def offered(line: str, cache: Path) -> list[str]:
    """What the harness tells a shell of a command line with the cursor at its end."""
    asked = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_COMP_WORDBREAKS": BREAKS,
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(cache / "offered"),
        "HARNESS_CACHE": str(cache),
    }
    subprocess.run(
        [sys.executable, "-m", "harness.cli"],
        cwd=ROOT,
        env={**os.environ, **asked},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    return (cache / "offered").read_text().split("\v")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("harness comp", ["completion"]),
        ("harness run --contr", ["--contract"]),
        ("harness run --contract s", ["stock"]),
        ("harness run memcg-eag", ["memcg-eagain"]),
        ("harness run --config=lockd", ["lockdep"]),
        ("harness run --source debian:late", ["latest"]),
        ("harness bisect --patch may", ["mayfail"]),
        ("harness list mut", ["mutants"]),
    ],
)
def test_a_word_is_completed_by_what_there_is(line: str, words: list[str], tmp_path: Path) -> None:
    assert offered(line, tmp_path) == words


def named(*kinds: str, prefix: str = "", **parsed: object) -> list[str]:
    return _names.offered(kinds, prefix, argparse.Namespace(**parsed))


def test_each_kind_of_name_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    assert named("runs") == []
    run = run_directory(tmp_path / "runs" / "20260101-000000")
    judged = sorted(path.parent.name for path in run.glob("*/scenario.yaml"))
    assert named("runs") == ["last", run.name]
    assert named("runs", prefix="last/") == [f"last/{name}" for name in judged]
    assert named("runs", prefix="no-such-run/") == []
    assert named("recorded", run=run) == judged
    assert named("recorded") == []
    assert "skips-the-end" in named("mutants")
    assert {"pairing", "no-hang"} <= set(named("oracles"))
    assert named("patches", "none") == ["mayfail", "none"]
    assert set(named("configs")) == {path.stem for path in data("kernel-configs").glob("*.config")}
    assert {"memcg-eagain", "all"} <= set(named("scenarios", "all"))


def test_a_cache_that_cannot_be_has_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))

    assert named("runs") == []
    assert "memcg-eagain" in named("scenarios")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_is_one_that_it_reads(shell: str, tmp_path: Path) -> None:
    script = subprocess.run([HARNESS, "completion", shell], capture_output=True, text=True, check=True).stdout

    assert "harness" in script
    if (program := shutil.which(shell)) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", tmp_path / "script"], check=True)


# How each shell is started for a person who has only this in a start-up file.
STARTED = {
    "bash": (["--noprofile", "--norc", "-i"], 'eval "$({harness} completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$({harness} completion zsh)"'),
    "fish": (["--no-config", "-i"], "{harness} completion fish | source"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes_what_is_typed(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words, line = STARTED[shell]
    environment = {
        **os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "HARNESS_CACHE": str(tmp_path), "HOME": str(tmp_path),
    }  # fmt: skip
    terminal = pexpect.spawn(shell, words, env=environment, encoding="utf-8", timeout=60, dimensions=(40, 300))
    # The typed line does not hold the word that is waited for.
    terminal.sendline(f'{line.format(harness=HARNESS)}; echo rea"dy"')
    terminal.expect("ready")

    terminal.send(f"{HARNESS} show munmap-eag\t")
    terminal.expect("munmap-eagain")
    terminal.close(force=True)


def test_a_completion_waits_for_no_engine() -> None:
    """Whatever the command: its options and their names are all that is loaded."""
    program = (
        "import sys\nfrom harness import cli\n"
        "for name in cli.COMMANDS:\n"
        "    cli._parser(name, completes=True)\n"
        "    print(name, *(one for one in ('harness.run.pipeline', 'numpy', 'drgn') if one in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert [line.split() for line in done.stdout.splitlines()] == [[name] for name in COMMANDS]


@pytest.mark.parametrize("name", _slow.OPTIONS)
def test_what_is_completed_is_what_the_command_takes(name: str) -> None:
    assert importlib.import_module(f"harness.commands.{name}").options is _slow.OPTIONS[name]
