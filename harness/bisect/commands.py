# SPDX-License-Identifier: GPL-2.0-only
"""The test that is a command of the user's: its exit code says what `git bisect run` takes it for."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.bisect import kernels
from harness.bisect.ask import Made, Ran, Target
from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel import patches, repository, source, worktree
from harness.kernel.source import KernelSource
from harness.model.errors import CannotTest, LaunchError, MachineError, UsageError
from harness.model.instrument import Instrument
from harness.run import pipeline

SKIP = 125
# From here on a shell or a signal speaks; git ends the search.
_ABORT = 128
_LIMIT_S = 3600.0


class CommandTest:
    """A harness.bisect.ask.Test by a command.

    A kernel is built, and named in the command's environment. The files of
    another repository are brought into `tree`, a folder of ours, where the command is run.
    """

    def __init__(
        self,
        command: str,
        tree: Path,
        instrument: Instrument,
        fixes: tuple[str, ...],
        cache: Path,
        progress: Progress,
        *,
        match: str = "",
        jobs: int = 1,
        timeout_s: float = 0.0,
    ) -> None:
        self._command = command
        self._tree = tree
        self._instrument = instrument
        self._fixes = fixes
        self._cache = cache
        self._progress = progress
        self._match = match
        self._jobs = max(1, jobs)
        self._timeout_s = timeout_s or _LIMIT_S
        self._place: tuple[Path, Mapping[str, str]] = (Path(), {})

    def make(self, target: Target) -> Made:
        """Build a kernel, or bring the files of another project."""
        target.ready()
        try:
            found = source.fetch(target.kernel.source, self._cache, self._progress)
        except UsageError:
            kind, _, rest = target.kernel.source.partition(":")
            if kind != "git":
                raise
            return self._bring(target, repository.files(target.kernel.source, rest))
        chosen = kernels.fitting(target.kernel.patches, self._fixes, found, self._cache)
        asked = dataclasses.replace(target.kernel, patches=chosen)
        prepared = pipeline.prepare(asked, Instrument(), self._cache, self._progress, pipeline.Clock())
        # A command need not use the module, which an old kernel may not take.
        with contextlib.suppress(CannotTest):
            prepared = pipeline.prepare(asked, self._instrument, self._cache, self._progress, pipeline.Clock())
        kernel = prepared.kernel
        facts = {
            "HARNESS_VMLINUX": str(kernel.vmlinux),
            "HARNESS_CONFIG": str(kernel.config),
            "HARNESS_RELEASE": kernel.release,
            "HARNESS_MODULE": str(prepared.module or ""),
        }
        self._place = Path.cwd(), self._named(target, chosen) | facts
        return Made(kernel.key, kernel.cached)

    def _bring(self, target: Target, found: KernelSource) -> Made:
        # Built-in patches are for kernels.
        own = [name for name in target.kernel.patches if not (workspace.data("patches") / name).is_dir()]
        chosen = kernels.fitting(own, self._fixes, found, self._cache)
        made = patches.apply(patches.load(chosen, ""), found, self._cache)
        manifest = worktree.wanted(found, made.files)
        self._tree.mkdir(parents=True, exist_ok=True)
        place = worktree.bring(self._tree, found, made.files, manifest, self._progress)
        self._place = place, self._named(target, chosen)
        return Made(workspace.digest(found.id, made.id), stored=False)

    def _named(self, target: Target, chosen: tuple[str, ...]) -> dict[str, str]:
        return {
            "HARNESS_TARGET": target.name,
            "HARNESS_SOURCE": target.kernel.source,
            "HARNESS_PATCHES": "\n".join(chosen),
        }

    def seek(self, target: Target, limit: int, folder: Path) -> tuple[Mapping[str, str] | None, Ran]:
        """Run the command until it fails."""
        ran = self.run(target, limit, folder)
        if not ran.fails:
            return None, ran
        said = f"matches {self._match!r}" if self._match else "fails"
        return {"oracle": "test", "summary": f"{self._command!r} {said}", "evidence": ran.note, "kind": "fail"}, ran

    def take(self, sought: Mapping[str, str]) -> None:
        """There is nothing to take: the command decides."""

    def run(self, target: Target, runs: int, folder: Path, *, first: bool = True) -> Ran:  # noqa: ARG002 - a Test's
        """Run the command so often, several at once."""
        fails = passes = void = 0
        note = ""
        with concurrent.futures.ThreadPoolExecutor(self._jobs, thread_name_prefix="test") as pool:
            left = runs
            while left > 0 and not (first and fails) and void <= passes + fails + 1:
                wave = min(left, self._jobs)
                left -= wave
                for status, said in pool.map(lambda _: self._status(), range(wave)):
                    if status == 0:
                        passes += 1
                    elif status != SKIP:
                        fails, note = fails + 1, said
                        if first:
                            # What ran beside it and comes later in the order would make passes look rarer.
                            break
                    else:
                        void, note = void + 1, note or said
        return Ran(fails, passes, void, note)

    def _status(self) -> tuple[int, str]:
        """How the command ended, and the last that it said. A failure that does not match is a skip."""
        cwd, facts = self._place
        argv = ["sh", "-c", self._command]
        try:
            done = process.run(argv, timeout_s=self._timeout_s, cwd=cwd, env=os.environ | facts)
        except LaunchError as error:
            if "not done after" not in error.message:
                raise
            return SKIP, error.message
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        if done.status < 0 or done.status >= _ABORT:
            raise MachineError(
                f"--test: the command ended with {done.status}, which ends a bisection (git's convention: 1 to 127 is "
                f"bad, 125 is skip): {said[-300:]}",
                "the same command goes on where this one ended",
            )
        if done.status not in (0, SKIP) and self._match and not re.search(self._match, done.stdout + done.stderr):
            return SKIP, f"the command ended with {done.status}, and said nothing that matches {self._match!r}"
        if done.status == SKIP:
            said = f"the command ended with {SKIP}"
        return done.status, said
