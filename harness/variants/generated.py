# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios that nobody wrote: Hypothesis draws them over a model of what must hold while they run.

Each is right by construction: the model knows what a buffer holds and whether
the device's pages are still those that are mapped, so every check that it
writes down must succeed on a kernel that keeps the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import strategies as st

from harness.model.contract import Contract

Document = dict[str, Any]

# The cgroup is filled by any two of these, and by the pressure alone.
_LIMIT = "16M"
_SIZES = ("64K", "1M", "4M", "8K")
# Two huge pages.
_SIZE_OF_HUGE = "4M"
_PRESSURES = {"memcg-charge": "24M", "memory-reclaim": "8M"}
# What a driver that trusts the patch may answer.
_POLICIES = ("accept", "eagain-mayfail", "eagain-reclaim")
# And one that trusts no patch: to refuse in reclaim is wrong then, and wrong thousands of times.
_STOCK_POLICIES = ("accept", "eagain-mayfail")
# And answers that the kernel complains about, with two stack traces for each: on two pages only.
_SIZE_OF_THE_WRONG = "8K"
_WRONG: tuple[Document, ...] = (
    {"policy": "eagain-always"},
    {"policy": "errno", "errno": "EBUSY", "when": "always"},
    {"policy": "errno", "errno": "ENOMEM", "when": "mayfail"},
)
_MOVES_MIN, _MOVES_MAX = 5, 16


@dataclass
class _Buffer:
    """What is known of a buffer. seed: its content, None where nothing is promised. coherent: the device sees it.

    moved: it is no longer where its subscribers look. thp: in huge pages, as long as nothing splits them.
    """

    kind: str
    size: str
    thp: bool = False
    seed: int | None = None
    coherent: bool = True
    writable: bool = True
    moved: bool = False
    locked: bool = False


@dataclass
class _World:
    """The state of a scenario under construction, and the steps so far.

    watches: the subscribers that are there, and their buffers. late: those that may come, or are there and do nothing.
    mirrors: the intervals that mirror the page table, which is compared after each step.
    """

    buffers: dict[str, _Buffer]
    watches: dict[str, str]
    policies: Sequence[str] = _POLICIES
    late: dict[str, str] = field(default_factory=dict)
    intervals: frozenset[str] = frozenset()
    mirrors: frozenset[str] = frozenset()
    held: set[str] = field(default_factory=set)
    child: bool = False
    presser: bool = False
    seeds: int = 0
    steps: list[Document] = field(default_factory=list)
    dice: int = 0

    def pick(self, choices: Sequence[str]) -> str:
        """One of the choices, as the dice of this move fell; 0 always picks the first."""
        self.dice, index = divmod(self.dice, len(choices))
        return choices[index]

    def a_buffer(self) -> str:
        """One of the buffers."""
        return self.pick(sorted(self.buffers))

    def a_device(self) -> tuple[str, _Buffer]:
        """One of the subscribers, and what is known of its buffer."""
        name = self.pick(sorted(self.watches))
        return name, self.buffers[self.watches[name]]

    def fresh(self) -> int:
        """The seed of a content that no buffer had before."""
        self.seeds += 1
        return self.seeds


