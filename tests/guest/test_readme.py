# SPDX-License-Identifier: GPL-2.0-only
"""The commands that README.md shows are run, and the output that it shows comes out. Beside it: test_documents.py."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from harness import pytest_plugin
from harness.cli import parse
from harness.model.errors import UsageError
from harness.variants import catalogue
from tests.guest.command import ROOT, as_a_user

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The map of the source, and the first test of a reader.
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FIRST_TEST = (ROOT / "docs/how-to/pytest.md").read_text(encoding="utf-8")
HARNESS = ".venv/bin/harness"
# The exit status of each command in a console block. A new command needs a line here.
EXPECTED = {
    "make run": 0,
    f"{HARNESS} run --patch none memcg-eagain": 1,
    f"{HARNESS} list scenarios": 0,
    f"{HARNESS} doctor": 0,
}
# The output that the text blocks show, where it is always the same.
SHOWN = {
    "make run": r"^pass +debian:6\.12 \+ mayfail, configuration base: \d+ pass; \d+ more .*: harness run all$",
    f"{HARNESS} run --patch none memcg-eagain": r"\[mayfail-gate\] direct reclaim came without .*:\d+$",
}


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of console blocks that a user types."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line[:2] == "$ "]


def templates() -> list[str]:
    """The lines of sh blocks: commands with names that a user fills in."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_every_command_has_an_expectation_and_every_expectation_a_command():
    assert sorted(commands()) == sorted(EXPECTED)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_readme_ends_as_documented(command: str):
    """It runs from the checkout, as in a shell, and prints the line that README shows."""
    status, said = as_a_user(shlex.split(command), ROOT)

    assert status == EXPECTED.get(command), said
    assert "Traceback" not in said
    if shown := SHOWN.get(command):
        documented = re.search(shown, README, re.MULTILINE)
        assert documented, shown
        assert _timeless(documented[0]) in map(_timeless, said.splitlines()), said


def _timeless(line: str) -> str:
    """A line without line numbers of C, which move with each stable release."""
    return re.sub(r"\.c:\d+", ".c:N", line.strip())


@pytest.mark.parametrize("template", templates())
def test_a_template_of_readme_parses(template: str):
    """The command line knows its sub-command, options and values; its scenarios and configurations exist."""
    words = shlex.split(template, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        return
    if HARNESS not in words:
        assert words[:2] == ["git", "bisect"], f"{template}: neither harness nor git bisect"
        return
    parsed = parse(words[words.index(HARNESS) + 1 :])

    catalogue.choose(getattr(parsed, "scenarios", []))
    configs = {entry["name"] for entry in catalogue.listing("configs")}
    assert set(getattr(parsed, "config", None) or ()) <= configs


def test_a_template_that_does_not_parse_is_noticed():
    """The check itself can fail."""
    with pytest.raises(UsageError):
        parse(["run", "--sauce", "debian:6.12"])


def test_every_path_in_readme_and_in_the_map_of_the_source_exists():
    """Links, the programs of .venv, and the folders of the map of the source."""
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    typed = [
        word
        for line in commands() + templates()
        for word in shlex.split(line, comments=True)
        if word.startswith(".venv/")
    ]
    (layout,) = [block for block in blocks("text", CONTRIBUTING) if block.startswith("harness/")]
    folder, mapped = "", list[str]()
    for line in layout.splitlines():
        names = re.findall(r"^ *(\S+(?: \S+\.py)*)", line)[0].split()
        if line.startswith(" "):
            mapped += [folder + name for name in names]
        else:
            (folder,) = names
            mapped.append(folder)
    paths = [*linked, *typed, *mapped]

    assert len(mapped) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_scenario_in_readme_is_one(tmp_path: Path):
    (block,) = blocks("yaml")
    (tmp_path / "shown.yaml").write_text(block, encoding="utf-8")

    assert [entry.name for entry in catalogue.choose([str(tmp_path / "shown.yaml")])] == ["shown"]


def test_every_name_in_the_first_test_is_a_fixture_of_the_plugin():
    (block,) = blocks("python", FIRST_TEST)
    compile(block, "pytest.md", "exec")

    for scenario in re.findall(r'judged\("([^"]+)"\)', block):
        catalogue.choose([scenario])
    used = {
        name.strip() for names in re.findall(r"^def \w+\((.*)\):", block, re.MULTILINE) for name in names.split(",")
    }
    assert used == {"guest", "judged", "module"}
    assert used <= set(pytest_plugin.__all__)


def test_the_first_test_passes_with_a_module_of_one_s_own(tmp_path: Path):
    """As a user begins: a folder with a module, the page's file beside it, pytest from anywhere else."""
    shutil.copytree(ROOT / "examples" / "pin-driver" / "pinner", tmp_path / "my-driver")
    (block,) = blocks("python", FIRST_TEST)
    (tmp_path / "test_mine.py").write_text(block, encoding="utf-8")
    words = [str(ROOT / ".venv/bin/pytest"), "-p", "no:cacheprovider", "-k", "comes_and_goes", "test_mine.py"]
    status, said = as_a_user(words, tmp_path)

    assert status == 0, said
    assert "1 passed" in said


def test_exit_codes_in_readme_are_those_of_the_errors():
    from harness import cli
    from harness.model.errors import CannotTest, MachineError
    from harness.model.verdict import Outcome

    table = dict(re.findall(r"^\| (\d+) \| (\w+)", README, re.MULTILINE))
    assert {int(code) for code in table} == {
        Outcome.PASS.exit_code,
        Outcome.FAIL.exit_code,
        CannotTest.exit_code,
        MachineError.exit_code,
        UsageError.exit_code,
        cli.INTERRUPTED,
        cli.TERMINATED,
    }
