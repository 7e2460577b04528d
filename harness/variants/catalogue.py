# SPDX-License-Identifier: GPL-2.0-only
"""What there is to choose from: the folders of variants, listed from the files themselves."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.host import workspace
from harness.host.progress import Progress
from harness.host.workspace import data
from harness.model.errors import HarnessError, LaunchError, UsageError

# What reads the files takes longer to load than a list or a completion may take: each function loads its own.
if TYPE_CHECKING:
    from harness.model.scenario import Scenario

# What a run directory holds beside the folders of its scenarios.
_TAKEN = ("events", "kernel")
# Raise this when the same files make another list.
_FORMAT = "1"


@functools.cache
def scenarios() -> dict[str, Scenario]:
    """Every scenario of the project by name; read once."""
    from harness import pressures
    from harness.model import scenario

    keys = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
    return {
        entry.name: entry for path in sorted(data("scenarios").glob("*.yaml")) for entry in scenario.load(path, keys)
    }


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios that were named: none → the default set; `all`; a name, or a file's own; a path to a YAML file.

    Each once; raises UsageError for two of one name, which would share a folder of the run.
    """
    from harness import pressures
    from harness.model import scenario, strict_yaml

    keys = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
    # To read all of ours takes 0.2 s, which nobody who names a file waits for.
    known = {} if names and all(_is_path(name) for name in names) else scenarios()
    if not names:
        return [entry for entry in known.values() if entry.default]
    chosen: dict[str, Scenario] = {}
    for name in names:
        if name == "all":
            found = list(known.values())
        elif _is_path(name):
            found = scenario.load(Path(name), keys)
        else:
            found = [entry for entry in known.values() if name in (entry.name, entry.path.stem)]
        if not found:
            raise UsageError(
                f"unknown scenario {name!r}", strict_yaml.offer(name, ["all", *known], "harness list scenarios")
            )
        for entry in found:
            other = chosen.setdefault(entry.name, entry)
            if other.path.resolve() != entry.path.resolve():
                raise UsageError(
                    f"two scenarios are called {entry.name!r}: {other.path} and {entry.path}",
                    "rename one of the files, or run each with a --out of its own",
                )
            if entry.name in _TAKEN:
                raise UsageError(f"{entry.path}: a run keeps files of its own in {entry.name!r}", "rename the file")
    return list(chosen.values())


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


def listing(what: str) -> list[dict[str, str]]:
    """Name and one line for everything of a kind, as `harness list` shows it."""
    if what == "scenarios":
        return _scenarios()
    if what == "configs":
        return [_described(path, path.stem) for path in sorted(data("kernel-configs").glob("*.config"))]
    if what == "patches":
        return [
            _described(next(iter(sorted(folder.glob("*.patch"))), folder), f"{folder.parent.name} {folder.name}")
            for folder in sorted(data("patches").glob("*/*/"))
        ]
    if what == "mutants":
        from harness.variants import mutants

        return [
            {"name": name, "summary": ports[0].summary, "expected": ports[0].expected or "none: equivalent"}
            for name, ports in mutants.catalogue().items()
        ]
    from harness import oracles

    return [{"name": name, "summary": summary} for name, (_, summary) in oracles.catalogue().items()]


def _scenarios() -> list[dict[str, str]]:
    """The list of scenarios, remembered for as long as their files are the same: to read them all takes 0.4 s."""
    paths = sorted(data("scenarios").glob("*.yaml"))
    key = workspace.digest(_FORMAT, *(part for path in paths for part in (path.name, path.read_bytes())))
    memory = None
    # A list needs no cache.
    with contextlib.suppress(HarnessError, OSError):
        memory = workspace.cache_dir() / "lists" / "scenarios.json"
        known = json.loads(workspace.recall(memory) or b"{}")
        if known.get("key") == key:
            return list(known["entries"])
    entries = [
        {
            "name": name,
            "summary": entry.summary,
            "set": "default" if entry.default else "all",
            "file": f"scenarios/{entry.path.name}",
        }
        for name, entry in scenarios().items()
    ]
    with contextlib.suppress(HarnessError, OSError):
        if memory is not None:
            workspace.remember(memory, json.dumps({"key": key, "entries": entries}))
    return entries


def sources(cache: Path, progress: Progress) -> list[dict[str, str]]:
    """The same for kernel sources: those that are served, and what Debian's archive has, which is asked once a day."""
    from harness.kernel import apt, versions
    from harness.kernel.source import series

    try:
        offers: Mapping[str, str] = apt.offers(cache, progress).versions
    except LaunchError as error:
        progress.say(str(error))
        offers = {}
    served = versions.served()
    names = sorted({*served, *offers}, key=series, reverse=True)
    names.sort(key=lambda name: f"debian:{name}" != versions.DEFAULT)
    return [{"name": f"debian:{name}", "summary": _source(name, offers.get(name, ""), served, cache)} for name in names]


def _source(name: str, offer: str, served: Sequence[str], cache: Path) -> str:
    from harness.kernel import apt, patches, versions

    said = ["the default"] if f"debian:{name}" == versions.DEFAULT else []
    if name not in served:
        said.append(f"never tried here; the nearest that was is {patches.port(versions.PATCH, name)}")
    if apt.installed(name).is_file():
        said.append("installed")
    elif apt.fetched(name, cache).is_file():
        said.append("in the cache")
    if offer:
        said.append(f"Debian's archive has {offer}")
    return "; ".join(said)


def _described(path: Path, name: str) -> dict[str, str]:
    """The first line of a file that describes it: a comment that is no licence, or a patch's subject."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:20]:
            text = line.removeprefix("Subject:").lstrip("# ").strip()
            if line.startswith("Subject:") or (line.startswith("#") and text and "SPDX" not in line):
                return {"name": name, "summary": text}
    return {"name": name, "summary": ""}
