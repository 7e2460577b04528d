# SPDX-License-Identifier: GPL-2.0-only
"""Reads one dump and writes what it tells, in a process of its own: a broken kernel wrote what is read."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import drgn

from harness.postmortem import memory, registers, symbols, waits
from harness.postmortem.core import Core, Frame, blocked, killable, title
from harness.postmortem.kdump import DUMP, TEXT
from harness.postmortem.registers import Registers

Looks = tuple[list[Registers], list[Registers]]

# How many frames of a stack are shown: its interesting end, for people who read only the beginning.
_SHORT = 24


def main() -> int:
    """See harness/postmortem/examine.py, which starts this."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kernel", type=Path)
    parser.add_argument("types", type=Path)
    parser.add_argument("release")
    parser.add_argument("build_id")
    parser.add_argument("sections", nargs="*")
    asked = parser.parse_args()
    known = symbols.read(asked.kernel / "System.map")
    sys.stdin.readline()
    looks = registers.read(asked.folder)
    five_levels = any(one.five_levels for one in looks[0])
    dump = asked.folder / DUMP
    core = Core(
        dump, known, asked.kernel / "vmlinux", asked.types, asked.release, asked.build_id, five_levels=five_levels
    )
    more = [importlib.import_module(f"harness.postmortem.{name}") for name in asked.sections]
    circles: list[list[str]] = []
    blockers: list[dict[str, object]] = []
    # Line by line: when this process is killed, what it had read until then is there.
    with (asked.folder / TEXT).open("w", encoding="utf-8", buffering=1) as out:
        for heading, part in (
            ("", functools.partial(_cause, looks, circles, blockers)),
            ("CPUs", functools.partial(_cpus, looks)),
            ("Tasks that stand in a module", _in_modules),
            *((module.HEADING, module.lines) for module in more),
            ("Zones", memory.zones),
            ("Swap", memory.swap),
            ("Memory cgroups", memory.cgroups),
        ):
            if heading:
                out.write(f"\n{heading}\n{'-' * len(heading)}\n")
            try:
                for line in part(core):
                    out.write(line + "\n")
            # A part that this kernel lacks or that is destroyed must not hide the others.
            except (drgn.FaultError, LookupError, AttributeError, TypeError, ValueError) as error:
                out.write(f"cannot be read: {type(error).__name__}: {error}\n")
            if not heading:
                # At once: what follows may crash or never end, and a circle is proof.
                sys.stdout.write(json.dumps({"circles": circles, "waits": blockers}) + "\n")
                sys.stdout.flush()
    return 0


def _cause(looks: Looks, circles: list[list[str]], blockers: list[dict[str, object]], core: Core) -> Iterator[str]:
    """CPUs that do something in the kernel; blocked tasks, what each waits for, and whether for each other.

    circles: gets the tasks that wait for each other. blockers: gets every blocked task and where it waits.

    Without a blocked task, every CPU is shown; if tasks wait for each other, no CPU is.
    """
    stuck = [task for task in core.tasks if blocked(task)]
    yield f"{len(stuck)} blocked tasks of {len(core.tasks)}" if len(stuck) != 1 else "1 blocked task"
    told: list[str] = []
    # Those that wait for another task say less of the cause, and come behind the others.
    behind: list[dict[str, object]] = []
    holders: dict[int, drgn.Object] = {}
    for task in stuck:
        frames = core.stack(task)
        wait = waits.find(core, task, frames)
        told += [f"{title(task)} (D) waits for {wait.text}", *_stack(frames)]
        blocker = {
            "pid": task.pid.value_(),
            "task": title(task),
            "where": waits.where(frames),
            "switches": task.nvcsw.value_() + task.nivcsw.value_(),
            "ends": killable(task) or waits.timed(frames),
        }
        (blockers if wait.holder is None else behind).append(blocker)
        if wait.holder is not None:
            if wait.sure and not killable(task):
                holders[task.value_()] = wait.holder
            if not blocked(wait.holder):
                told += [f"  {title(wait.holder)}, the holder:", *_stack(core.stack(wait.holder))]
    blockers += behind
    circles += _circles(stuck, holders)
    if not circles:
        # A CPU that spins or panicked matters more than a worker beside it that sleeps for a few milliseconds.
        yield from _cpus(looks, core, busy=bool(stuck))
    yield from told
    for circle in circles:
        yield f"deadlock: {' waits for '.join([*circle, circle[0]])}"


def _circles(stuck: list[drgn.Object], holders: dict[int, drgn.Object]) -> Iterator[list[str]]:
    """The titles of tasks each of which waits for the next, and the last for the first."""
    told: set[int] = set()
    for task in stuck:
        chain, at = [task], holders.get(task.value_())
        while at is not None and at.value_() not in {one.value_() for one in chain}:
            chain.append(at)
            at = holders.get(at.value_())
        if at is not None and at.value_() == task.value_() and not told & {one.value_() for one in chain}:
            told |= {one.value_() for one in chain}
            yield [title(one) for one in chain]


def _cpus(looks: Looks, core: Core, *, busy: bool = False) -> Iterator[str]:
    """What runs on each CPU, where it stood before and after the dump, and its stack at the dump.

    busy: without CPUs that are idle, in user space, or in the detector that reports the others.
    """
    seen = [{one.cpu: one for one in look} for look in looks]
    for cpu, task in core.running():
        here = [look[cpu] for look in seen if cpu in look]
        # The idle task may be in an interrupt that never ends.
        idle = task.pid.value_() == 0 and all(one.halted for one in here)
        if busy and (idle or task.comm.string_() == b"khungtaskd" or (here and all(one.user for one in here))):
            continue
        places = ", then ".join(_standing(core, one) for one in here)
        yield f"CPU {cpu}: {title(task)}{', idle' if idle else ''}: {places}"
        if not idle:
            yield from _stack(core.stack(task))


def _standing(core: Core, one: Registers) -> str:
    name = "user space" if one.user else core.symbols.name(one.rip)
    return f"at {name}{' (halted)' if one.halted else ''}"


def _in_modules(core: Core) -> Iterator[str]:
    for task in core.tasks:
        open_frames = [frame for frame in core.stack(task) if frame.module]
        if open_frames:
            yield f"{title(task)}:"
            yield from (f"    {frame.text}" for frame in open_frames)


def _stack(frames: list[Frame]) -> Iterator[str]:
    yield from (f"    {frame.text}" for frame in frames[:_SHORT])
    if len(frames) > _SHORT:
        yield f"    … {len(frames) - _SHORT} more"


if __name__ == "__main__":
    sys.exit(main())
