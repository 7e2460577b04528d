# SPDX-License-Identifier: GPL-2.0-only
"""Configuration fragments, merged by the tree's own scripts and then verified: what was asked for is there.

A fragment is a file in the form of .config. A comment `# since 6.2`,
`# until 6.5` or `# since 6.2 until 6.5` on a line of its own makes the options
below it, up to the next empty line, count only for kernels from the first
version on, and before the second.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import given, process, workspace
from harness.kernel import kconfig
from harness.kernel.source import series
from harness.kernel.toolchain import Toolchain, environment, make
from harness.model.errors import ConfigError, UsageError
from harness.model.strict_yaml import offer

BASE = "base"
_TIMEOUT_S = 900
_OPTION = re.compile(r"(?:CONFIG_(\w+)=(.+)|# CONFIG_(\w+) is not set)\s*$")
_GATE = re.compile(r"# (?=since|until)(?:since (\d+\.\d+))? ?(?:until (\d+\.\d+))?\s*$")


@dataclass(frozen=True)
class Fragment:
    """A piece of configuration: the name it was asked for by, where it is, and its text."""

    name: str
    path: Path
    text: str


@dataclass(frozen=True)
class Request:
    """One option that a fragment asks for, with value `n` if it must be off, and the place that asks for it."""

    symbol: str
    value: str
    where: str


def load(names: Sequence[str]) -> list[Fragment]:
    """Find fragments by name in kernel-configs/, or by file. `base` comes first whether it is named or not."""
    known = {file.stem: file for file in workspace.data("kernel-configs").glob("*.config")}
    found = []
    for name in dict.fromkeys((BASE, *names)):
        path = known.get(name) or given.path(name)
        if name not in known and "/" not in name and not given.exists(name):
            raise UsageError(f"--config {name}: no such fragment or file", offer(name, known))
        fragment = Fragment(name, path, given.text("--config", str(path)))
        requests(fragment, "0.0")
        found.append(fragment)
    return found


def requests(fragment: Fragment, version: str) -> list[Request]:
    """The options that a fragment asks for on a kernel; UsageError for a line that is not an option."""
    asked: dict[str, Request] = {}
    for number, line in _lines(fragment, version):
        where = f"{fragment.path.name}:{number}"
        found = _OPTION.match(line)
        if found is None:
            if line.startswith("#") or not line.strip():
                continue
            raise UsageError(
                f"--config {fragment.name}: {where}: {line!r} is no option", "write CONFIG_X=y or # CONFIG_X is not set"
            )
        request = Request(found[1] or found[3], found[2] or "n", where)
        before = asked.setdefault(request.symbol, request)
        if before.value != request.value:
            raise UsageError(
                f"--config {fragment.name}: {where}: CONFIG_{request.symbol} has another value in {before.where}"
            )
    return list(asked.values())


def resolve(
    fragments: Sequence[Fragment], version: str, tree: Path, scratch: Path, toolchain: Toolchain, cache: Path
) -> str:
    """The final .config of a tree: tinyconfig, then the fragments in order, later ones over earlier ones.

    tree: the patched source. scratch: an object tree of its own for kconfig.
    Raises ConfigError for an option that did not survive, and says why.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    env = environment(cache) | {"KCONFIG_CONFIG": str(scratch / ".config")}
    _run(make(toolchain, tree, scratch, 0, "tinyconfig", ccache=False), env, tree, cache)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="fragments-") as folder:
        files = []
        for position, fragment in enumerate(fragments):
            files.append(Path(folder) / f"{position}-{fragment.path.name}")
            files[-1].write_text("".join(f"{line}\n" for _, line in _lines(fragment, version)), encoding="utf-8")
        base = Path(folder) / "tiny"
        (scratch / ".config").rename(base)
        script = tree / "scripts/kconfig/merge_config.sh"
        _run(["sh", script, "-m", "-O", scratch, base, *files], env, tree, cache)
    _run(make(toolchain, tree, scratch, 0, "olddefconfig", ccache=False), env, tree, cache)
    final = (scratch / ".config").read_text(encoding="utf-8")
    _verify(fragments, version, final, tree)
    return final


def _lines(fragment: Fragment, version: str) -> Iterator[tuple[int, str]]:
    """The lines that count for a kernel version, with their numbers."""
    holds = True
    for number, line in enumerate(fragment.text.splitlines(), start=1):
        if gate := _GATE.match(line):
            holds = (not gate[1] or series(gate[1]) <= series(version)) and (
                not gate[2] or series(version) < series(gate[2])
            )
        elif not line.strip():
            holds = True
        elif holds:
            yield number, line


def _verify(fragments: Sequence[Fragment], version: str, final: str, tree: Path) -> None:
    """Compare what was asked for with what is there; the last fragment that names an option decides."""
    asked: dict[str, Request] = {}
    for fragment in fragments:
        asked |= {request.symbol: request for request in requests(fragment, version)}
    values = kconfig.values(final)
    lost = [request for request in asked.values() if values.get(request.symbol, "n") != request.value]
    if not lost:
        return
    definitions = kconfig.definitions(tree)
    said = []
    for request in lost:
        reason = kconfig.explain(request.symbol, request.value, values, definitions)
        got = values.get(request.symbol, "n")
        said.append(f"CONFIG_{request.symbol}={request.value} ({request.where}) became {got}: {reason}")
    raise ConfigError(
        "kconfig dropped " + "; ".join(said), "add what is missing to the fragment, or drop the option from it"
    )


def _run(argv: Sequence[str | Path], env: dict[str, str], tree: Path, cache: Path) -> None:
    done = process.run(argv, timeout_s=_TIMEOUT_S, cwd=tree, env=env)
    if done.status:
        from harness.kernel.diagnosis import failure

        raise failure(done.stdout + done.stderr, tree, cache, "the configuration", None)
