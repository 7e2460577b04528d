# SPDX-License-Identifier: GPL-2.0-only
"""An object tree: where make compiles one configuration of a work tree, and a record of what it holds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import workspace
from harness.host.progress import Progress, view
from harness.kernel import manifest
from harness.kernel import toolchain as toolchains
from harness.kernel.diagnosis import failure
from harness.kernel.toolchain import Toolchain

_TIMEOUT_S = 3 * 3600
# The steps of the base configuration on 6.12.117, for a bar that moves even at the very first build.
_FIRST_GUESS = 1347
_STEP = re.compile(
    r"^  (?:\[M\] )?(?:CC|AS|LD|AR|HOSTCC|HOSTLD|LDS|GEN|UPD|HDRINST|WRAP|OBJCOPY|MODPOST|KSYMS|NM)\b(?: +\[M\])? *(.*)"
)


@dataclass(frozen=True)
class ObjectTree:
    """One object tree.

    ::

        FOLDER/obj        make's O=
        FOLDER/key        the kernel that obj holds, whole
        FOLDER/running    exists while make writes into obj
        FOLDER/contents   facts and digest of each file of obj when that kernel was whole
    """

    folder: Path
    tree: Path

    @property
    def obj(self) -> Path:
        """The folder that make calls O=."""
        return self.folder / "obj"

    def holds(self, key: str) -> bool:
        """Whether obj holds the whole of a kernel."""
        try:
            return (self.folder / "key").read_text(encoding="ascii") == key
        except FileNotFoundError:
            return False

    def make(
        self,
        key: str,
        config: str,
        what: str,
        log: Path,
        toolchain: Toolchain,
        cache: Path,
        jobs: int,
        progress: Progress,
        goals: Sequence[Sequence[str]] = (("vmlinux", "modules"),),
    ) -> None:
        """Make vmlinux and the modules' symbols of the work tree as it is now. goals: of each call of make."""
        self._roll_back(progress)
        (self.folder / "key").unlink(missing_ok=True)
        cold = not (self.obj / "vmlinux").exists()
        final = self.obj / ".config"
        if not final.exists() or final.read_text(encoding="utf-8") != config:
            workspace.write_atomic(final, config)
        progress.say(f"building {what}")
        first, *more = goals
        argv = toolchains.make(toolchain, self.tree, self.obj, jobs, *first)
        memory = self._memory(cache) if cold else self._memory_of_a_change(cache)
        expected, seconds = _recalled(memory, _FIRST_GUESS if cold else 0)
        if seconds:
            view(progress).expect(seconds)
        began = time.monotonic()
        steps = self.run(argv, what, log, cache, progress, expected)
        workspace.write_atomic(memory, f"{steps} {time.monotonic() - began:.1f}")
        for number, goal in enumerate(more, 2):
            argv = toolchains.make(toolchain, self.tree, self.obj, jobs, *goal)
            self.run(argv, what, log.with_suffix(f".{number}.log"), cache, progress)
        symbols = self.obj / "vmlinux.symvers"
        if "modules" not in first and not more and symbols.exists():
            # What make of all modules ends with: here, no module exports a symbol.
            shutil.copyfile(symbols, self.obj / "Module.symvers")
        self.seal(key)

    def seal(self, key: str) -> None:
        """From now on, obj holds the whole of a kernel."""
        workspace.remember(self.folder / "contents", json.dumps(self._contents()))
        workspace.write_atomic(self.folder / "key", key)

    def weed(self, progress: Progress) -> bool:
        """Delete what rotted on disk, for make to make again: its content is new, its size and times are not.

        Takes 0.3 s for 4,300 files of 150 MB. Returns whether there was anything.
        """
        known = json.loads(workspace.recall(self.folder / "contents") or b"{}")
        if not known:
            return False
        rotten = [path for path, then in self._contents(known).items() if then != known[path]]
        if rotten:
            progress.say(f"object tree: {', '.join(rotten[:3])} on disk is damaged; making it again")
            # Until make has made them again, this tree is nobody's.
            (self.folder / "key").unlink(missing_ok=True)
        for path in rotten:
            (self.obj / path).unlink()
        return bool(rotten)

    def _contents(self, known: Mapping[str, Sequence[object]] | None = None) -> dict[str, list[object]]:
        """File → facts and digest; if some are `known`, only of files with the same facts."""
        found: dict[str, list[object]] = {}
        for path in manifest.walk(self.obj):
            full = self.obj / path
            status = full.lstat()
            facts = [status.st_size, status.st_mtime_ns, status.st_ino]
            if stat.S_ISREG(status.st_mode) and (known is None or known.get(path, ())[:3] == facts):
                with full.open("rb") as stream:
                    found[path] = [*facts, hashlib.file_digest(stream, "sha256").hexdigest()]
        return found

    def run(
        self,
        argv: list[str],
        what: str,
        log: Path,
        cache: Path,
        progress: Progress,
        expected: int = 0,
        writes: Sequence[Path] = (),
    ) -> int:
        """Run make in this object tree; returns its number of steps.

        expected: that number for the bar, 0: unknown. writes: what make changes beside obj.
        """
        steps = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        running = self.folder / "running"
        running.touch()
        with log.open("w", encoding="utf-8") as stream:

            def heard(line: str) -> None:
                nonlocal steps
                stream.write(line + "\n")
                if match := _STEP.match(line):
                    steps += 1
                    view(progress).detail(match[1])
                    progress.advance("compile", steps, max(expected, steps) if expected else 0)

            done = toolchains.run(
                argv,
                tree=self.tree,
                writes=[self.obj, *writes],
                cache=cache,
                timeout_s=_TIMEOUT_S,
                on_line=heard,
            )
        # make ended by itself, so it has deleted what it did not finish.
        running.unlink()
        if done.status:
            raise failure(done.stdout, self.tree, cache, what, log)
        return steps

    def _roll_back(self, progress: Progress) -> None:
        """Delete what a killed make wrote: a compiler that is killed leaves half an object, which looks up to date.

        include/config stays: kconfig renames its files into place, and an
        empty file there whose time moved is the only sign that an option
        changed. What is deleted here comes back from ccache.
        """
        self.obj.mkdir(parents=True, exist_ok=True)
        running = self.folder / "running"
        if not running.exists():
            return
        progress.say("object tree: a build was killed; deleting what it wrote")
        since = running.stat().st_mtime_ns
        kept = self.obj / "include/config"
        for path in sorted(self.obj.rglob("*")):
            if path.is_relative_to(kept) or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_mtime_ns >= since:
                path.unlink()
        running.unlink()

    def _memory(self, cache: Path) -> Path:
        """Where steps and seconds are remembered: by configuration, so that a new source knows them too."""
        return cache / "steps" / self.folder.name

    def _memory_of_a_change(self, cache: Path) -> Path:
        """The same of the last build of this very source after a change."""
        return cache / "steps" / f"{self.folder.parent.parent.name}-{self.folder.name}"


def _recalled(memory: Path, guess: int) -> tuple[int, float]:
    """The steps and the seconds of an earlier build: a guess and 0 when there was none, as after an older harness."""
    try:
        steps, *seconds = memory.read_text(encoding="ascii").split()
        return int(steps), float(seconds[0]) if seconds else 0.0
    except (FileNotFoundError, ValueError):
        return guess, 0.0
