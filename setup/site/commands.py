# SPDX-License-Identifier: GPL-2.0-only
"""The reference of the command line, from argparse: each command, each argument and option, and the exit codes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from harness import cli
from setup.site import markdown
from setup.site.markdown import code, plain

_WIDTH = 88


def render(root: Path) -> str:
    """The page; root: of the checkout, whose README has the exit codes."""
    return markdown.page(
        "Commands",
        "`harness COMMAND --help` prints the same. In a checkout the program is `.venv/bin/harness`.",
        "## Exit codes",
        _exit_codes((root / "README.md").read_text(encoding="utf-8")),
        *(part for name in cli.COMMANDS for part in _command(name)),
    )


def parser(name: str) -> argparse.ArgumentParser:
    """The parser of a command, with its options."""
    whole = cli._parser(name)
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices[name]
    found.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=_WIDTH)
    return found


def arguments(name: str) -> list[argparse.Action]:
    """What a command takes."""
    return [action for action in parser(name)._actions if not isinstance(action, argparse._HelpAction)]


def called(action: argparse.Action) -> str:
    """How an argument is written."""
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
    if not action.option_strings:
        return str(value or action.dest)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    return ", ".join(f"{option} {value or action.dest.upper()}" for option in action.option_strings)


def _command(name: str) -> Iterator[str]:
    found = parser(name)
    yield f"## harness {name}"
    yield plain(found.description or "")
    yield f"```text\n{found.format_usage().removeprefix('usage: ').rstrip()}\n```"
    yield markdown.table(
        ("argument", "what it says"), ((code(called(action)), plain(action.help or "")) for action in arguments(name))
    )


def _exit_codes(readme: str) -> str:
    found = re.search(r"^### Exit codes\n+((?:\|.*\n)+)", readme, re.MULTILINE)
    if found is None:
        raise ValueError("README.md has no table of exit codes")
    return found[1]
