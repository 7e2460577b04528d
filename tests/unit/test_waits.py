# SPDX-License-Identifier: GPL-2.0-only
"""Which lock a task waits for, from a memory made here: a lock that holds its list of waiters, or names the first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import drgn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.postmortem import waits
from harness.postmortem.core import Core

STACK = 0x1000
STACKS = 0xFFFF_8880_0010_0000
TASKS = 0xFFFF_8880_0020_0000
LOCK = 0xFFFF_8880_0030_0040
# Where the lock's list, or its pointer to the first waiter, lies in it.
OFFSET = 16

PROGRAM = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))


def lock_type(member: str) -> drgn.Type:
    long = PROGRAM.int_type("long", 8, True)
    members = [drgn.TypeMember(long, "owner", 0), drgn.TypeMember(long, member, OFFSET * 8)]
    return PROGRAM.struct_type("mutex", 40, members)


class Memory:
    """Words by their address; each task has a stack and waits on it."""

    def __init__(self, tasks: int, member: str) -> None:
        self.words: dict[int, int] = {}
        self.tasks = [task(number) for number in range(tasks)]
        types = {"union thread_union": PROGRAM.array_type(PROGRAM.int_type("char", 1, True), STACK)}
        types["struct mutex"] = lock_type(member)
        self.program = SimpleNamespace(type=types.__getitem__, read=self.read)

    def word(self, address: int) -> int:
        """What Core.word() does."""
        if not any(
            begin <= address < begin + STACK for begin in (*map(stack_of, range(len(self.tasks))), LOCK & ~0xFFF)
        ):
            raise drgn.FaultError("no such memory", address)
        return self.words.get(address, 0)

    def read(self, address: int, size: int) -> bytes:
        """A piece of memory."""
        return b"".join(self.word(at).to_bytes(8, "little") for at in range(address, address + size, 8))

    def ring(self, nodes: list[int]) -> None:
        """Link list_heads with each other."""
        for number, node in enumerate(nodes):
            self.words[node] = nodes[(number + 1) % len(nodes)]
            self.words[node + 8] = nodes[number - 1]

    def waiter(self, number: int, at: int) -> int:
        """The waiter of a task, that many words above its stack pointer; its list_head."""
        node = pointer_of(number) + at * 8
        self.words[node + 16] = TASKS + number * 64
        return node

    def found(self, number: int) -> int:
        """The lock that a task is found to wait for."""
        return waits._waited_on(cast("Core", self), self.tasks[number], "struct mutex")


def stack_of(number: int) -> int:
    return STACKS + number * STACK


def pointer_of(number: int) -> int:
    return stack_of(number) + STACK // 2


def task(number: int) -> Any:
    pointer = SimpleNamespace(value_=lambda: pointer_of(number))
    return SimpleNamespace(
        value_=lambda: TASKS + number * 64,
        stack=SimpleNamespace(value_=lambda: stack_of(number)),
        thread=SimpleNamespace(sp=pointer),
    )


PLACES = st.lists(st.integers(0, 100), min_size=1, max_size=5)


@given(PLACES)
def test_a_lock_that_is_part_of_its_list_of_waiters(places: list[int]) -> None:
    memory = Memory(len(places), "wait_list")
    memory.ring([LOCK + OFFSET, *(memory.waiter(number, at) for number, at in enumerate(places))])

    assert {memory.found(number) for number in range(len(places))} == {LOCK}


@given(PLACES, st.integers(0, 4), st.integers(0, 20))
def test_a_lock_that_names_its_first_waiter(places: list[int], first: int, above: int) -> None:
    """Each waiter's stack has the lock's address, also that of the only one, whose list leads to itself."""
    memory = Memory(len(places), "first_waiter")
    nodes = [memory.waiter(number, at) for number, at in enumerate(places)]
    memory.ring(nodes)
    memory.words[LOCK + OFFSET] = nodes[first % len(nodes)]
    for number, at in enumerate(places):
        memory.words[pointer_of(number) + (at + 3 + above) * 8] = LOCK

    assert {memory.found(number) for number in range(len(places))} == {LOCK}


@pytest.mark.parametrize("held", [LOCK + 8, pointer_of(0) + 8 * 8, 0x1000, LOCK + (1 << 30)])
def test_what_only_looks_like_a_lock_is_none(held: int) -> None:
    """The middle of a lock, a place on the stack that holds the waiter's address, and what is no memory."""
    memory = Memory(1, "first_waiter")
    node = memory.waiter(0, 2)
    memory.ring([node])
    memory.words[LOCK + OFFSET] = node
    memory.words[pointer_of(0) + 8 * 8 + OFFSET] = node
    memory.words[pointer_of(0) + 20 * 8] = held

    assert memory.found(0) == 0


def test_a_ring_that_does_not_end_is_given_up() -> None:
    """A kernel that breaks its lists must not hang the one who looks."""
    memory = Memory(1, "first_waiter")
    node = memory.waiter(0, 2)
    other = pointer_of(0) + 30 * 8
    memory.ring([node, other])
    memory.words[other] = other  # From now on it leads to itself.

    assert memory.found(0) == 0


@pytest.mark.parametrize(
    ("functions", "timed"),
    [
        (["__schedule", "schedule", "__mmu_notifier_invalidate_range_start"], False),
        (["__schedule", "schedule", "schedule_timeout", "msleep", "nh_probe"], True),
        (["__schedule", "schedule", "schedule_timeout", "reclaim_throttle"], True),
        (["__schedule", "schedule", "schedule_timeout", "__wait_for_common", "wait_for_completion"], False),
        (["__schedule", "schedule", "schedule_timeout", "__wait_for_common", "wait_for_completion_timeout"], True),
        (["__schedule", "schedule", "io_schedule", "folio_wait_bit_common"], False),
        ([], False),
    ],
)
def test_a_wait_that_a_timer_may_end_is_told_from_one_that_none_does(functions: list[str], timed: bool) -> None:
    frames = [cast("Any", SimpleNamespace(function=name)) for name in functions]

    assert waits.timed(frames) is timed
