# SPDX-License-Identifier: GPL-2.0-only
"""What can be to blame: commits, the patches of a series, or the options that two configurations differ in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from harness.bisect.ask import Target
from harness.bisect.history import History
from harness.bisect.search import Cost, Space, line
from harness.host import workspace
from harness.kernel import config, patches
from harness.model.errors import UsageError
from harness.run.pipeline import KernelRequest

# What is compiled again, in seconds of one CPU: a file, a header that few read, one that all do; then the link, alone.
_FILE_S, _HEADER_S, _SHARED_S, _LINK_S = 2.0, 30.0, 180.0, 8.0
_SHARED = re.compile(r"(arch/x86/)?include/|Makefile$|.*Kconfig|scripts/")


class Subject(Protocol):
    """What a search needs to know of what it searches in."""

    @property
    def space(self) -> Space:
        """The candidates and the states."""

    @property
    def kind(self) -> str:
        """What a candidate is, in one word."""

    @property
    def goods(self) -> Sequence[Target]:
        """The good end; then where the ends have parted."""

    def target(self, state: int) -> Target:
        """What is tested for a state."""

    def before(self, candidate: str) -> Target:
        """The state before a candidate."""

    def reverted(self, candidate: str) -> Target:
        """The bad end without a candidate alone; that need not be possible, which shows when it is made."""

    def title(self, name: str) -> str:
        """What people call a candidate or an end."""

    def cost(self, one: str, other: str) -> Cost:
        """What it takes to come from one state to another."""


@dataclass(frozen=True)
class Commits:
    """The commits between two revisions. scratch: a folder for diffs."""

    history: History
    kernel: KernelRequest
    scratch: Path
    kind: str = "commit"

    @property
    def space(self) -> Space:
        """As the history has it."""
        return self.history.space

    @property
    def goods(self) -> Sequence[Target]:
        """The good end, and where its line has left that of the bad end."""
        return [self._at(sha) for sha in (self.history.good, *self.history.bases)]

    def target(self, state: int) -> Target:
        """A commit."""
        return self._at(self.space.states[state])

    def before(self, candidate: str) -> Target:
        """Its first parent."""
        return self._at(self.history.parent(candidate))

    def reverted(self, candidate: str) -> Target:
        """The bad end with the diff of a commit taken back."""
        diff = self.scratch / f"revert-{candidate[:12]}.patch"
        workspace.write_atomic(diff, self.history.reverse(candidate))
        end = self._at(self.history.bad).kernel
        return Target(f"{self.history.bad} without {candidate}", replace(end, patches=(*end.patches, str(diff))))

    def title(self, name: str) -> str:
        """Its subject."""
        return self.history.commit(name).subject

    def cost(self, one: str, other: str) -> Cost:
        """By the files that differ."""
        names = self.history.changed(one, other)
        if not names:
            return Cost()
        if any(map(_SHARED.match, names)):
            return Cost(_LINK_S, _SHARED_S)
        files = sum(_FILE_S for name in names if name.endswith((".c", ".S")))
        headers = sum(_HEADER_S for name in names if name.endswith(".h"))
        return Cost(_LINK_S, min(files + headers, _SHARED_S))

    def _at(self, sha: str) -> Target:
        return Target(sha, replace(self.kernel, source=f"git:{self.history.folder}@{sha}"))


@dataclass(frozen=True)
class Patches:
    """The patches of a series, on a source and after the patches that are on it anyway."""

    names: Sequence[str]
    files: Sequence[str]
    kernel: KernelRequest
    kind: str = "patch"

    @property
    def space(self) -> Space:
        """One after the other."""
        return line(self.names)

    @property
    def goods(self) -> Sequence[Target]:
        """The source without the series."""
        return [Target("the source without the series", self._with(()))]

    def target(self, state: int) -> Target:
        """The series up to a patch."""
        return Target(self.names[state], self._with(self.files[: state + 1]))

    def before(self, candidate: str) -> Target:
        """The series up to the patch before."""
        number = self.names.index(candidate)
        return self.target(number - 1) if number else self.goods[0]

    def reverted(self, candidate: str) -> Target:
        """The series without one patch."""
        number = self.names.index(candidate)
        left = (*self.files[:number], *self.files[number + 1 :])
        return Target(f"the series without {candidate}", self._with(left))

    def title(self, name: str) -> str:
        """Its own name says it."""
        return name

    def cost(self, one: str, other: str) -> Cost:
        """By the number of patches between."""
        numbers = [self.names.index(name) if name in self.names else -1 for name in (one, other)]
        return Cost(_LINK_S, _FILE_S * abs(numbers[0] - numbers[1]))

    def _with(self, files: Sequence[str]) -> KernelRequest:
        own = [name for name in self.kernel.patches if name != "none"]
        return replace(self.kernel, patches=(*own, *files) or ("none",))


@dataclass(frozen=True)
class Options:
    """The options that differ between two configurations, flipped one by one; what a side does not name is left out."""

    good: Mapping[str, str]
    bad: Mapping[str, str]
    kernel: KernelRequest
    scratch: Path
    kind: str = "option"

    @property
    def space(self) -> Space:
        """In the order of the bad configuration's file, those that are only in the good one last."""
        return line([name for name in {**self.bad, **self.good} if self.good.get(name, "n") != self.bad.get(name, "n")])

    @property
    def goods(self) -> Sequence[Target]:
        """The good configuration."""
        return [self._with("the good configuration", ())]

    def target(self, state: int) -> Target:
        """The good configuration with the first options as in the bad one."""
        names = self.space.candidates
        return self._with(names[state], names[: state + 1])

    def before(self, candidate: str) -> Target:
        """With one option less."""
        number = list(self.space.candidates).index(candidate)
        return self.target(number - 1) if number else self.goods[0]

    def reverted(self, candidate: str) -> Target:
        """The bad configuration with one option as in the good one."""
        left = [name for name in self.space.candidates if name != candidate]
        return self._with(f"the bad configuration without {candidate}", left)

    def title(self, name: str) -> str:
        """What it is in both."""
        return f"{name}: {self.good.get(name, 'n')} → {self.bad.get(name, 'n')}"

    def cost(self, one: str, other: str) -> Cost:
        """An option may change every file."""
        return Cost() if one == other else Cost(_LINK_S, _SHARED_S)

    def _with(self, name: str, flipped: Sequence[str]) -> Target:
        chosen = dict(self.good)
        for option in flipped:
            chosen.pop(option, None)
            if option in self.bad:
                chosen[option] = self.bad[option]
        text = "".join(
            f"{option}={value}\n" if value != "n" else f"# {option} is not set\n" for option, value in chosen.items()
        )
        # One file for all mixtures, so that they share an object tree.
        path = self.scratch / "mixed.config"
        asked = replace(self.kernel, configs=(*self.kernel.configs, str(path)))
        return Target(name, asked, ((path, text),))


