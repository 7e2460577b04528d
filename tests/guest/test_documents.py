# SPDX-License-Identifier: GPL-2.0-only
"""The commands that the documents show are run, page by page, as a reader types them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.cli import parse
from harness.commands.init import FILES
from harness.model.errors import UsageError
from harness.variants import catalogue
from tests.guest.command import LIMIT_S, ROOT, of_a_user

DOCS = ROOT / "docs"
# The commands of each page that end with another status than 0.
STATUS = {
    ("tutorial/your-patch.md", 2): 1,
    ("tutorial/your-patch.md", 4): 1,
}
# In `make check`: what takes seconds and builds nothing that is not built for another test.
QUICK = {"tutorial/first-run.md"}
# Run by a test of their own, because each needs a place that is made for it.
ELSEWHERE = {
    "explanation/security.md": "tests/unit/test_security_page.py",
    "how-to/history.md": "tests/unit/test_history_page.py",
    "how-to/bisect.md": "tests/unit/test_bisect_page.py",
    "how-to/your-kernel.md": "tests/guest/test_your_kernel.py",
}
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The lines of console blocks that a reader types."""
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


def templates() -> Iterator[tuple[str, str]]:
    """The lines of sh blocks: commands with names that a reader fills in."""
    for name, text in PAGES.items():
        yield from ((name, line) for block in blocks(text, "sh") for line in block.splitlines() if line.strip())


# Programs that readers have, or that a line above gave them.
OTHERS = (".venv/bin/pip", ".venv/bin/pytest", "sh", "for", "git", "STOP=build")
RUN = [name for name, text in PAGES.items() if commands(text) and name not in ELSEWHERE]


def checkout(place: Path) -> None:
    """A folder in which the commands find what a checkout has, and leave what they write."""
    for name in (".venv", "examples", "kernel-configs", "mutants", "patches", "scenarios"):
        (place / name).symlink_to(ROOT / name)


@pytest.mark.guest
@pytest.mark.kernel_build
@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.nightly) for one in RUN])
def test_the_commands_of_a_page_end_as_they_should(name: str, tmp_path: Path) -> None:
    """One after another, in one folder."""
    checkout(tmp_path)
    for number, command in enumerate(commands(PAGES[name]), 1):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path, env=of_a_user(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == STATUS.get((name, number), 0), f"$ {command}\n{done.stdout}"
        assert "Traceback" not in done.stdout


def test_each_page_with_commands_has_a_test() -> None:
    assert RUN
    assert set(RUN) >= QUICK
    for page, test in ELSEWHERE.items():
        assert commands(PAGES[page])
        assert page in (ROOT / test).read_text(encoding="utf-8")
    assert [(page, number) for page, number in STATUS if not 1 <= number <= len(commands(PAGES[page]))] == []


@pytest.mark.parametrize(("page", "template"), list(templates()))
def test_a_template_of_a_page_parses(page: str, template: str) -> None:
    """The command line knows its sub-command, options and values; its scenarios and configurations exist."""
    assert complaint(template) == "", page


def complaint(template: str) -> str:
    """What is wrong with a command whose names a reader fills in; empty when nothing is."""
    words = shlex.split(template, comments=True)
    if words[0] == "make":
        return "" if f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8") else "no such target"
    program = next((word for word in words if word.rpartition("/")[2] == "harness"), "")
    if not program:
        return "" if words[0] in OTHERS else "none of ours"
    # A run that is named must be there for the command line.
    given = [word.replace("RUN/SCENARIO", str(ROOT)) for word in words[words.index(program) + 1 :]]
    try:
        parsed = parse([str(ROOT) if word in ("RUN", "OTHER", "OLD", "NEW") else word for word in given])
        catalogue.choose([one for one in getattr(parsed, "scenarios", []) if one != "SCENARIO"])
    except UsageError as error:
        return str(error)
    known = {entry["name"] for entry in catalogue.listing("configs")}
    named = [one for one in getattr(parsed, "config", None) or () if one != "FILE"]
    return "" if set(named) <= known else f"no such configuration: {named}"


@pytest.mark.parametrize("wrong", ["harness rum", ".venv/bin/harness run --sauce x", "make tea", "harness run nothing"])
def test_a_template_that_does_not_parse_is_noticed(wrong: str) -> None:
    assert complaint(wrong) != ""


def test_the_wrong_patch_that_is_shown_is_the_one_that_is_run() -> None:
    (shown,) = blocks(PAGES["tutorial/your-patch.md"], "diff")

    assert shown in (ROOT / "mutants/ends-before-it-unmaps.patch").read_text(encoding="utf-8")


def test_what_init_is_said_to_write_is_what_it_writes() -> None:
    page = PAGES["tutorial/your-test.md"]
    (shown,) = blocks(page, "yaml")
    (python,) = blocks(page, "python")

    assert yaml.safe_load(shown) == yaml.safe_load(FILES["scenarios/first.yaml"])
    assert python in FILES["tests/test_kernel.py"]
