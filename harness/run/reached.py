# SPDX-License-Identifier: GPL-2.0-only
"""Counts in each guest how often the lines that the user's patches changed are executed.

guest-modules/reached has a probe for each of their instructions. It is in the
image, so that the probes are set before the machines are cloned: they cost a
scenario what they count, and no more.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.guest.agent import GuestTimeout
from harness.guest.machine import Machine
from harness.host import workspace
from harness.host.progress import Progress
from harness.kernel import build as builds
from harness.kernel import changes, kconfig, modules, places
from harness.kernel import source as sources
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.kernel.places import Places
from harness.kernel.source import KernelSource
from harness.model import files
from harness.model.coverage import ChangedLine, PatchCoverage
from harness.model.errors import HarnessError, MachineError, UsageError
from harness.model.recording import Ended

# The names in guest-modules/reached/reached.c.
_ON = "/sys/module/reached/parameters/on"
_COUNTS = "/proc/reached"
# In a scenario's folder: the same.
FILE = "reached.txt"
# A probe takes up to 1 ms of the boot, under TCG.
PLACES_LIMIT = 1000
_NEEDED = ("KPROBES", "MODULES", "PROC_FS", "SYSFS", "KALLSYMS")
_LIMIT_BYTES = 1 << 16
_NUMBER = re.compile(r"-?[0-9]{1,10}")
# These guests still answer.
_ANSWERING = (Ended.COMPLETE, Ended.EARLY, Ended.STEP_FAILED, Ended.NO_PROGRESS)
_LIMIT_S = 10.0


class Watch:
    """The changed lines of one kernel, and what was counted. Any thread may use it."""

    def __init__(self, found: Places, module: Path | None = None, reason: str = "") -> None:
        """module: watches the first PLACES_LIMIT of chosen(found). reason: why nothing is watched."""
        self.modules = [module] if module else []
        self._found = found
        self._at = chosen(found)
        self._reason = reason
        self._counts: dict[str, Sequence[int]] = {}
        self._uncounted: dict[str, None] = {}
        self._guard = threading.Lock()

    def expect(self, name: str) -> None:
        """A scenario is tried: until its guest has told its counts, they are not known."""
        if self.modules:
            with self._guard:
                self._counts.pop(name, None)
                self._uncounted[name] = None

    def begin(self, machine: Machine) -> None:
        """From now on, the guest counts."""
        if self.modules:
            # A guest that does not answer is found out by its scenario.
            with contextlib.suppress(GuestTimeout, OSError, MachineError):
                machine.agent.write_file(_ON, "1", _LIMIT_S)

    def end(self, machine: Machine, name: str, ended: Ended) -> None:
        """Take what a guest has counted for a scenario."""
        if not self.modules or ended not in _ANSWERING:
            return
        with contextlib.suppress(GuestTimeout, OSError, MachineError):
            counts = parsed(machine.agent.read_file(_COUNTS, _LIMIT_S, limit_bytes=_LIMIT_BYTES), len(self._at))
            if counts is not None:
                with self._guard:
                    self._counts[name] = counts
                    self._uncounted.pop(name, None)

    def document(self, name: str) -> str:
        """What was counted for a scenario, as its folder keeps it; empty when nothing was."""
        with self._guard:
            return "".join(f"{count}\n" for count in self._counts.get(name, ()))

    def recall(self, folder: Path, names: Iterable[str]) -> None:
        """Take what a run that is gone on with had counted, on the same kernel and with the same module."""
        for name in names if self.modules else ():
            counts = None
            with contextlib.suppress(OSError, ValueError):
                counts = parsed(files.read(folder / name / FILE, _LIMIT_BYTES), len(self._at))
            with self._guard:
                if counts is None:
                    self._uncounted[name] = None
                else:
                    self._counts[name] = counts

    def reached(self, name: str) -> frozenset[places.Line]:
        """The lines that a scenario executed."""
        counts = self._counts.get(name, ())
        there = {offset for offset, count in zip(self._at, counts, strict=False) if count > 0}
        return frozenset(line for line, offsets in self._found.at.items() if not there.isdisjoint(offsets))

    def coverage(self, required: float = 0.0) -> PatchCoverage:
        """What was counted so far. required: percent."""
        with self._guard:
            counts, uncounted = dict(self._counts), tuple(self._uncounted)
        numbers = {offset: number for number, offset in enumerate(self._at)}
        lines = []
        for (file, line), offsets in self._found.at.items():
            mine = [numbers[offset] for offset in offsets if offset in numbers]
            ran = {name: max((has[number] for number in mine), default=0) for name, has in counts.items()}
            ran = {name: count for name, count in ran.items() if count > 0}
            refused = not mine or any(all(has[number] < 0 for number in mine) for has in counts.values())
            lines.append(ChangedLine(file, line, ran, unwatched=refused and not ran))
        return PatchCoverage(lines, self._found.silent, self._found.unknown, uncounted, self._reason, required=required)


def parsed(content: bytes, number: int) -> list[int] | None:
    """A number for each place, below 0 for one that is not watched; None when a guest says anything else."""
    said = content.decode("ascii", errors="replace").splitlines()
    if len(said) != number or not all(_NUMBER.fullmatch(text) for text in said):
        return None
    return [int(text) for text in said]


def chosen(found: Places) -> list[int]:
    """The offsets that are watched: of each line the first, then of each line the second, up to the limit."""
    ranks = itertools.zip_longest(*found.at.values())
    ordered = dict.fromkeys(offset for rank in ranks for offset in rank if offset is not None)
    return list(ordered)[:PLACES_LIMIT]


def watch(kernel: KernelBuild, cache: Path, progress: Progress, since: KernelSource | None = None) -> Watch | None:
    """What to count in guests of a kernel; None when no patch of it is the user's.

    since: an earlier state of its source. Raises UsageError for one that is too far away.
    """
    if since is None and not changes.own(kernel.recipe.series):
        return None
    has = kconfig.values(kernel.config.read_text(encoding="utf-8"))
    if lacking := [name for name in _NEEDED if has.get(name) != "y"]:
        return Watch(Places(), reason=f"the kernel lacks CONFIG_{lacking[0]}")
    try:
        found = places.known(kernel, cache, since)
        if found is not None:
            return Watch(found, _module(found, kernel, cache, progress))
        with builds.objects_again(kernel, cache, progress) as objects:
            found = places.find(kernel, objects, cache, progress, since)
            return Watch(found, _module(found, kernel, cache, progress, objects))
    except UsageError:
        raise
    except HarnessError as error:
        # The run itself can go on.
        return Watch(Places(), reason=error.message)


def state(spec: str, cache: Path, progress: Progress) -> KernelSource | None:
    """What --changed-since names, as --source would; None for nothing. Raises UsageError."""
    try:
        return sources.fetch(spec, cache, progress) if spec else None
    except UsageError as error:
        raise UsageError(error.message.replace("--source", "--changed-since", 1), error.hint) from None


def _module(
    found: Places, kernel: KernelBuild, cache: Path, progress: Progress, objects: ObjectTree | None = None
) -> Path | None:
    """The module that watches the chosen places; None without any."""
    table = ",\n".join(f"\t{offset:#x}" for offset in chosen(found))
    if not table:
        return None
    text = f"/* SPDX-License-Identifier: GPL-2.0-only */\nstatic const u32 reached_at[] = {{\n{table}\n}};\n"
    scratches = cache / "tmp"
    scratches.mkdir(parents=True, exist_ok=True)
    with workspace.space(cache), tempfile.TemporaryDirectory(dir=scratches, prefix="reached-") as scratch:
        folder = Path(scratch) / "reached"
        shutil.copytree(workspace.data("guest-modules") / "reached", folder)
        (folder / "places.h").write_text(text, encoding="ascii")
        return modules.build_module(folder, kernel, cache, progress, objects=objects)
