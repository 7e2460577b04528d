# SPDX-License-Identifier: GPL-2.0-only
"""Extra memory of one more idle clone of a 512 MiB guest, against one more plain boot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from benchmarks import meter
from benchmarks.bench import SHAPE, Bench
from benchmarks.figure import AtMost, Row, Side
from harness.guest.machine import Machine
from harness.model.errors import MachineError

ROWS = (
    Row("extra memory (PSS) of one more idle clone of a 512 MiB guest", "clone_pss_mib", AtMost(64), "boot_pss_mib"),
)

# The first guest pays for shared pages, the fourth does not; the mean of the later guests is what one more costs.
_GUESTS = 4
# The work of a guest after its start (timers, kernel threads) is over by then.
_IDLE_S = 3.0


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """The memory of the guests, as the sum of their shares, with four guests and with one."""
    lab = bench.lab()

    def side(name: str, fresh: Callable[[], AbstractContextManager[Machine]]) -> Mapping[str, float]:
        with contextlib.ExitStack() as stack:
            machines: list[Machine] = []
            sums: list[float] = []
            while len(machines) < _GUESTS:
                machines.append(stack.enter_context(fresh()))
                # Idleness is what is measured.
                time.sleep(_IDLE_S)
                sums.append(sum(meter.pss_mib(machine.pid) for machine in machines))
            if name == "clone" and not all(machine.cloned for machine in machines):
                raise MachineError(f"machines are not cloned here: {lab.refused}")
        return {f"{name}_pss_mib": (sums[-1] - sums[0]) / (_GUESTS - 1), f"{name}_first_pss_mib": sums[0]}

    yield [
        lambda: side("clone", lambda: lab.machine(SHAPE, bench.folder())),
        lambda: side("boot", lambda: lab.boot(SHAPE, bench.folder())),
    ]