def series(spec: str, kernel: KernelRequest, version: str, scratch: Path) -> Patches:
    """The patches of a folder or a mailbox, each in a file of its own."""
    found = patches.load([spec], version).patches
    if not found:
        raise UsageError(f"--series {spec}: holds no patch")
    names, files = [], []
    for number, patch in enumerate(found, 1):
        path = scratch / "series" / f"{number:04}.patch"
        workspace.write_atomic(path, patch.text)
        name = patch.name.rpartition("/")[2]
        names.append(name if name not in names else f"{number:04} {name}")
        files.append(str(path))
    return Patches(tuple(names), tuple(files), kernel)


def options(good: str, bad: str, kernel: KernelRequest, version: str, scratch: Path) -> Options:
    """The options in which two fragments or files differ."""
    both = []
    for option, name in (("--config-good", good), ("--config-bad", bad)):
        try:
            fragment = config.load([name])[-1]
        except UsageError as error:
            raise UsageError(error.message.replace("--config", option, 1), error.hint) from None
        both.append({f"CONFIG_{asked.symbol}": asked.value for asked in config.requests(fragment, version)})
    found = Options(both[0], both[1], kernel, scratch)
    if not found.space.candidates:
        raise UsageError(f"--config-good {good} --config-bad {bad}: no option differs")
    return found
