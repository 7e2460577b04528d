# SPDX-License-Identifier: GPL-2.0-only
"""harness show: one scenario, configuration, patch, oracle or mutant in full; or why a scenario of a run failed."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands import _names
from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.model.scenario import Scenario
    from harness.run.runs import Kept

# A line of prose that is longer is hard to read.
_WIDTH = 100
_KINDS = ("scenarios", "configs", "patches", "oracles", "mutants")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    name = parser.add_argument("name", metavar="NAME", help="as harness list prints it; RUN[/SCENARIO]: why it failed")
    _names.complete(name, *_KINDS, "runs")
    parser.add_argument("--json", action="store_true", help="the same as one document, on standard output")


def main(arguments: argparse.Namespace) -> int:
    """Tell everything that has the name."""
    from harness.host.workspace import cache_dir

    if _is_run(arguments.name):
        return _explain(arguments.name, cache_dir())
    found = [*_scenarios(arguments.name, cache_dir()), *_files(arguments.name)]
    if not found:
        raise UsageError(f"unknown name {arguments.name!r}", _hint(arguments.name))
    if arguments.json:
        print(json.dumps(found))
        return 0
    for number, entry in enumerate(found):
        if number:
            print()
        for line in lines(entry):
            print(line)
    return 0


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """A person's view of what --json prints: wrapped to the terminal."""
    width = min(_WIDTH, shutil.get_terminal_size().columns)
    yield f"{entry['name']} ({entry['kind']}; {entry['file']})"
    yield from textwrap.wrap(entry["summary"], width - 2, initial_indent="  ", subsequent_indent="  ")
    for heading, texts in entry["chapters"].items():
        yield f"  {heading}"
        for text in texts:
            yield from textwrap.wrap(text, width - 4, initial_indent="    ", subsequent_indent="        ")


def _is_run(name: str) -> bool:
    """Whether a name is that of a run, or of a scenario in one."""
    from harness.commands import _options
    from harness.report import document

    place = _options.run(name)
    # As harness.run.earlier has it, which takes longer to load than a scenario to show.
    return place.is_dir() and any((folder / document.NAME).is_file() for folder in (place, place.parent))


def _explain(name: str, cache: Path) -> int:
    """Say why a scenario of a run failed."""
    from harness.commands import _options
    from harness.report import document, manifest
    from harness.run import earlier, explaining
    from harness.terminal import Terminal

    place = earlier.named(str(_options.run(name)))
    assert place is not None
    folder, scenario = place
    verdict = document.read(folder)
    result = explaining.failed(verdict, folder, scenario)
    with Terminal() as terminal:
        terminal.lines(manifest.doubts(folder))
        told = list(explaining.explain(folder, verdict, result, cache, terminal))
    print("\n".join(told))
    return 0


def _scenarios(name: str, cache: Path) -> list[dict[str, Any]]:
    """A scenario, or all variants of a file."""
    from harness.model import story
    from harness.run import runs
    from harness.variants import catalogue

    path = Path(name)
    known = list(catalogue.scenarios().values())
    found = catalogue.choose([name]) if path.suffix in {".yaml", ".yml"} else []
    found = found or [one for one in known if name in (one.name, one.path.stem)]
    earlier = list(runs.newest(cache)) if found else []
    return [
        {
            "name": one.name,
            "kind": "scenario of the default set" if one.default else "scenario",
            "file": _place(one.path),
            "summary": one.summary,
            "chapters": {**dict(story.chapters(one)), "last result": [_last(one, earlier)]},
        }
        for one in found
    ]


def _last(scenario: Scenario, earlier: Sequence[Kept]) -> str:
    """How a scenario ended in the latest of some runs that has judged it."""
    from harness.model.run import subject

    for run in earlier:
        for result in run.verdict.scenarios if run.verdict else ():
            if result.name.partition(".")[0] == scenario.name:
                assert run.verdict is not None
                said = "; ".join(finding.summary for finding in result.findings)
                on = subject(run.verdict.source, run.verdict.patches)
                return f"{result.outcome.value} after {result.seconds:.1f} s on {on}, run {run.folder.name}" + (
                    f": {said}" if said else ""
                )
    return "none in the cache"


def _files(name: str) -> list[dict[str, Any]]:
    """What a file by itself is: a configuration, a patch, an oracle, a mutant."""
    from harness.host import workspace
    from harness.variants import catalogue

    places = {
        "configs": ("configuration", [workspace.data("kernel-configs") / f"{name}.config"]),
        "patches": ("patch", sorted((workspace.data("patches")).glob(f"{_glob(name)}/*/*.patch"))),
        "mutants": ("mutant", sorted(workspace.data("mutants").rglob(f"{_glob(name)}.patch"))),
    }
    found = []
    for kind, (word, wanted) in places.items():
        paths = [path for path in wanted if path.is_file()]
        listed = catalogue.listing(kind) if paths else []
        summaries = [entry["summary"] for entry in listed if name in (entry["name"], entry["name"].split()[0])]
        for path in paths if summaries else ():
            text = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
            summary = summaries[0]
            found.append(
                {"name": name, "kind": word, "file": _place(path), "summary": summary, "chapters": {"it says": text}}
            )
    for entry in catalogue.listing("oracles"):
        if entry["name"] == name:
            text = [f"what each finding means: docs/reference/findings.md, {name}"]
            file = f"harness/oracles/{name.replace('-', '_')}.py"
            found.append(
                {"name": name, "kind": "oracle", "file": file, "summary": entry["summary"], "chapters": {"more": text}}
            )
    return found


def _glob(name: str) -> str:
    """A name without what a pattern of file names would take for more than itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name.replace("/", "?"))


def _place(path: Path) -> str:
    from harness.host import workspace

    return str(path.relative_to(workspace.ROOT)) if path.is_relative_to(workspace.ROOT) else str(path)


def _hint(name: str) -> str:
    from harness.model.strict_yaml import offer
    from harness.variants import catalogue

    hint = offer(name, {entry["name"] for kind in _KINDS for entry in catalogue.listing(kind)})
    return hint if hint.startswith("did you") else f"harness list {'|'.join(_KINDS)}"
