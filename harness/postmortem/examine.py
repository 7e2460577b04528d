# SPDX-License-Identifier: GPL-2.0-only
"""Looks at a machine in trouble from outside: registers, a dump of its memory, and what drgn reads in it.

::

    FOLDER/registers.txt     the registers of all vCPUs before and after the dump
    FOLDER/memory.kdump      the guest's memory, for drgn and crash(8)
    FOLDER/postmortem.txt    what they tell; its first paragraph is the cause
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.guest.console import clean
from harness.guest.machine import Machine
from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import modules
from harness.kernel.build import KernelBuild
from harness.model.errors import HarnessError
from harness.model.postmortem import PostMortem, Wait
from harness.postmortem import kdump, registers
from harness.postmortem.kdump import DUMP, TEXT

# A run that fails everywhere keeps this many dumps; each takes a quarter of the memory that its guest used.
_DUMPS_KEPT = 3
# Seconds. 512 MiB take 0.4 s on an idle host, 1.3 s at four runnable processes a CPU.
_DUMP_LIMIT_S = 60.0
# drgn takes 0.5 s; what it reads may send it in circles.
_READ_LIMIT_S = 60.0
# How many lines of the cause are evidence in a verdict.
_HEAD_LINES = 40


def types(kernel: KernelBuild, cache: Path, progress: Progress = QUIET) -> Path:
    """The object file that knows a kernel's structures, from the store if it is there. Raises BuildError."""
    return modules.build_module(workspace.data("guest-modules") / "types", kernel, cache, progress, suffix=".o")


def examine(
    machine: Machine, kernel: KernelBuild, cache: Path, folder: Path, sections: Sequence[str] = ()
) -> PostMortem:
    """Write a machine's post-mortem. The machine runs on, if it did before.

    sections: files of this folder that add to what every post-mortem tells.

    Nothing here fails a scenario: the text says what could not be looked at.
    """
    began = time.monotonic()
    (folder / TEXT).unlink(missing_ok=True)
    trouble = ""
    found = PostMortem()
    try:
        with contextlib.ExitStack() as stack:
            try:
                child = stack.enter_context(reader(folder, kernel, cache, sections))
            finally:
                # The dump is worth having even when nothing can read it here.
                capture(machine, kernel.release, folder)
            found, trouble = read(child)
            trouble = trouble and f"post-mortem: {trouble}\n"
    except HarnessError as error:
        trouble = f"post-mortem: {error}\n"
    if len(list(folder.parent.glob(f"*/{DUMP}"))) > _DUMPS_KEPT:
        (folder / DUMP).unlink(missing_ok=True)
    with contextlib.suppress(OSError), (folder / TEXT).open("a", encoding="utf-8") as stream:
        stream.write(f"{trouble}\nlooked at from outside in {time.monotonic() - began:.2f} s\n")
    return dataclasses.replace(found, cause=cause(folder))


def forget(folder: Path) -> None:
    """Remove a post-mortem that found nothing wrong."""
    for name in (TEXT, DUMP, registers.FILE):
        (folder / name).unlink(missing_ok=True)


def cause(folder: Path) -> str:
    """The first paragraph of a post-mortem; empty when there was none."""
    try:
        text = (folder / TEXT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    lines = clean(text).partition("\n\n")[0].splitlines()
    more = [f"… {len(lines) - _HEAD_LINES} more lines in {TEXT}"] if len(lines) > _HEAD_LINES else []
    return "\n".join([*lines[:_HEAD_LINES], *more])


def capture(machine: Machine, release: str, folder: Path) -> None:
    """Registers, memory, registers again. Raises MachineError when QEMU does not answer."""

    def look() -> str:
        return str(machine.monitor.execute("human-monitor-command", command_line=registers.COMMAND))

    flat = folder / f".{DUMP}.flat"
    first = look()
    try:
        # QEMU may be a user who can write nothing here.
        with flat.open("wb") as stream:
            machine.monitor.lend("dump", stream.fileno())
            machine.monitor.execute(
                "dump-guest-memory", _DUMP_LIMIT_S, paging=False, protocol="fd:dump", format="kdump-zlib"
            )
        workspace.write_atomic(folder / registers.FILE, first + registers.BETWEEN + look())
        with workspace.space(folder):
            kdump.assemble(flat, folder / DUMP, release)
    finally:
        flat.unlink(missing_ok=True)


@contextlib.contextmanager
def reader(
    folder: Path, kernel: KernelBuild, cache: Path, sections: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """The process that reads a dump, started before there is one; it may crash or never end. Raises as spawn() does.

    Until a line on its standard input announces the dump, it loads drgn and the kernel's symbols, which takes
    longer than reading a dump: 0.4 s of 0.5.
    """
    argv: list[str | os.PathLike[str]] = [
        sys.executable,
        "-m", "harness.postmortem",
        folder, kernel.vmlinux.parent, types(kernel, cache), kernel.release, kernel.build_id, *sections,
    ]  # fmt: skip
    env = process.environment(PYTHONPATH=str(workspace.ROOT))
    with process.running(process.spawn(argv, env=env, stdin=subprocess.PIPE)) as child:
        yield child


def read(child: subprocess.Popen[bytes]) -> tuple[PostMortem, str]:
    """Have a reader() write postmortem.txt, now that there is a dump: the waits that it found, and what went wrong.

    A reader that crashes or never ends may have found circles before.
    """
    try:
        stdout, stderr = child.communicate(b"\n", timeout=_READ_LIMIT_S)
    except subprocess.TimeoutExpired as late:
        return _found(late.stdout or b""), f"drgn is not done after {_READ_LIMIT_S:g} s (limit {_READ_LIMIT_S:g} s)"
    if child.returncode:
        said = clean(stderr).strip().splitlines()
        return _found(stdout), f"drgn ended with status {child.returncode}{': ' + said[-1] if said else ''}"
    return _found(stdout), ""


def _found(said: bytes) -> PostMortem:
    """What the reader printed; nothing when it came to nothing."""
    try:
        told = json.loads(said)
        return PostMortem(
            circles=[[clean(task.encode()) for task in circle] for circle in told["circles"]],
            waits=[
                Wait(
                    int(one["pid"]),
                    clean(one["task"].encode()),
                    tuple(clean(name.encode()) for name in one["where"]),
                    int(one["switches"]),
                    bool(one["ends"]),
                )
                for one in told["waits"]
            ],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return PostMortem()
