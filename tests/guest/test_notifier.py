# SPDX-License-Identifier: GPL-2.0-only
"""guest-modules/notifier_hold through its own interface: parameters, pairing, probes, intervals, planted faults."""

from __future__ import annotations

import errno
import json
from collections import Counter
from pathlib import Path

import pytest

from harness.guest.machine import Machine
from harness.guest.programs import compiled
from harness.host.workspace import cache_dir, data
from harness.model import event
from harness.model.event import OWN_BUFFER, Event, EventLog, Kind

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

MODULE = "notifier_hold"
PARAMETERS = "/sys/module/notifier_hold/parameters"
LOG = "/dev/notifier_hold_log"
LIMIT_S = 60.0
# enum nh_broken
LOST_END, ORPHAN_END = 1, 2


class Notifier:
    """The module in a guest, and a program that asks it for things."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        interface = sorted((data("guest-modules") / MODULE).glob("*_uapi.h"))
        program = compiled("notifier", [Path(__file__).with_name("notifier.c")], cache_dir(), interface=interface)
        machine.agent.write_file("/tmp/notifier", program.read_bytes())
        assert machine.run("chmod", "755", "/tmp/notifier").status == 0

    def run(self, *words: str) -> dict[str, int]:
        """Run a case; returns what it printed."""
        done = self.machine.run("/tmp/notifier", *words, timeout_s=LIMIT_S)
        assert done.status == 0, done.stderr
        return {key: int(value) for key, _, value in (line.partition("=") for line in done.text.splitlines())}

    def set(self, name: str, value: str) -> bool:
        """Write a parameter; False when the module refuses."""
        return self.machine.run("sh", "-c", f"echo {value} > {PARAMETERS}/{name}").status == 0

    def log(self) -> EventLog:
        """The event log, in the order of its records."""
        return event.parse(self.machine.agent.read_file(LOG, LIMIT_S))

    def counters(self) -> dict[str, int]:
        """What the driver's `log` says."""
        done = self.machine.run("/bin/drive", stdin=b"log\nquit\n", timeout_s=LIMIT_S)
        reply: dict[str, int] = json.loads(done.text.splitlines()[0])
        assert reply["ok"], reply
        return reply


@pytest.fixture
def notifier(guest: Machine) -> Notifier:
    """A guest that nobody used before."""
    return Notifier(guest)


def own(entry: Event) -> bool:
    """A callback for the program's buffer, not for the rest of its memory."""
    return bool(entry.context & OWN_BUFFER and entry.kind in (Kind.START, Kind.END, Kind.INVALIDATE))


def kinds(log: EventLog) -> Counter[str]:
    """How many callbacks of each kind the buffer had."""
    return Counter(Kind(entry.kind).name for entry in log if own(entry))


def broken(log: EventLog) -> Counter[int]:
    """What the module's own pairing says, by enum nh_broken."""
    return Counter(entry.result for entry in log if entry.kind == Kind.VIOLATION)


def test_starts_and_ends_pair_and_nothing_is_lost(notifier: Notifier):
    """500 × 2 calls, 2,000 records; the module's own pairing has nothing to say."""
    said = notifier.run("protect", "500")
    log, counters = notifier.log(), notifier.counters()

    assert said == {"starts": 1000, "ends": 1000}
    assert kinds(log)["START"] == kinds(log)["END"] == 1000
    assert (counters["lost"], counters["violations"], counters["saturated"]) == (0, 0, 0)


def test_unrecorded_callbacks_are_counted_and_missed(notifier: Notifier):
    """With record=0 the subscriber counts as before, and the log stays empty and says that it is not complete."""
    assert notifier.set("record", "0")

    said = notifier.run("protect", "500")

    counters = notifier.counters()
    assert said == {"starts": 1000, "ends": 1000}
    assert counters["count"] == 0
    assert counters["lost"] >= 2000
    assert counters["violations"] == 0


def test_the_log_is_as_large_as_it_was_made(notifier: Notifier):
    """Records that do not fit are counted; while there is a subscriber the size stays."""
    assert notifier.set("capacity", "64")

    notifier.run("protect", "100")

    counters = notifier.counters()
    assert (counters["capacity"], counters["count"]) == (64, 64)
    assert counters["lost"] >= 400 - 64
    waiting = notifier.machine.agent.start(["/tmp/notifier", "wait"])
    assert waiting.readline(LIMIT_S) == "ready"
    assert not notifier.set("capacity", "128")
    waiting.send("\n")
    waiting.wait(LIMIT_S)
    assert notifier.set("capacity", "128")
    assert not notifier.set("capacity", "0")
    assert not notifier.set("capacity", "16777217")


def test_pages_that_were_taken_before_it_failed_are_told(notifier: Notifier):
    """Half of the buffer is not there: PUT gives back what HOLD took. harness explore found this, by a signal."""
    steps = (
        "map name=b kind=anon size=64K",
        "touch name=b seed=1",
        "subscribe name=d buffer=b policy=accept",
        "unmap name=b offset=32K size=32K",
        "hold name=d how=get",
        "quit",
    )
    done = notifier.machine.run("/bin/drive", stdin="\n".join(steps).encode() + b"\n", timeout_s=LIMIT_S)

    assert json.loads(done.text.splitlines()[4])["errno"] == errno.EFAULT
    assert [(entry.kind, entry.result) for entry in notifier.log().of(Kind.HOLD, Kind.PUT)] == [
        (Kind.HOLD, 8),
        (Kind.PUT, 8),
    ]


