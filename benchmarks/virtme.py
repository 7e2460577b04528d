# SPDX-License-Identifier: GPL-2.0-only
"""The peer: virtme-ng from PyPI, in a virtual environment of its own below the cache."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import meter
from benchmarks.meter import Cost
from harness.host import process, workspace
from harness.host.progress import Progress
from harness.model.errors import LaunchError, MachineError
from harness.model.shape import MachineShape

_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_INSTALL_LIMIT_S = 600
_RUN_LIMIT_S = 600
_BUILD_LIMIT_S = 3 * 3600


def version() -> str:
    """The version that is compared with."""
    found = re.search(r"^virtme-ng==(\S+)", _REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


@dataclass(frozen=True)
class Virtme:
    """virtme-ng, installed. bin: the folder with vng."""

    bin: Path
    accel: str

    @classmethod
    def installed(cls, folder: Path, accel: str, progress: Progress) -> Virtme:
        """Install it with all its dependencies, checked by hash, unless it is installed."""
        place = folder / f"virtme-ng-{workspace.digest_file(_REQUIREMENTS)}"
        if not (place / "ready").exists():
            progress.say(f"installing virtme-ng {version()}")
            shutil.rmtree(place, ignore_errors=True)
            for argv in (
                [sys.executable, "-m", "venv", str(place)],
                [str(place / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
                 "-r", str(_REQUIREMENTS)],
            ):  # fmt: skip
                done = process.run(argv, timeout_s=_INSTALL_LIMIT_S)
                if done.status:
                    raise LaunchError(f"{done.command}: status {done.status}: {done.stderr.strip()[-300:]}")
            (place / "ready").touch()
        # harness gc removes what was not used for longest.
        os.utime(place)
        return cls(place / "bin", accel)

    def run(self, kernel: Path, shape: MachineShape, command: str, folder: Path) -> tuple[Cost, str]:
        """Run a shell command in a fresh guest on a vmlinux or an object tree; returns its output, too.

        The output goes through a folder of the host that the guest writes to:
        virtme-ng's own way, virtio ports by name, wants udev on the host, and
        would have the guest wait for it.
        """
        said = folder / "said"
        script = f"exec >{said} 2>&1; {command}"
        cost = self._vng(
            "--run", str(kernel), "--cpus", str(shape.cpus), "--memory", f"{shape.memory_mib}M",
            *(["--disable-kvm"] if self.accel == "tcg" else []), "--rwdir", str(folder), "--", script,
            cwd=folder, timeout_s=_RUN_LIMIT_S,
        )  # fmt: skip
        if not said.exists():
            raise MachineError(f"vng --run {kernel}: status {cost.status}, no output: {cost.stderr.strip()[-300:]}")
        text = said.read_text(encoding="utf-8", errors="replace")
        said.unlink()
        return cost, text

    def build(self, tree: Path, objects: Path) -> Cost:
        """`vng --build` of a tree into an empty folder."""
        cost = self._vng("--build", f"O={objects}", cwd=tree, timeout_s=_BUILD_LIMIT_S)
        if cost.status:
            raise MachineError(f"vng --build: status {cost.status}: {cost.stderr.strip()[-300:]}")
        return cost

    def _vng(self, *arguments: str, cwd: Path, timeout_s: float) -> Cost:
        env = process.environment()
        # vng finds the other programs of its package in PATH only.
        env |= {"PATH": os.pathsep.join([str(self.bin), env.get("PATH", "")])}
        return meter.metered([self.bin / "vng", *arguments], timeout_s=timeout_s, cwd=cwd, env=env)
