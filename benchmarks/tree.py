# SPDX-License-Identifier: GPL-2.0-only
"""A developer's tree: a copy of the default kernel's source whose files are edited a line at a time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel import source
from harness.model.errors import MachineError

RMAP = "mm/rmap.c"
HEADER = "include/linux/mmu_notifier.h"


@dataclass(frozen=True)
class Tree:
    """The copy, and the folder that it is a copy of."""

    path: Path
    origin: Path

    @classmethod
    def copied(cls, cache: Path, progress: Progress) -> Tree:
        """The copy of this kernel, made once, in its original state."""
        found = source.fetch("debian:6.12", cache, progress)
        origin = found.origin.linkable
        if origin is None:
            raise MachineError("debian:6.12: its files are not in the cache", "harness build unpacks them")
        path = cache / "benchmarks" / f"linux-{found.version}"
        if not path.exists():
            progress.say(f"copying Linux {found.version}")
            with workspace.publishing(path) as fresh:
                done = process.run(["cp", "-a", "--reflink=auto", f"{origin}/.", fresh], timeout_s=600)
                if done.status:
                    raise MachineError(f"{done.command}: {done.stderr.strip()}")
        # harness gc removes what was not used for longest, and cp -a kept the source's own time.
        os.utime(path)
        tree = cls(path, origin)
        for name in (RMAP, HEADER):
            tree.restore(name)
        return tree

    def add_line(self, name: str, line: str) -> None:
        """Restore a file, and add one line at its end."""
        workspace.write_atomic(self.path / name, (self.origin / name).read_bytes() + f"{line}\n".encode())

    def restore(self, name: str) -> None:
        """Restore a file and its time, so that nothing takes it for new."""
        if (self.path / name).read_bytes() != (self.origin / name).read_bytes():
            (self.path / name).unlink()
            shutil.copy2(self.origin / name, self.path / name)
