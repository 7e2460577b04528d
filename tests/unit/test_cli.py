# SPDX-License-Identifier: GPL-2.0-only
"""The command line finds each command by its name, and loads no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.model.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "hypothesis", "drgn", "paramiko")
# Prints which of our commands and of the heavy libraries a command line has loaded.
LOADED = """
import sys
from harness import cli
try:
    cli.main(sys.argv[1:])
except SystemExit:
    pass
print("loaded", *sorted(n for n in sys.modules if n.startswith("harness.commands.") or n in {heavy!r}))
"""


def loaded(*words: str) -> list[str]:
    """What a new process has loaded after a command line."""
    program = LOADED.replace("{heavy!r}", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_each_command_is_a_file_of_that_name_and_each_file_a_command() -> None:
    files = {path.stem for path in (ROOT / "harness" / "commands").glob("[!_]*.py")}

    assert set(cli.COMMANDS) == files


def test_help_loads_no_command() -> None:
    assert loaded("--help") == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_loads_that_one_and_nothing_heavy(name: str) -> None:
    found = loaded(name, "--help")

    assert [module for module in found if module in HEAVY] == []
    ours = {module.removeprefix("harness.commands.") for module in found}
    # Writing a report again means judging again.
    assert ours - {"_matrix", "_options", "_names", "_slow"} == ({name, "judge"} if name == "report" else {name})


# Each of them takes longer to load than a list of names may take.
SLOW = ("yaml", "re2", "harness.kernel.apt", "harness.kernel.patches", "harness.model.scenario", "harness.terminal")
WATCHED = """
import os, sys
from harness import cli
sys.argv = ["harness", *sys.argv[1:]]
try:
    cli.main()
finally:
    os.write(2, ("loaded " + " ".join(n for n in sys.modules if n in {slow!r})).encode())
"""


def slow(*words: str, cache: Path, **environment: str) -> tuple[list[str], str]:
    """What of the slow modules a command line loads when its list is known, and what it prints."""
    program = WATCHED.replace("{slow!r}", repr(SLOW))
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env={**os.environ, "HARNESS_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.rpartition("loaded")[2].split(), done.stdout


def test_a_list_that_is_known_reads_no_scenario(tmp_path: Path) -> None:
    """It is the same as the one that was read; a file that has changed is read again."""
    first = slow("list", "scenarios", "--json", cache=tmp_path)
    again = slow("list", "scenarios", "--json", cache=tmp_path)

    assert "yaml" in first[0]
    assert again == ([], first[1])
    assert "yaml" in slow("list", "scenarios", cache=tmp_path / "another")[0]


def test_only_an_argument_that_is_empty_is_refused_as_such() -> None:
    for words in (["run", ""], ["run", "--out="], ["run", "--out", ""]):
        with pytest.raises(UsageError, match="an argument is empty"):
            cli.parse(words)

    assert cli.parse(["run", "--config=mine="]).config == ["mine="]
    assert cli.parse(["shell", "echo", ""]).words == ["echo", ""]


def test_what_is_no_command_is_usage() -> None:
    with pytest.raises(UsageError, match="rum"):
        cli.parse(["rum"])
    with pytest.raises(UsageError, match="COMMAND"):
        cli.parse([])


@pytest.mark.parametrize("words", [("run", "memcg-eagain"), ("mutants", "skips-the-end"), ("explore",)])
def test_a_folder_with_somebodys_files_is_refused_before_anything_is_built(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, cache = tmp_path / "mine", tmp_path / "cache"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    assert cli.main([*words, "--out", str(mine)]) == 129

    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"harness: --out {mine}: already holds other files (thesis.tex)",
        "  try: name a new folder with --out",
    ]
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    assert not cache.exists()


@pytest.mark.parametrize("option", ["--patch", "--config", "--base-config"])
def test_a_file_that_is_not_there_is_told_before_a_source_is_fetched(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    assert cli.main(["run", "memcg-eagain", option, f"{tmp_path}/mine.patch", "--source", "git:nowhere@HEAD"]) == 129

    assert f"{option} {tmp_path}/mine.patch: no such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("rum", "COMMAND: there is no 'rum'", "did you mean run?"),
        ("xyzzy", "COMMAND: there is no 'xyzzy'", "harness --help"),
        ("list scenario", "what: there is no 'scenario'", "did you mean scenarios?"),
        ("completion tcsh", "shell: there is no 'tcsh'", "one of bash, zsh, fish"),
        ("run --accel xen", "--accel: there is no 'xen'", "one of auto, kvm, tcg"),
        ("run --contract mayfial", "--contract: there is no 'mayfial'", "did you mean mayfail?"),
        ("run --pacth x", "unrecognized arguments: --pacth", "did you mean --patch?"),
        ("run --xyzzy", "unrecognized arguments: --xyzzy", "harness --help"),
        ("run --jobs", "argument --jobs: expected one argument", "harness run --help"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest_right_one(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(line.split())

    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint


def test_a_choice_is_told_once_whatever_is_typed() -> None:
    """A word may hold what argparse puts around it."""
    with pytest.raises(UsageError) as caught:
        cli.parse(["run", "--accel", "x' (choose from 'y')"])

    assert "there is no" in caught.value.message
