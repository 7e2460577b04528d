# SPDX-License-Identifier: GPL-2.0-only
"""The project's own static programs for the guest: compiled once per content, kept in the cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.model.errors import MachineError

# Static, so that the guest needs no library of the host's distribution to reach its first command.
CFLAGS = ("-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror")
_COMPILE_LIMIT_S = 120.0


def compiled(
    name: str, sources: Sequence[Path], cache: Path, progress: Progress = QUIET, interface: Sequence[Path] = ()
) -> Path:
    """The program `name` made of `sources`, from the cache if their folder and the compiler have not changed.

    Headers in the same folder count as inputs; interface: headers from elsewhere.
    Raises MachineError with the compiler's first complaint: these are our
    programs, not the kernel's.
    """
    compiler = process.which("gcc")
    headers = sorted({header for source in sources for header in source.parent.glob("*.h")})
    key = workspace.digest(
        name,
        *CFLAGS,
        process.run([compiler, "--version"], timeout_s=10).stdout,
        *(part for path in (*sources, *headers, *interface) for part in (path.name, path.read_bytes())),
    )
    target = cache / "programs" / key / name
    with workspace.lock(cache / "programs" / f"{key}.lock", progress, name):
        if not workspace.whole(target.parent, progress, name):
            progress.say(f"compiling {name} for the guest")
            with tempfile.TemporaryDirectory(prefix="harness-cc-") as scratch:
                made = Path(scratch) / name
                done = process.run(
                    [compiler, *CFLAGS, "-o", made, *sources],
                    timeout_s=_COMPILE_LIMIT_S,
                )  # fmt: skip
                if done.status:
                    raise MachineError(f"{name}: {first_error(done.stderr)}", done.command)
                with workspace.publishing(target.parent) as fresh:
                    shutil.copy(made, fresh / name)
    return target


def first_error(text: str) -> str:
    """The first line of a compiler's output that says what is wrong."""
    lines = text.splitlines()
    return next((line for line in lines if "error:" in line), lines[0] if lines else "the compiler said nothing")
