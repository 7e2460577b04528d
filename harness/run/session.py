# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is prepared once and judged many times: the base of the pytest plugin and the interactive shell."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from harness.guest import image as images
from harness.guest.lab import Lab
from harness.guest.machine import Machine
from harness.host import accelerator, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import lines, modules, selftests
from harness.kernel.modules import OutOfTree
from harness.model.contract import Contract
from harness.model.instrument import Instrument
from harness.model.scenario import Scenario, renamed
from harness.model.shape import MachineShape
from harness.model.verdict import ScenarioResult
from harness.run import decoding, judging, pipeline, reached
from harness.run.watching import Watched, watched


class Session:
    """Prepares on first use; keeps all recordings of a session in one run directory."""

    def __init__(
        self,
        request: pipeline.KernelRequest,
        instrument: Instrument,
        accel: str,
        progress: Progress = QUIET,
        out: Path | None = None,
        *,
        watching: bool = False,
    ) -> None:
        """watching: guests count how often the lines of the user's patches are executed."""
        self._watching = watching
        self._request = request
        self._instrument = instrument
        self._accel = accel
        self._progress = progress
        self._cache = workspace.cache_dir()
        self._out = out
        self._clock = pipeline.Clock()
        self._count = 0
        self._runs: Counter[str] = Counter()

    @cached_property
    def lab(self) -> Lab:
        """The kernel, its image and the accelerator; built if they are missing."""
        choice = accelerator.choose(self._accel, self._cache, self._progress)
        prepared = self._prepared
        modules = [*prepared.modules, *(self.watch.modules if self.watch else ())]
        image = images.assemble(self._cache, modules, self._progress, self._instrument)
        return Lab(prepared.kernel, image, choice, self._cache, self._progress, instrument=self._instrument)

    @cached_property
    def watch(self) -> reached.Watch | None:
        """What guests count, if they do."""
        return reached.watch(self._prepared.kernel, self._cache, self._progress) if self._watching else None

    @cached_property
    def _prepared(self) -> pipeline.Prepared:
        return pipeline.prepare(self._request, self._instrument, self._cache, self._progress, self._clock)

    @property
    def contract(self) -> Contract:
        """The one that the session's kernel is judged by."""
        return Contract(self._prepared.contract.used)

    @property
    def module(self) -> Path | None:
        """The module that the session's guests load, if there is one."""
        return self._prepared.module

    @cached_property
    def folder(self) -> Path:
        """The session's run directory."""
        return pipeline.run_folder(self._out, self._cache)

    def missing(self, scenario: Scenario) -> str:
        """Why a scenario does not apply to the session's kernel; empty when it does."""
        return pipeline.missing(scenario, self.lab.kernel, self.contract, self._cache, self._progress)

    def judge(self, scenario: Scenario) -> ScenarioResult:
        """Run a scenario on a fresh machine and judge it. Each time it is run has a folder of its own."""
        self._runs[scenario.name] += 1
        again = self._runs[scenario.name]
        # As a round of --repeat is called; no scenario's own name holds a dot.
        folder = renamed(scenario, f"{scenario.name}.{again}" if again > 1 else scenario.name)
        result, _ = pipeline.judge_on(self.lab, folder, self.folder, self._clock, contract=self.contract)
        return dataclasses.replace(result, name=scenario.name)

    def machine(self, shape: MachineShape | None = None) -> AbstractContextManager[Machine]:
        """A fresh machine for whoever drives and judges it."""
        return self.lab.machine(shape or MachineShape(), self.folder / self._unnamed())

    def watched(
        self, name: str = "", shape: MachineShape | None = None, *, boots: bool = False
    ) -> AbstractContextManager[Watched]:
        """A fresh machine whose kernel is judged when the block ends; its folder is called `name`, if that is given."""
        folder = self.folder / (name or self._unnamed())
        return watched(self.lab, folder, shape or MachineShape(), self.contract, boots=boots)

    def build_modules(self, folder: Path) -> OutOfTree:
        """Build the modules of a user's folder for the session's kernel."""
        return modules.out_of_tree(folder, self.lab.kernel, self._cache, self._progress)

    def own_modules(self, name: str) -> list[Path]:
        """A module of the kernel's own, behind those that it depends on."""
        return modules.built_with(self.lab.kernel, name, self._cache, self._progress)

    def selftest(self, collection: str, name: str) -> Path:
        """A program of the kernel's selftests."""
        return selftests.program(name, self.lab.kernel, self._cache, self._progress, collection)

    def decoded(self, texts: Sequence[str], loaded: Sequence[Path] = ()) -> list[str]:
        """Reports with the source lines of their places. loaded: modules of users that may be named there."""
        spots = decoding.spots(texts)
        found: dict[lines.Spot, tuple[str, ...]] = {}
        if spots:
            for module in loaded:
                found |= lines.find_in(module, spots)
            left = spots - found.keys()
            found |= lines.find(self.lab.kernel, left, self._cache, self.module, self._progress)
        return [decoding.decoded(text, found) for text in texts]

    def close(self) -> None:
        """Say where the recordings are, and what known noise their passes rest on."""
        if "folder" in self.__dict__:
            for line in judging.known_noise(self.folder, sorted(place.name for place in self.folder.iterdir())):
                self._progress.say(f"known noise: {line}")
            self._progress.say(f"recordings: {self.folder}")

    def _unnamed(self) -> str:
        """A folder for a guest without a scenario. No scenario's name holds an underscore."""
        self._count += 1
        return f"guest_{self._count}"
