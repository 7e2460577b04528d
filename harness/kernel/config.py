# SPDX-License-Identifier: GPL-2.0-only
"""Configuration fragments, merged by the tree's own scripts and then verified: what was asked for is there.

A fragment is a file in the form of .config. A comment `# since 6.2`,
`# until 6.5` or `# since 6.2 until 6.5` on a line of its own makes the options
below it, up to the next empty line, count only for kernels from the first
version on, and before the second.

A user's whole .config in place of tinyconfig is only a wish: kconfig gives what
it can, and what became of the file, and of what guests need on top of it, is told.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.host import given, workspace
from harness.kernel import kconfig
from harness.kernel.source import series
from harness.kernel.toolchain import Toolchain, make, run
from harness.model.errors import ConfigError, UsageError
from harness.model.strict_yaml import offer

BASE = "base"
# What goes on top of a user's whole configuration, in the place of base.
GUEST = "guest"
_TIMEOUT_S = 900
_OPTION = re.compile(r"(?:CONFIG_(\w+)=(.+)|# CONFIG_(\w+) is not set)\s*$")
# make reads the values of a configuration, and runs $(shell …) in them; a shell runs `…`.
_RUN = re.compile(r"[$`]")
# How many options of a user's file that came out otherwise are named.
_NAMED = 5
_GATE = re.compile(r"# (?=since|until)(?:since (\d+\.\d+))? ?(?:until (\d+\.\d+))?\s*$")


@dataclass(frozen=True)
class Fragment:
    """A piece of configuration: the name it was asked for by, where it is, and its text.

    whole: it is a whole .config of the user's, which takes the place of tinyconfig.
    """

    name: str
    path: Path
    text: str
    whole: bool = False


@dataclass(frozen=True)
class Request:
    """One option that a fragment asks for, with value `n` if it must be off, and the place that asks for it."""

    symbol: str
    value: str
    where: str

    def met(self, values: Mapping[str, str], *, least: bool = False) -> bool:
        """Whether a configuration has it. least: a larger number will do, and y for m."""
        value = values.get(self.symbol, "n")
        if value == self.value or not least:
            return value == self.value
        if self.value == '""':
            return self.symbol not in values
        if self.value.isdecimal() and value.isdecimal():
            return int(value) >= int(self.value)
        return (self.value, value) == ("m", "y")


@dataclass(frozen=True)
class Resolved:
    """A final .config. told: of a user's whole configuration, what came out otherwise, a line each."""

    text: str
    told: Sequence[str] = field(default=())


def load(names: Sequence[str], base: str = "") -> list[Fragment]:
    """Find fragments by name in kernel-configs/, or by file. `base` comes first whether it is named or not.

    base: a user's whole .config; then that comes first, and `guest` is the second.
    """
    known = {file.stem: file for file in workspace.data("kernel-configs").glob("*.config")}
    found = [_whole(base)] if base else []
    for name in dict.fromkeys((GUEST if base else BASE, *(name for name in names if not base or name != BASE))):
        path = known.get(name) or given.path(name)
        if name not in known and "/" not in name and not given.exists(name):
            raise UsageError(f"--config {name}: no such fragment or file", offer(name, known))
        fragment = Fragment(name, path, given.text("--config", str(path)))
        requests(fragment, "0.0")
        found.append(fragment)
    return found


def _whole(name: str) -> Fragment:
    """A user's whole .config. UsageError for what is none."""
    option = "--base-config"
    text = given.text(option, name)
    fragment = Fragment(str(given.path(name)), given.path(name), text, whole=True)
    try:
        asked = {request.symbol for request in requests(fragment, "0.0")}
    except UsageError as error:
        raise UsageError(error.message.replace("--config", option, 1), "name a kernel's .config") from None
    if not asked:
        raise UsageError(f"{option} {name}: sets no option", "name a kernel's .config")
    return fragment


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
        if found := _RUN.search(request.value):
            raise UsageError(
                f"--config {fragment.name}: {where}: the value of CONFIG_{request.symbol} has a {found[0]!r}, "
                "which make would run",
                "take it out",
            )
        before = asked.setdefault(request.symbol, request)
        if before.value != request.value:
            raise UsageError(
                f"--config {fragment.name}: {where}: CONFIG_{request.symbol} has another value in {before.where}"
            )
    return list(asked.values())


