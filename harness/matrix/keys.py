# SPDX-License-Identifier: GPL-2.0-only
"""What a job rests on, as one digest: kernel, module, guest, scenarios, accelerator, QEMU, and our own code.

The same key, the same job: what came out as expected the last time is not run again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import harness
from harness.host import accelerator, emulator, process, workspace
from harness.host.progress import Progress
from harness.kernel import apt, build, config, patches, source, toolchain, versions
from harness.matrix.job import Job
from harness.model.errors import HarnessError
from harness.variants import catalogue

# Programs that are part of each guest, or run it.
_PROGRAMS = ("busybox", "dropbear")


class Keys:
    """Finds the keys of jobs; what they share is looked at once."""

    def __init__(self, cache: Path, progress: Progress, *, fetches: bool = True) -> None:
        """fetches: whether a source that is not here is fetched; without it, its jobs have no key."""
        self._cache = cache
        self._progress = progress
        self._fetches = fetches
        self._kernels: dict[str, str] = {}

    def of(self, job: Job) -> str:
        """The key of a job; empty when what it rests on cannot be found out here, as whoever runs it will tell."""
        try:
            return self._of(job)
        except HarnessError as fault:
            self._progress.say(f"{job.name}: cannot be compared with an earlier night: {fault.message}")
            return ""

    def _of(self, job: Job) -> str:
        if not self._fetches and not _is_here(job.kernel, self._cache):
            return ""
        if job.build not in self._kernels:
            self._kernels[job.build] = self._kernel(job)
        return workspace.digest(
            harness.__version__,
            code(),
            self._kernels[job.build],
            job.contract,
            self._accelerator(job.accelerator),
            *_programs(job.qemu),
            *(part for entry in catalogue.choose(job.scenarios) for part in (entry.name, _text(entry.path))),
            str(job.repeat),
        )

    def _kernel(self, job: Job) -> str:
        found = source.fetch(job.kernel, self._cache, self._progress)
        series = patches.load(list(job.patch or versions.patch(job.contract)), found.version)
        recipe = build.Recipe(found, series, tuple(config.load(list(job.config), "")), toolchain.find("gcc"))
        return build.inputs(recipe, self._cache)

    @functools.cache  # noqa: B019 - it lives as long as one command
    def _accelerator(self, name: str) -> str:
        return accelerator.choose(name, self._cache, self._progress).used


def _is_here(spec: str, cache: Path) -> bool:
    kind, colon, version = spec.partition(":")
    if not colon or kind != "debian":
        return True
    return any(path.exists() for path in (apt.installed(version), apt.fetched(version, cache)))


@functools.cache
def code() -> str:
    """A digest of the package and of what guests carry."""
    return workspace.digest(*(part for root in _roots() for part in _tree(root)))


def _roots() -> Iterator[Path]:
    yield Path(harness.__file__).parent
    yield workspace.data("guest-modules")


def _tree(root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "data"))
        for name in sorted(names):
            yield str(Path(parent, name).relative_to(root))
            yield workspace.digest_file(Path(parent, name))


@functools.cache
def _programs(qemu: str) -> tuple[str, ...]:
    """By their content: a fresh container has the same program with another time."""
    path = (emulator.named(qemu) if qemu else emulator.find()).program
    return tuple(workspace.digest_file(one.resolve()) for one in (path, *map(process.which, _PROGRAMS)))


@functools.cache
def _text(path: Path) -> str:
    return workspace.digest_file(path)
