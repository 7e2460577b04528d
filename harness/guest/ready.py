# SPDX-License-Identifier: GPL-2.0-only
"""What every scenario needs of its guest, done once before it is frozen: a clone finds its files open, its limits set.

Under TCG that saves each clone 0.06 s of CPU time, because each translates again what it executes. The driver is
started in the clone: its addresses are random, and clones must not agree on them, or forty repeats would be one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.guest.agent import GuestTimeout
from harness.guest.machine import Machine, Watchdogs
from harness.host.clock import scaled
from harness.model.errors import GuestLost
from harness.model.instrument import Instrument

PRINTK = "/proc/sys/kernel/printk"
KMSG = "/dev/kmsg"
SYSRQ = "/proc/sysrq-trigger"
# The limit of most scenarios on an ordinary machine.
_LIMIT_S = 10.0


@dataclass(frozen=True)
class Ready:
    """What a guest had done. kept: the files that PID 1 holds open; settings: what it wrote to the kernel's."""

    kept: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def keep(machine: Machine, instrument: Instrument) -> None:
    """Open what must be written to in a guest without memory, before the trouble begins."""
    for path in filter(None, (instrument.quench, PRINTK, SYSRQ, KMSG)):
        machine.keep(path)


def make(machine: Machine, instrument: Instrument, slowdown: float) -> Ready:
    """Make a guest ready that has just booted; one that could not load what it carries is left as it is.

    Raises GuestLost when it does not do what each guest of ours does.
    """
    if machine.hello.get("modules") != "ok":
        return Ready()
    try:
        machine.set_watchdogs(Watchdogs.within(scaled(_LIMIT_S, slowdown)))
        keep(machine, instrument)
    except (GuestTimeout, OSError) as fault:
        raise GuestLost(f"the guest cannot be made ready: {fault}") from fault
    return Ready(tuple(sorted(machine.kept)), dict(machine.settings))