def resolve(
    fragments: Sequence[Fragment], version: str, tree: Path, scratch: Path, toolchain: Toolchain, cache: Path
) -> Resolved:
    """The final .config of a tree: tinyconfig, then the fragments in order, later ones over earlier ones.

    tree: the patched source. scratch: an object tree of its own for kconfig.
    Raises ConfigError for an option that did not survive, and says why. On top
    of a user's whole configuration, what cannot be had is only told.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="fragments-") as folder:
        files = []
        for position, (name, text) in enumerate(merged(fragments, version)):
            files.append(Path(folder) / f"{position}-{name}")
            files[-1].write_text(text, encoding="utf-8")
        if not fragments[0].whole:
            _run(make(toolchain, tree, scratch, 0, "tinyconfig", ccache=False), scratch, tree, cache)
            base = Path(folder) / "tiny"
            (scratch / ".config").rename(base)
            files.insert(0, base)
        script = tree / "scripts/kconfig/merge_config.sh"
        _run(["sh", script, "-m", "-O", scratch, *files], scratch, tree, cache)
    _run(make(toolchain, tree, scratch, 0, "olddefconfig", ccache=False), scratch, tree, cache)
    final = (scratch / ".config").read_text(encoding="utf-8")
    if fragments[0].whole:
        return Resolved(final, compromises(fragments, version, final, tree))
    _verify(fragments, version, final, tree)
    return Resolved(final)


def merged(fragments: Sequence[Fragment], version: str) -> Iterator[tuple[str, str]]:
    """What merge_config.sh is given for a kernel, in order: a name and a text each.

    On top of a user's whole configuration, only what that does not have is asked for.
    """
    has: dict[str, str] = {}
    for fragment in fragments:
        if fragment.whole:
            has = kconfig.values(fragment.text)
            yield "whole.config", fragment.text
        elif has:
            least = fragment.name == GUEST
            met = {asked.symbol for asked in requests(fragment, version) if asked.met(has, least=least)}
            lines = (line for _, line in _lines(fragment, version) if _symbol(line) not in met)
            yield fragment.path.name, "".join(f"{line}\n" for line in lines)
        else:
            yield fragment.path.name, "".join(f"{line}\n" for _, line in _lines(fragment, version))


def _symbol(line: str) -> str:
    """The symbol that a line sets; empty for another line."""
    found = _OPTION.match(line)
    return found[1] or found[3] if found else ""


def compromises(fragments: Sequence[Fragment], version: str, final: str, tree: Path) -> list[str]:
    """What is not as a user's whole configuration has it, or as the fragments on top of it ask for."""
    whole, *others = fragments
    had, values = kconfig.values(whole.text), kconfig.values(final)
    asked: dict[str, tuple[Request, str]] = {}
    for fragment in others:
        asked |= {request.symbol: (request, fragment.name) for request in requests(fragment, version)}
    told, lost = [], []
    for request, name in asked.values():
        least = name == GUEST
        if not request.met(values, least=least):
            lost.append((request, name))
        elif not request.met(had, least=least):
            before = had.get(request.symbol, "n")
            told.append(
                f"CONFIG_{request.symbol}: the file says {before}, {name} needs {request.value} ({request.where})"
            )
    if lost:
        known = kconfig.definitions(tree)
        for request, name in lost:
            reason = kconfig.explain(request.symbol, request.value, values, known)
            told.append(
                f"CONFIG_{request.symbol}: {name} needs {request.value} ({request.where}), "
                f"and it stays {values.get(request.symbol, 'n')}: {reason}"
            )
    rest = sorted(name for name, value in had.items() if values.get(name, "n") != value and name not in asked)
    if rest:
        more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
        named = ", ".join(f"CONFIG_{name}" for name in rest[:_NAMED])
        told.append(f"not as in the file, because of these, this kernel's own rules or this compiler: {named}{more}")
    return told


def _lines(fragment: Fragment, version: str) -> Iterator[tuple[int, str]]:
    """The lines that count for a kernel version, with their numbers."""
    holds = True
    for number, line in enumerate(fragment.text.splitlines(), start=1):
        if gate := None if fragment.whole else _GATE.match(line):
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


def _run(argv: Sequence[str | Path], scratch: Path, tree: Path, cache: Path) -> None:
    env = {"KCONFIG_CONFIG": str(scratch / ".config")}
    # merge_config.sh makes a file where it is called.
    done = run(argv, tree=tree, writes=[scratch], cache=cache, timeout_s=_TIMEOUT_S, cwd=scratch, env=env)
    if done.status:
        from harness.kernel.diagnosis import failure

        raise failure(done.stdout + done.stderr, tree, cache, "the configuration", None)
