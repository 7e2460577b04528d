# SPDX-License-Identifier: GPL-2.0-only
"""What a blocked task waits for, and which task has it: read from the waiter that the task left on its own stack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import drgn
from drgn.helpers.linux.locking import mutex_owner, rwsem_owner

from harness.postmortem.core import KERNEL_HALF, MANY, Core, Frame, title

# Function of a sleeping lock → the lock's structure.
_LOCKS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("__mutex_lock", "mutex_lock", "__ww_mutex_lock"), "struct mutex"),
    (("rwsem_down_", "down_read", "down_write"), "struct rw_semaphore"),
    (("__down", "down", "down_killable", "down_timeout"), "struct semaphore"),
)
# A lock's list of waiters; and its first waiter, since Linux commits 25500ba7e77c, b9bdd4b68404
# and 1ea4b473504b (seen in v7.2): the waiters are a ring then, which the lock is no part of.
_LIST, _FIRST = "wait_list", "first_waiter"
# Function → what it waits for, where no structure on the stack tells more.
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("wait_for_completion", "__wait_for_common", "wait_for_common"), "a completion"),
    (("folio_wait_bit_common", "__wait_on_bit"), "a bit (a locked or written-back folio)"),
    (("io_schedule", "io_schedule_timeout", "blk_mq_get_tag"), "block I/O"),
    (("synchronize_rcu", "__wait_rcu_gp", "synchronize_srcu"), "an RCU grace period"),
    (("schedule_timeout",), "time to pass"),
)
# Functions that sleep until a timer, and those that call them without one.
_TIMERS = frozenset(
    {
        "schedule_timeout",
        "schedule_timeout_uninterruptible",
        "io_schedule_timeout",
        "msleep",
        "usleep_range_state",
        "schedule_hrtimeout",
        "schedule_hrtimeout_range",
        "schedule_hrtimeout_range_clock",
        "do_nanosleep",
    }
)
_ENDLESS = frozenset({"wait_for_completion", "wait_for_completion_state", "wait_for_completion_io", "__down", "down"})
_SCHEDULER = ("__schedule", "schedule", "schedule_preempt_disabled", "preempt_schedule", "__switch_to_asm")
_WORD = 8
# As many functions tell one wait from another, whoever came to it.
_TELLING = 2


@dataclass(frozen=True)
class Wait:
    """What a task waits for, in words, and the task that has it, when there is one.

    sure: the holder has it now. Of a rw_semaphore that is read, the kernel knows only who read it last.
    """

    text: str
    holder: drgn.Object | None = None
    sure: bool = False


def find(core: Core, task: drgn.Object, frames: Sequence[Frame]) -> Wait:
    """Why a task that sleeps does so."""
    functions = [frame.function for frame in frames]
    for names, kind in _LOCKS:
        if any(function.startswith(names) for function in functions):
            address = _waited_on(core, task, kind)
            if address:
                return _lock(core, task, drgn.Object(core.program, f"{kind} *", value=address), kind)
            return Wait(f"a {kind}, which cannot be found from its stack")
    for names, text in _OTHERS:
        if any(function.startswith(names) for function in functions):
            return Wait(f"{text}, in {place(frames)}")
    return Wait(f"something, in {place(frames)}" if frames else "something unknown: its stack cannot be read")


def place(frames: Sequence[Frame]) -> str:
    """The innermost function that is neither the scheduler nor a way to call it."""
    calls = (*_SCHEDULER, *(name for names, _ in _OTHERS for name in names), "schedule_timeout")
    for frame in frames:
        if not frame.function.startswith(calls):
            return frame.text.partition("/")[0] + (f" [{frame.module}]" if frame.module else "")
    return frames[-1].text if frames else "?"


def where(frames: Sequence[Frame]) -> list[str]:
    """The functions by which two waits are the same: the innermost ones that are not of the scheduler or of a lock."""
    ways = (*_SCHEDULER, *(name for names, *_ in (*_LOCKS, *_OTHERS) for name in names))
    return [frame.function for frame in frames if frame.function and not frame.function.startswith(ways)][:_TELLING]


def timed(frames: Sequence[Frame]) -> bool:
    """Whether a timer ends the wait, or may: a completion is waited for without one by way of the same function."""
    functions = {frame.function for frame in frames}
    return not functions.isdisjoint(_TIMERS) and functions.isdisjoint(_ENDLESS)


def _lock(core: Core, task: drgn.Object, lock: drgn.Object, kind: str) -> Wait:
    name = f"{kind.removeprefix('struct ')} {_named(core, lock.value_())}"
    if kind == "struct semaphore":
        return Wait(f"{name}, count {lock.count.value_()}")
    owner = mutex_owner(lock) if kind == "struct mutex" else rwsem_owner(lock)
    address = owner.value_() & ~7
    owner = next((other for other in core.tasks if other.value_() == address), None)
    if owner is None:
        return Wait(f"{name}, owner {address:#x} is no task" if address else f"{name}, which nobody owns")
    read = kind == "struct rw_semaphore" and bool(lock.owner.counter.value_() & 1)
    if address == task.value_():
        return Wait(f"{name}, which it {'was the last to read' if read else 'holds'} itself", owner, not read)
    return Wait(f"{name}, {'last read' if read else 'held'} by {title(owner)}", owner, not read)


def _named(core: Core, address: int) -> str:
    """A lock by the variable or the mm that it is part of, else by its address."""
    found = core.symbols.find(address)
    if found and found[1] < max(found[2], 1):
        name, offset, _, module = found
        return name + (f"+{offset:#x}" if offset else "") + (f" [{module}]" if module else "")
    for task in core.tasks:
        if task.mm and task.mm.mmap_lock.address_ == address:
            return f"mmap_lock of {title(task)}"
    return f"{address:#x}"


def _waited_on(core: Core, task: drgn.Object, kind: str) -> int:
    """The address of the lock that has a task among its waiters; 0 when there is none.

    A waiter begins with a list_head and the task, so it is three words on the stack
    that prove what they are: the task's address, and neighbours that point back.
    """
    program = core.program
    size = drgn.sizeof(program.type("union thread_union"))
    begin, pointer = task.stack.value_(), task.thread.sp.value_()
    if not begin <= pointer < begin + size:
        return 0
    raw = program.read(pointer, begin + size - pointer)
    words = [int.from_bytes(raw[at : at + _WORD], "little") for at in range(0, len(raw) - _WORD + 1, _WORD)]
    lock = program.type(kind)
    first = any(member.name == _FIRST for member in lock.members or ())
    for index in range(2, len(words)):
        node = pointer + (index - 2) * _WORD
        if words[index] != task.value_() or not _linked(core, node):
            continue
        if first:
            found = _pointed_at(core, words, set(_ring(core, node)), int(drgn.offsetof(lock, _FIRST)))
        else:
            head = _head(core, node)
            found = head - int(drgn.offsetof(lock, _LIST)) if head else 0
        if found:
            return found
    return 0


def _linked(core: Core, node: int) -> bool:
    """Whether the neighbours of a list_head point back to it."""
    try:
        following, previous = core.word(node), core.word(node + _WORD)
        if following < KERNEL_HALF or previous < KERNEL_HALF:
            return False
        return core.word(following + _WORD) == node and core.word(previous) == node
    except drgn.FaultError:
        return False


def _ring(core: Core, node: int) -> Iterator[int]:
    """A list_head and those after it, until it comes again."""
    at = node
    for _ in range(MANY):
        yield at
        at = core.word(at)
        if at == node:
            return


def _head(core: Core, node: int) -> int:
    """The one member of a ring of waiters that is not a waiter: the lock's own list_head."""
    return next((at for at in _ring(core, node) if not _on_its_stack(core, at)), 0)


def _on_its_stack(core: Core, node: int) -> bool:
    """Whether a waiter is where waiters are: on the stack of the task that it names."""
    owner = {task.value_(): task for task in core.tasks}.get(core.word(node + 2 * _WORD))
    size = drgn.sizeof(core.program.type("union thread_union"))
    return owner is not None and owner.stack.value_() <= node < owner.stack.value_() + size


def _pointed_at(core: Core, words: Sequence[int], ring: Collection[int], offset: int) -> int:
    """The lock that a stack's words point at, which names the first of a ring of waiters.

    A place on a stack that holds a waiter's address is no lock: the functions that
    sleep keep it there.
    """
    size = drgn.sizeof(core.program.type("union thread_union"))
    stacks = [task.stack.value_() for task in core.tasks]
    for word in dict.fromkeys(words):
        if word < KERNEL_HALF or word % _WORD or any(begin <= word < begin + size for begin in stacks):
            continue
        try:
            if core.word(word + offset) in ring:
                return word
        except drgn.FaultError:
            continue
    return 0