@pytest.mark.parametrize("how", ["put", "unregister"])
def test_who_leaves_between_start_and_end_loses_its_end_legally(notifier: Notifier, how: str):
    """The other subscriber's start waits until this one has left; its end comes, the leaver's does not: no fault."""
    said = notifier.run(how)
    log, counters = notifier.log(), notifier.counters()

    (leaver,) = {entry.subscriber for entry in log if entry.kind == Kind.UNREGISTER} - {1}
    assert said == {"own": 2}
    assert [entry.kind for entry in log if entry.subscriber == 1 and own(entry)] == [
        Kind.START, Kind.END, Kind.START, Kind.END
    ]  # fmt: skip
    of_leaver = [entry.kind for entry in log if entry.subscriber == leaver and own(entry)]
    assert of_leaver == [Kind.START]
    assert (counters["violations"], counters["saturated"]) == (0, 0)


def test_who_is_called_while_it_leaves_breaks_no_pairing(notifier: Notifier):
    """It is called until it is off the list, after its own release(): harness explore met this once in 800."""
    said = notifier.run("churn", "300")
    counters = notifier.counters()

    assert said["own"] > 0
    assert (counters["violations"], counters["saturated"]) == (0, 0)


def test_others_leave_a_task_its_place_until_all_have_had_their_start(notifier: Notifier):
    """A subscriber without an end leaves nothing to wait for, but the group is not over: another start comes."""
    said = notifier.run("refused-in-a-crowd")
    log, counters = notifier.log(), notifier.counters()

    assert said["refused"] == 16
    assert broken(log) == {}
    assert (counters["violations"], counters["saturated"]) == (0, 0)


def test_who_come_at_once_may_be_called_in_either_order(notifier: Notifier):
    """The first subscriber on the list can be the last whose registration returns."""
    said = notifier.run("rush", "100")
    log, counters = notifier.log(), notifier.counters()

    assert said["own"] > 0
    assert broken(log) == {}
    assert (counters["violations"], counters["saturated"]) == (0, 0)


def test_a_swap_entry_of_another_page_is_none_of_the_page_that_is_unmapped(notifier: Notifier):
    """Zapped, touched, and swapped out before the start: the page that probes find was unmapped in its own range."""
    said = notifier.run("replaced")
    log, counters = notifier.log(), notifier.counters()

    assert said == {"own": 3, "mayfail": 2}
    assert broken(log) == {}
    assert counters["violations"] == 0


def test_an_interval_is_invalidated_before_the_list(notifier: Notifier):
    """One record for each range, before that of the list's subscriber; mmu_interval_read_begin() returns."""
    said = notifier.run("read-begin", "10")
    log = notifier.log()

    assert said["result"] == 0
    assert said["sequence"] % 2 == 1
    assert said["starts"] == 20
    order = [entry.kind for entry in log if entry.kind in (Kind.INVALIDATE, Kind.START, Kind.END)]
    assert order[:60] == [Kind.INVALIDATE, Kind.START, Kind.END] * 20


def test_a_read_that_does_not_begin_is_given_up(notifier: Notifier):
    """While an end is missing: -ETIMEDOUT, then -EBUSY because that reader is still there; 0 when the end has come."""
    assert notifier.run("stuck") == {"stuck": -errno.ETIMEDOUT, "busy": 1, "free": 0}


def test_sixteen_subscribers_are_followed_and_a_seventeenth_is_said_not_to_be(notifier: Notifier):
    """A callback that the pairing has no room for is counted, and never taken for a violation."""
    notifier.run("crowd", "16")
    assert (notifier.counters()["violations"], notifier.counters()["saturated"]) == (0, 0)

    notifier.run("crowd", "17")

    assert notifier.counters()["violations"] == 0
    assert notifier.counters()["saturated"] > 0


def test_an_end_that_the_pairing_is_not_told_of_is_a_violation(notifier: Notifier):
    """Every tenth end is hidden: found at the next start on the same stack, or when the subscriber leaves."""
    assert notifier.set("fault_every", "10")
    assert notifier.set("fault", "blind-end")

    notifier.run("protect", "500")

    log, counters = notifier.log(), notifier.counters()
    assert kinds(log)["START"] == kinds(log)["END"] == 1000
    assert broken(log) == {LOST_END: 100}
    assert counters["violations"] == 100


def test_an_end_that_is_not_recorded_is_none_to_the_pairing(notifier: Notifier):
    """Only the log is wrong: the host's pairing finds it, and differs from the module's pairing."""
    assert notifier.set("fault_every", "10")
    assert notifier.set("fault", "drop-end")

    notifier.run("protect", "500")

    assert kinds(notifier.log())["END"] == 900
    assert notifier.counters()["violations"] == 0
    assert notifier.counters()["lost"] == 0


def test_an_unknown_fault_is_refused(notifier: Notifier):
    """A mistyped name plants nothing."""
    assert not notifier.set("fault", "drop-ends")
    assert notifier.machine.run("cat", f"{PARAMETERS}/fault").text == "none\n"
