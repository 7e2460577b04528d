# SPDX-License-Identifier: GPL-2.0-only
"""The names that a shell offers for what an option or an argument takes, without reading what has the names.

A person waits for each of them: no scenario, mutant or verdict is loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.host import workspace
from harness.host.workspace import data
from harness.model.errors import HarnessError


def complete(action: argparse.Action, *kinds: str) -> None:
    """Have the shell offer the names of some kinds for an option or an argument."""

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        return offered(kinds, prefix, parsed_args)

    # Where argcomplete looks for it.
    action.completer = completer  # type: ignore[attr-defined]


def offered(kinds: tuple[str, ...], prefix: str, parsed: argparse.Namespace) -> list[str]:
    """The names of some kinds that begin so; what cannot be read has none."""
    found: dict[str, None] = {}
    for kind in kinds:
        try:
            found |= {name: None for name in _KINDS[kind](prefix, parsed) if name.startswith(prefix)}
        except (HarnessError, OSError):
            continue
    return list(found)


def _scenarios(_prefix: str, _parsed: argparse.Namespace) -> Iterator[str]:
    from harness.variants import catalogue

    for entry in catalogue.listing("scenarios"):
        yield entry["name"]
        yield Path(entry["file"]).stem


def _patches(_prefix: str, _parsed: argparse.Namespace) -> Iterator[str]:
    return (folder.name for folder in sorted(data("patches").glob("*/")))


def _stems(folder: str, pattern: str) -> Callable[[str, argparse.Namespace], Iterator[str]]:
    return lambda _prefix, _parsed: (path.stem for path in sorted(data(folder).rglob(pattern)))


def _oracles(_prefix: str, _parsed: argparse.Namespace) -> Iterator[str]:
    from harness.model.vocabulary import ORACLES

    return iter(ORACLES)


def _sources(_prefix: str, _parsed: argparse.Namespace) -> Iterator[str]:
    from harness.kernel import versions

    yield from (*versions.sources(), "debian:latest")


def _runs(prefix: str, _parsed: argparse.Namespace) -> Iterator[str]:
    """The runs in the cache; behind a run and a slash, its scenarios."""
    from harness.run import runs

    cache = workspace.cache_dir()
    run, slash, _ = prefix.partition("/")
    if slash:
        yield from (f"{run}/{name}" for name in _judged(runs.find(run, cache)))
    elif known := runs.folders(cache):
        yield from (runs.LAST, *(folder.name for folder in known))


def _recorded(_prefix: str, parsed: argparse.Namespace) -> Iterator[str]:
    """The scenarios of the run that the command line names."""
    run = getattr(parsed, "run", None)
    return _judged(run) if isinstance(run, Path) else iter(())


def _judged(run: Path) -> Iterator[str]:
    return (path.parent.name for path in sorted(run.glob("*/scenario.yaml")))


_KINDS: Mapping[str, Callable[[str, argparse.Namespace], Iterator[str]]] = {
    "scenarios": _scenarios,
    "all": lambda _prefix, _parsed: iter(["all"]),
    "configs": _stems("kernel-configs", "*.config"),
    "patches": _patches,
    "none": lambda _prefix, _parsed: iter(["none"]),
    "oracles": _oracles,
    "mutants": _stems("mutants", "*.patch"),
    "sources": _sources,
    "runs": _runs,
    "recorded": _recorded,
}
