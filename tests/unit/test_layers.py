# SPDX-License-Identifier: GPL-2.0-only
"""The layers of CONTRIBUTING.md, read from the import statements."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harness"

# What each layer may import beside itself. Modules directly under harness/ are the top layer and may import all of it.
_ENGINE = {"report", "oracles", "console", "postmortem", "pressures", "guest", "kernel", "host", "model"}
BELOW = {
    "commands": {"bisect", "history", "matrix", "run", "variants", "terminal", *_ENGINE},
    "bisect": {"run", *_ENGINE},
    "history": {"run", "report", "host", "model"},
    "matrix": {"terminal", "variants", "report", "kernel", "host", "model"},
    "terminal": {"report", "host", "model"},
    "run": _ENGINE,
    "variants": {"oracles", "pressures", "kernel", "host", "model"},
    "model": set[str](),
    "host": {"model"},
    "kernel": {"host", "model"},
    "guest": {"kernel", "host", "model"},
    "postmortem": {"guest", "kernel", "host", "model"},
    "pressures": {"guest", "model"},
    "console": {"model"},
    "oracles": {"console", "model"},
    "report": {"console", "host", "model"},
}

# Each third-party library has one home: a reader who wants to know its use opens one place.
HOMES = {
    "argcomplete": ("harness.cli", "harness.commands.completion"),
    "cryptography": ("harness.guest",),
    "distributed": ("harness.matrix.executor_dask", "harness.matrix.remote"),
    "drgn": ("harness.postmortem",),
    "elftools": ("harness.kernel", "harness.guest"),
    "hypothesis": ("harness.variants.generated", "harness.commands.explore"),
    "jinja2": ("harness.report",),
    "jsonschema": ("harness.model.documents",),
    "junitparser": ("harness.report",),
    "markupsafe": ("harness.report",),
    "numpy": ("harness.model.event", "harness.oracles", "harness.report.timeline"),
    "paramiko": ("harness.guest.shell",),
    "pexpect": ("harness.guest.console",),
    "platformdirs": ("harness.host",),
    "pytest": ("harness.pytest_plugin",),
    "qemu": ("harness.guest.monitor",),
    "re2": ("harness.model.scenario", "harness.console.scanner"),
    "rich": ("harness.terminal", "harness.cli"),
    "yaml": ("harness.model",),
}


def modules() -> dict[str, Path]:
    """Dotted name → file of every module of the package."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(source: str, known: set[str]) -> Iterator[str]:
    """Every module that a source text imports: at the top, inside a function, or for types only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def layer(module: str) -> str:
    """The layer of one of our modules; the top layer is empty."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else ""


def complaints(module: str, source: str, known: set[str]) -> list[str]:
    """What a module imports against the rules."""
    found = []
    mine = layer(module)
    for target in imports(source, known):
        top = target.partition(".")[0]
        if top == "harness":
            theirs = layer(target)
            if mine and target != "harness" and theirs != mine and theirs not in BELOW[mine]:
                found.append(f"{module} ({mine}) must not import {target}")
        elif top not in sys.stdlib_module_names:
            homes = HOMES.get(top, ())
            if not any(module == home or module.startswith(f"{home}.") for home in homes):
                found.append(f"{module} must not import {top}: its home is {' or '.join(homes) or 'nowhere'}")
    return found


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert complaints(module, MODULES[module].read_text(), set(MODULES)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("harness.model.event", "from harness.host import process"),
        ("harness.oracles.pairing", "from harness.guest.machine import Machine"),
        (
            "harness.guest.machine",
            "def late():\n    from harness.model import scenario\n    import harness.run.pipeline",
        ),
        ("harness.host.process", "import rich"),
        ("harness.guest.machine", "import pexpect"),
        ("harness.guest.machine", "import left_pad"),
    ],
)
def test_the_rules_speak_up(module: str, source: str) -> None:
    assert len(complaints(module, source, set(MODULES))) == 1


# A kind of source knows KernelSource, which finds the kind: harness/kernel/source.py says so.
_KNOWN = {("harness.kernel.source", "harness.kernel.archive"), ("harness.kernel.source", "harness.kernel.directory")}
_KNOWN |= {("harness.kernel.source", "harness.kernel.repository")}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports; none when there is no circle."""
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", ["", *BELOW])
def test_the_modules_of_a_layer_import_each_other_in_no_circle(name: str) -> None:
    mine = {module for module in MODULES if layer(module) == name and not MODULES[module].name.startswith("__")}
    graph = {
        module: {
            target
            for target in imports(MODULES[module].read_text(), set(MODULES))
            if target in mine and (module, target) not in _KNOWN
        }
        for module in mine
    }

    assert mine
    assert circle(graph) == []


def test_a_circle_is_noticed() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


# Names that only harness/variants/instruments.py may use; oracles and the log's format know the module's records.
NAMED = ("notifier_hold", "/bin/drive")
ENGINE = ("host", "kernel", "guest", "console", "report", "postmortem", "run", "commands")


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name) in ENGINE])
def test_the_engine_names_no_module(module: str) -> None:
    text = MODULES[module].read_text()

    assert [word for word in NAMED if word in text] == []


def test_what_is_under_test_is_named_in_one_place() -> None:
    named = [name for name in MODULES if "notifier_hold" in MODULES[name].read_text() and layer(name) != "oracles"]

    assert named == ["harness.model.event", "harness.variants.instruments"]


def test_a_command_imports_no_other() -> None:
    """The exception is the command that is the same by another name."""
    pairs = {
        (name, target)
        for name in MODULES
        if layer(name) == "commands"
        for target in imports(MODULES[name].read_text(), set(MODULES))
        if target.startswith("harness.commands.") and not target.startswith("harness.commands._")
    }

    assert pairs == {("harness.commands.report", "harness.commands.judge")}


def test_nothing_imports_the_command_line() -> None:
    users = [name for name, path in MODULES.items() if "harness.cli" in imports(path.read_text(), set(MODULES))]

    assert users == []
