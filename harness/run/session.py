# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is prepared once and judged many times: the base of the pytest plugin and the interactive shell."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from harness.guest import image as images
from harness.guest.lab import Lab
from harness.guest.machine import Machine
from harness.host import accelerator, workspace
from harness.host.progress import QUIET, Progress
from harness.model.instrument import Instrument
from harness.model.scenario import Scenario
from harness.model.shape import MachineShape
from harness.model.verdict import ScenarioResult
from harness.run import pipeline
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
    ) -> None:
        self._request = request
        self._instrument = instrument
        self._accel = accel
        self._progress = progress
        self._cache = workspace.cache_dir()
        self._out = out
        self._clock = pipeline.Clock()
        self._count = 0

    @cached_property
    def lab(self) -> Lab:
        """The kernel, its image and the accelerator; built if they are missing."""
        choice = accelerator.choose(self._accel, self._cache, self._progress)
        prepared = self._prepared
        image = images.assemble(self._cache, prepared.modules, self._progress, self._instrument)
        return Lab(prepared.kernel, image, choice, self._cache, self._progress, instrument=self._instrument)

    @cached_property
    def _prepared(self) -> pipeline.Prepared:
        return pipeline.prepare(self._request, self._instrument, self._cache, self._progress, self._clock)

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
        return pipeline.missing(scenario, self.lab.kernel, self._cache, self._progress)

    def judge(self, scenario: Scenario) -> ScenarioResult:
        """Run a scenario on a fresh machine and judge it."""
        return pipeline.judge_on(self.lab, scenario, self.folder, self._clock)[0]

    def machine(self, shape: MachineShape | None = None) -> AbstractContextManager[Machine]:
        """A fresh machine for a test that drives it itself."""
        self._count += 1
        place = self.folder / f"guest-{self._count}"
        place.mkdir()
        return self.lab.machine(shape or MachineShape(), place)

    def watched(self, name: str, shape: MachineShape | None = None) -> AbstractContextManager[Watched]:
        """A fresh machine whose kernel is judged when the block ends; its folder is called `name`."""
        return watched(self.lab, self.folder / name, shape or MachineShape())

    def close(self) -> None:
        """Say where the recordings are."""
        if "folder" in self.__dict__:
            self._progress.say(f"recordings: {self.folder}")