@st.composite
def scenarios(draw: Callable[[st.SearchStrategy[Any]], Any], contract: Contract = Contract.MAYFAIL) -> Document:
    """A scenario document, ready to be written as YAML. contract: the one that its drivers know."""
    policies = _POLICIES if contract.marks else _STOCK_POLICIES
    kinds = draw(st.lists(st.sampled_from(("anon", "shmem")), min_size=1, max_size=2))
    sizes = [draw(st.sampled_from(_SIZES)) for _ in kinds]
    # Shared memory is never in huge pages here: /sys/kernel/mm/transparent_hugepage/shmem_enabled.
    huge = [
        kind == "anon" and size == _SIZE_OF_HUGE and draw(st.booleans())
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    buffers = {f"buffer{number}": _Buffer(*drawn) for number, drawn in enumerate(zip(kinds, sizes, huge, strict=True))}
    names = draw(st.lists(st.sampled_from(sorted(buffers)), min_size=1, max_size=3))
    watches = {f"device{number}": name for number, name in enumerate(names)}
    subscribers = {
        name: {"buffer": buffer} | draw(_subscriber(buffers[buffer], policies)) for name, buffer in watches.items()
    }
    interfaces = {name: subscriber["interface"] for name, subscriber in subscribers.items()}
    mirrors = frozenset(name for name, interface in interfaces.items() if interface == "mirror")
    intervals = mirrors | {name for name, interface in interfaces.items() if interface == "interval"}
    late = {name: watches.pop(name) for name in sorted(watches)[1:] if draw(st.booleans())}
    world = _World(buffers, watches, policies, late, intervals, mirrors)
    for name in buffers:
        _touch(world, name)
    # One list of plain values: whatever Hypothesis leaves out of it, the rest is still a scenario.
    for move, dice in draw(st.lists(_MOVE, min_size=_MOVES_MIN, max_size=_MOVES_MAX)):
        world.dice = dice
        _MOVES[move](world)
    hypothesis.assume(any(_notifies(step) for step in world.steps))
    return {
        "summary": "Found by harness explore.",
        "default": False,
        "cgroup": {"max": _LIMIT},
        "buffers": {
            name: {"kind": buffer.kind, "size": buffer.size} | ({"thp": True} if buffer.thp else {})
            for name, buffer in buffers.items()
        },
        "subscribers": subscribers,
        "steps": world.steps,
        "exercised": {"invalidates": 1} if len(intervals) == len(names) else {"callbacks": 1},
    }


@st.composite
def _subscriber(draw: Callable[[st.SearchStrategy[Any]], Any], buffer: _Buffer, policies: Sequence[str]) -> Document:
    interface = draw(st.sampled_from(("register", "get", "interval", "mirror")))
    if interface in ("interval", "mirror"):
        # The patch gives an interval no right to refuse, and it has no end.
        return {"interface": interface, "policy": "accept"}
    wrong = _WRONG if buffer.size == _SIZE_OF_THE_WRONG else ()
    answers: Document = draw(st.sampled_from((*({"policy": policy} for policy in policies), *wrong)))
    return answers | {"interface": interface, "end": draw(st.booleans())}


def _notifies(step: Document) -> bool:
    """Whether a step may call a subscriber; a scenario without such a step would be judged inconclusive."""
    calls = ("pressure", "protect", "replace", "move", "fork", "write")
    return any(verb in step for verb in calls) or step.get("advice") in ("dontneed", "free")


def _touch(world: _World, name: str) -> None:
    world.buffers[name].seed = world.fresh()
    world.steps.append({"touch": name, "seed": world.buffers[name].seed})


def _hold(world: _World) -> None:
    device, buffer = world.a_device()
    if device in world.held:
        world.held.discard(device)
        world.steps.append({"release": device})
    elif buffer.writable and not buffer.moved:
        world.held.add(device)
        # The pages are taken for writing, so those that are held are those that are mapped, after a copy if need be.
        buffer.coherent = all(other == device or world.watches[other] != world.watches[device] for other in world.held)
        world.steps.append({"hold": device, "how": world.pick(("get", "pin"))})


def _cold(world: _World) -> None:
    """Not for a locked buffer: madvise() answers EINVAL."""
    name = world.a_buffer()
    if not world.buffers[name].locked:
        world.steps.append({"advise": name, "advice": "cold"})


def _press(world: _World) -> None:
    pressure = world.pick(sorted(_PRESSURES))
    step: Document = {"pressure": pressure, "size": _PRESSURES[pressure]}
    if not world.presser and world.pick(("here", "beside")) == "beside":
        step["background"] = "presser"
        world.presser = True
    world.steps.append(step)


def _cold_and_press(world: _World) -> None:
    _cold(world)
    _press(world)


def _page_out(world: _World) -> None:
    name = world.a_buffer()
    if not world.buffers[name].locked:
        world.steps.append({"pressure": "pageout", "buffer": name})


def _wait(world: _World) -> None:
    if world.presser:
        world.presser = False
        world.steps.append({"wait": "presser"})


def _write(world: _World) -> None:
    name = world.a_buffer()
    buffer = world.buffers[name]
    if buffer.writable:
        buffer.seed = world.fresh()
        world.steps.append({"user-write": name, "seed": buffer.seed})


def _check(world: _World) -> None:
    name = world.a_buffer()
    if world.buffers[name].seed is not None:
        world.steps.append({"user-check": name, "seed": world.buffers[name].seed})


def _device_write(world: _World) -> None:
    device, buffer = world.a_device()
    if device in world.held and buffer.coherent:
        buffer.seed = world.fresh()
        world.steps.append({"device-write": device, "seed": buffer.seed})


def _device_check(world: _World) -> None:
    device, buffer = world.a_device()
    if device in world.held and buffer.coherent and buffer.seed is not None:
        world.steps.append({"device-check": device, "seed": buffer.seed})


def _policy(world: _World) -> None:
    device, _ = world.a_device()
    if device not in world.intervals:
        world.steps.append({"policy": device, "to": world.pick(world.policies)})


def _protect(world: _World) -> None:
    name = world.a_buffer()
    buffer = world.buffers[name]
    buffer.writable = not buffer.writable
    world.steps.append({"protect": name, "prot": "rw" if buffer.writable else "r"})


def _replace(world: _World) -> None:
    """MAP_FIXED over a buffer: the device goes on holding what was mapped before."""
    name = world.a_buffer()
    buffer = world.buffers[name]
    buffer.seed, buffer.coherent, buffer.writable, buffer.locked = None, False, True, False
    world.steps.append({"replace": name})


def _discard(world: _World) -> None:
    """MADV_DONTNEED, or MADV_FREE: reclaim may take the pages, or give back what was written; a held one must stay."""
    name = world.a_buffer()
    buffer = world.buffers[name]
    if buffer.kind == "anon" and not buffer.locked:
        buffer.seed, buffer.coherent = None, False
        world.steps.append({"advise": name, "advice": world.pick(("dontneed", "free"))})


def _move(world: _World) -> None:
    name = world.a_buffer()
    world.buffers[name].moved = True
    world.steps.append({"move": name, "shift": world.pick(("4K", "0"))})


def _lock(world: _World) -> None:
    name = world.a_buffer()
    buffer = world.buffers[name]
    world.steps.append({"unlock" if buffer.locked else "lock": name})
    buffer.locked = not buffer.locked


def _forget(world: _World) -> None:
    """Clear the accessed bits, or the soft-dirty bits, which opens a range over the whole address space."""
    world.steps.append({"write": "/proc/self/clear_refs", "value": int(world.pick(("4", "1")))})


def _come_or_go(world: _World) -> None:
    """A subscriber comes late, or goes with all that it holds, be it in the middle of reclaim."""
    device = world.pick(sorted(world.watches | world.late))
    if device in world.late:
        world.watches[device] = world.late.pop(device)
        world.steps.append({"subscribe": device})
    elif len(world.watches) > 1:
        world.held.discard(device)
        world.intervals -= {device}
        world.mirrors -= {device}
        del world.watches[device]
        world.steps.append({"unsubscribe": device})


def _begin(world: _World) -> None:
    """Begin a read, which blocks for ever where an end was lost."""
    if world.intervals and not world.presser:
        world.steps.append(
            {"read-begin": world.pick(sorted(world.intervals)), "expect": {"result": 0}},
        )


def _mirror(world: _World) -> None:
    """Take over what is mapped, or, where it can be written, what a device needs that is about to write, or alone."""
    mirrors = sorted(world.mirrors & world.watches.keys())
    if mirrors:
        device = world.pick(mirrors)
        buffer = world.buffers[world.watches[device]]
        accesses = ("present", "read", "write") if buffer.writable and not buffer.moved else ("present",)
        if "write" in accesses and buffer.kind == "anon" and not buffer.thp:
            accesses = (*accesses, "exclusive")
        world.steps.append({"mirror": device, "access": world.pick(accesses)})


def _device_move(world: _World) -> None:
    """A driver moves the pages to others, those that nobody holds."""
    device, buffer = world.a_device()
    if buffer.kind == "anon" and not buffer.thp and not buffer.moved:
        world.steps.append({"device-move": device})


def _fork(world: _World) -> None:
    """After a fork, a write by the user may copy what the device holds by get_user_pages."""
    if world.child:
        world.steps.append({world.pick(("end", "kill", "mrelease")): "child"})
    else:
        for buffer in world.buffers.values():
            buffer.coherent = False
        world.steps.append({"fork": "child"})
    world.child = not world.child


# The first move mostly does nothing, so that the value that is simplest to Hypothesis leaves a step out.
_MOVES: tuple[Callable[[_World], None], ...] = (
    _wait,
    _cold_and_press,
    _hold,
    _press,
    _page_out,
    _cold,
    _write,
    _check,
    _device_write,
    _device_check,
    _policy,
    _protect,
    _discard,
    _replace,
    _fork,
    _move,
    _begin,
    _mirror,
    _forget,
    _lock,
    _come_or_go,
    _device_move,
)
# Which move, and what decides within it: there are fewer than 64 ways in each.
_MOVE = st.tuples(st.integers(0, len(_MOVES) - 1), st.integers(0, 63))


def size(document: Mapping[str, Any]) -> tuple[int, int, int]:
    """Which of two scenarios is the smaller one: fewer steps, subscribers, buffers."""
    return len(document["steps"]), len(document["subscribers"]), len(document["buffers"])
