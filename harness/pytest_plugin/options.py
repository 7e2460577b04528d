# SPDX-License-Identifier: GPL-2.0-only
"""The plugin's options, beside those of everybody else."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from harness.model.contract import AUTO, CHOICES

# The options whose names somebody else has.
TAKEN = pytest.StashKey[list[str]]()

# The names of an option, and what it takes. The first name is ours; the others serve as long as nobody else has them.
_OPTIONS: Sequence[tuple[Sequence[str], dict[str, Any]]] = (
    (["--kernel-source"], {"metavar": "SOURCE", "help": "as harness run --source"}),
    (["--kernel-built"], {"metavar": "DIR", "help": "as harness run --built"}),
    (["--kernel-base-config"], {"metavar": "FILE", "help": "as harness run --base-config"}),
    (["--kernel-patch"], {"action": "append", "metavar": "PATCH", "help": "as harness run --patch; repeatable"}),
    (["--kernel-config"], {"action": "append", "metavar": "FRAGMENT", "help": "as harness run --config; repeatable"}),
    (
        ["--kernel-contract"],
        {"default": AUTO, "choices": CHOICES, "help": "as harness run --contract"},
    ),
    (
        ["--kernel-accel", "--accel"],
        {"default": "auto", "choices": ("auto", "kvm", "tcg"), "help": "as harness run --accel"},
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings. The options come later: see pytest_load_initial_conftests."""
    parser.addini(
        "kernel_scenarios",
        "folders, or patterns of files, of which every YAML file is a scenario of the kernel harness "
        "(default: the files in folders called scenarios that look like one)",
        type="args",
        default=None,
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Iterator[None]:
    """The options, after every other plugin and conftest had its choice: a name that is taken stays theirs."""
    # Until an option is known, pytest takes its value for a path to test, and runs the conftest.py in it.
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names, _ in _OPTIONS:
        ours.add_argument(*names, nargs="?")
    _, rest = ours.parse_known_args(args)
    early_config.known_args_namespace.file_or_dir = parser.parse_known_args(rest).file_or_dir
    yield
    # pytest has no question for this; its addoption() finds out for some versions, and for others when it is too late.
    groups = [*parser._groups, parser._anonymous]
    taken = {name for group in groups for option in group.options for name in option.names()}
    for names, attributes in _OPTIONS:
        if free := [name for name in names if name not in taken]:
            parser.getgroup("kernel harness").addoption(*free, dest=_destination(names[0]), **attributes)
    early_config.stash[TAKEN] = [names[0] for names, _ in _OPTIONS if names[0] in taken]


def value(config: pytest.Config, name: str) -> Any:
    """What an option of ours was given; None where nobody gave it, or the name is somebody else's."""
    return config.getoption(_destination(name), None)


def _destination(name: str) -> str:
    """Where an option's value is kept: apart from an option that somebody else gave the same name."""
    return f"harness_{name.strip('-').replace('-', '_')}"
