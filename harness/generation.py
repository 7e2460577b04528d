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

from hypothesis import strategies as st

Document = dict[str, Any]

# The cgroup is filled by any two of these, and by the pressure alone.
_LIMIT = "16M"
_SIZES = ("64K", "1M", "4M")
_PRESSURES = {"memcg-charge": "24M", "memory-reclaim": "8M"}
# What a driver that trusts the patch may answer; others are faults of the subscriber's own.
_POLICIES = ("accept", "eagain-mayfail", "eagain-reclaim")
_STEPS_MAX = 12


@dataclass
class _Buffer:
    """What is known of a buffer. seed: its content, None where nothing is promised. coherent: the device sees it."""

    kind: str
    seed: int | None = None
    coherent: bool = True
    writable: bool = True


@dataclass
class _World:
    """The state of a scenario under construction, and the steps so far."""

    buffers: dict[str, _Buffer]
    watches: dict[str, str]
    held: set[str] = field(default_factory=set)
    child: bool = False
    presser: bool = False
    seeds: int = 0
    steps: list[Document] = field(default_factory=list)
    dice: int = 0

    def pick(self, choices: Sequence[str]) -> str:
        """One of some words, as the dice of this move fell; 0 is the first of everything."""
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
        """A content that no buffer had before."""
        self.seeds += 1
        return self.seeds


@st.composite
def scenarios(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Document:
    """A scenario document, ready to be written as YAML."""
    kinds = draw(st.lists(st.sampled_from(("anon", "shmem")), min_size=1, max_size=2))
    buffers = {f"buffer{number}": _Buffer(kind) for number, kind in enumerate(kinds)}
    sizes = {name: draw(st.sampled_from(_SIZES)) for name in buffers}
    watches = {
        f"device{number}": name
        for number, name in enumerate(draw(st.lists(st.sampled_from(sorted(buffers)), min_size=1, max_size=3)))
    }
    subscribers = {
        name: {
            "buffer": buffer,
            "policy": draw(st.sampled_from(_POLICIES)),
            "interface": draw(st.sampled_from(("register", "get"))),
            "end": draw(st.booleans()),
        }
        for name, buffer in watches.items()
    }
    world = _World(buffers, watches)
    for name in buffers:
        _touch(world, name)
    # One list of plain values: whatever Hypothesis leaves out of it, the rest is a scenario still.
    for move, dice in draw(st.lists(_MOVE, min_size=1, max_size=_STEPS_MAX)):
        world.dice = dice
        _MOVES[move](world)
    return {
        "summary": "Found by harness explore.",
        "default": False,
        "cgroup": {"max": _LIMIT},
        "buffers": {name: {"kind": buffer.kind, "size": sizes[name]} for name, buffer in buffers.items()},
        "subscribers": subscribers,
        "steps": world.steps,
        "exercised": {"callbacks": 1},
    }


def _touch(world: _World, name: str) -> None:
    world.buffers[name].seed = world.fresh()
    world.steps.append({"touch": name, "seed": world.buffers[name].seed})


def _hold(world: _World) -> None:
    device, buffer = world.a_device()
    if device in world.held:
        world.held.discard(device)
        world.steps.append({"release": device})
    elif buffer.writable:
        world.held.add(device)
        # Taken for writing, so what is held is what is mapped, copied before if need be.
        buffer.coherent = all(other == device or world.watches[other] != world.watches[device] for other in world.held)
        world.steps.append({"hold": device, "how": world.pick(("get", "pin"))})


def _cold(world: _World) -> None:
    world.steps.append({"advise": world.a_buffer(), "advice": "cold"})


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
    world.steps.append({"pressure": "pageout", "buffer": world.a_buffer()})


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
    world.steps.append({"policy": device, "to": world.pick(_POLICIES)})


def _protect(world: _World) -> None:
    name = world.a_buffer()
    buffer = world.buffers[name]
    buffer.writable = not buffer.writable
    world.steps.append({"protect": name, "prot": "rw" if buffer.writable else "r"})


def _replace(world: _World) -> None:
    """MAP_FIXED over it: the device goes on holding what was mapped before."""
    name = world.a_buffer()
    buffer = world.buffers[name]
    buffer.seed, buffer.coherent, buffer.writable = None, False, True
    world.steps.append({"replace": name})


def _discard(world: _World) -> None:
    name = world.a_buffer()
    buffer = world.buffers[name]
    if buffer.kind == "anon":
        buffer.seed, buffer.coherent = None, False
        world.steps.append({"advise": name, "advice": "dontneed"})


def _fork(world: _World) -> None:
    """From then on a write by the user may copy what the device holds by get_user_pages."""
    if world.child:
        world.steps.append({"end": "child"})
    else:
        for buffer in world.buffers.values():
            buffer.coherent = False
        world.steps.append({"fork": "child"})
    world.child = not world.child


_MOVES: tuple[Callable[[_World], None], ...] = (
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
    _wait,
    _protect,
    _discard,
    _replace,
    _fork,
)
# Which move, and what decides within it: there are fewer than 64 ways in each.
_MOVE = st.tuples(st.integers(0, len(_MOVES) - 1), st.integers(0, 63))


def size(document: Mapping[str, Any]) -> tuple[int, int, int]:
    """Which of two scenarios is the smaller one: fewer steps, subscribers, buffers."""
    return len(document["steps"]), len(document["subscribers"]), len(document["buffers"])
