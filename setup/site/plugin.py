# SPDX-License-Identifier: GPL-2.0-only
"""The reference of the pytest plugin: its fixtures, markers, options and settings, from the plugin itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from harness import pytest_plugin
from harness.pytest_plugin import marks, options
from setup.site import markdown
from setup.site.markdown import code, plain


def render() -> str:
    """The page."""
    return markdown.page(
        "pytest plugin",
        "The plugin is there where the package is installed. [Tests of your own](../how-to/pytest.md) shows how to use "
        "it, and what a guest can do.",
        "## Fixtures",
        markdown.table(("fixture", "what it is"), ((code(name), plain(said)) for name, said in fixtures().items())),
        "## Markers",
        markdown.table(("marker", "what it says"), ((code(one), plain(said)) for one, said in marks._MARKERS.items())),
        "## Options",
        markdown.table(("option", "what it says"), _options()),
        "## Settings",
        markdown.table(("setting", "what it says"), ((code(name), plain(said)) for name, said in settings().items())),
    )


def fixtures() -> dict[str, str]:
    """Each fixture, and the first paragraph of what it says about itself."""
    found = {name: getattr(pytest_plugin, name) for name in pytest_plugin.__all__}
    return {
        name: (inspect.getdoc(one._get_wrapped_function()) or "").partition("\n\n")[0]
        for name, one in found.items()
        if hasattr(one, "_get_wrapped_function")
    }


def settings() -> dict[str, str]:
    """Each setting of pytest's configuration."""
    told: dict[str, str] = {}

    class Parser:
        def addini(self, name: str, help: str, **_: Any) -> None:  # noqa: A002 - pytest's
            told[name] = help

    options.pytest_addoption(Parser())  # type: ignore[arg-type]
    return told


def _options() -> Iterator[tuple[str, str]]:
    for names, said in options._OPTIONS:
        value = said.get("metavar") or "{" + ",".join(said["choices"]) + "}"
        yield ", ".join(code(f"{name}={value}") for name in names), plain(said["help"])
