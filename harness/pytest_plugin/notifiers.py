# SPDX-License-Identifier: GPL-2.0-only
"""mmu notifiers, pressure, and what came of it: the words of a scenario, as Python.

Every verb that a scenario has is a method of what it acts on (harness list
verbs: harness/model/vocabulary.py), with the verb's keys as named arguments:
`{device-write: device, seed: 2}` is `device.device_write(seed=2)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.pytest_plugin.guest import Guest

if TYPE_CHECKING:
    from harness.model.event import Event
    from harness.run.driven import Driven

# A short word for what is meant as a rule.
_POLICIES = {"eagain": "eagain-mayfail"}
_CGROUP = "work"


class Named:
    """A buffer or a subscriber of the guest's driver: each verb for it is a method."""

    def __init__(self, notifier: Notifier, kind: str, name: str) -> None:
        self._notifier = notifier
        self._kind = kind
        self.name = name

    def __getattr__(self, word: str) -> Any:
        from harness.model.strict_yaml import offer
        from harness.model.vocabulary import VERBS

        verb = word.replace("_", "-")
        mine = {name for name, (kind, _) in VERBS.items() if kind in (self._kind, "name")}
        if verb not in mine:
            raise AttributeError(f"a {self._kind} has no verb {word!r}; {offer(verb, mine)}")
        return lambda **keys: self._notifier.do(verb, self, **keys)

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


class Notifier:
    """Makes buffers and subscribers in the guest's driver; the fixture `notifier`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._count = 0

    @property
    def _driven(self) -> Driven:
        driven = self._guest.watched.driven
        # Before anything is charged, so that memcg pressure comes for it.
        if not driven.document["steps"]:
            driven.do({"cgroup": _CGROUP})
        return driven

    def do(self, verb: str, target: object, **keys: Any) -> Mapping[str, Any]:
        """Any step that a scenario could have; returns the reply. Python's own words have a _ behind: in_="child"."""
        return self._driven.do({verb: str(target)} | {key.rstrip("_"): _plain(value) for key, value in keys.items()})

    def buffer(self, size: str | int = "16M", **keys: Any) -> Named:
        """Map memory; keys: kind and thp, as in a scenario. Fill it with touch(seed=1)."""
        name = self._name("buffer")
        self._driven.do({"map": name}, "buffers", name, {"kind": "anon", "size": size, **keys})
        return Named(self, "buffer", name)

    def subscribe(
        self, buffer: Named | None = None, *, policy: str = "accept", hold: str = "get", **keys: Any
    ) -> Named:
        """Register a subscriber for a buffer; for 16 MiB of its own that are filled and cold, when none is given.

        policy: as in a scenario; "eagain" refuses whatever may fail. hold: how it takes references on the
        pages, "" for not at all. keys: interface, errno, when, wait_ms, end, end_ms, offset, accessed.
        """
        own = buffer is None
        if buffer is None:
            buffer = self.buffer()
            buffer.touch(seed=1)
        name = self._name("device")
        entry = {"buffer": buffer.name, "policy": _POLICIES.get(policy, policy), **keys}
        self._driven.do({"subscribe": name}, "subscribers", name, entry)
        subscriber = Named(self, "subscriber", name)
        if hold:
            subscriber.hold(how=hold)
        if own:
            buffer.advise(advice="cold")
        return subscriber

    def mirror(self, buffer: Named | None = None, *, access: str = "present") -> Named:
        """A device that mirrors the page table of a buffer, as HMM's users do; `compare` tells what it has stale."""
        subscriber = self.subscribe(buffer, hold="", interface="mirror")
        subscriber.mirror(access=access)
        return subscriber

    def _name(self, word: str) -> str:
        self._count += 1
        return f"{word}-{self._count}"


class Pressure:
    """Makes the guest's kernel reclaim; each pressure of the harness is a method, with its keys as arguments."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def memcg(self, size: str | int = "40M", limit: str | int = "32M") -> Mapping[str, Any]:
        """Charge `size` of memory in the cgroup of the driver, which may have `limit`: the driver reclaims itself."""
        self._notifier.do("limit", "memory.max", value=limit)
        return self._notifier.do("pressure", "memcg-charge", size=size)

    def __getattr__(self, word: str) -> Any:
        from harness import pressures
        from harness.model.strict_yaml import offer

        name = word.replace("_", "-")
        if name not in pressures.catalogue():
            raise AttributeError(f"no pressure {word!r}; {offer(name, pressures.catalogue())}")
        return lambda **keys: self._notifier.do("pressure", name, **keys)


class Observed:
    """What the guest's notifiers have seen so far: each counter of a scenario is an attribute, read when it is asked.

    observed.eagain, observed.callbacks, …; `counters` has all of them, and `events` the log itself.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    @property
    def counters(self) -> Mapping[str, int]:
        """Every counter."""
        return self._guest.watched.driven.counted()

    @property
    def events(self) -> list[Event]:
        """The events so far, in the order in which they began."""
        return sorted(self._guest.watched.driven.observe().events, key=lambda entry: entry.seq)

    def __getattr__(self, word: str) -> int:
        from harness.model.strict_yaml import offer
        from harness.model.vocabulary import COUNTERS

        if word not in COUNTERS:
            raise AttributeError(f"no counter {word!r}; {offer(word, COUNTERS)}")
        return self.counters[word]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Named) else value
