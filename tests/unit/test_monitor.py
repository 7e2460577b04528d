# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator

import pytest

from harness.guest.monitor import Event, Monitor
from harness.model.errors import MachineError

SOON = 10.0


class Qemu:
    """A QMP server that answers each command with an answer that a test prepared."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.requests: list[dict[str, object]] = []
        self.replies: dict[str, dict[str, object]] = {"qmp_capabilities": {"return": {}}}
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def send(self, message: dict[str, object]) -> None:
        """Send a line of QMP."""
        self.channel.sendall(json.dumps(message).encode() + b"\r\n")

    def _serve(self) -> None:
        self.send(
            {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
        )
        # A client's commands are JSON texts without a newline; each waits for the answer to the previous command.
        while text := self.channel.recv(1 << 16):
            request = json.loads(text)
            self.requests.append(request)
            reply = self.replies.get(request["execute"])
            if reply is not None:
                self.send(reply | ({"id": request["id"]} if "id" in request else {}))


@pytest.fixture
def ends() -> Iterator[tuple[Monitor, Qemu, queue.Queue[Event]]]:
    ours, theirs = socket.socketpair()
    qemu = Qemu(theirs)
    heard: queue.Queue[Event] = queue.Queue()
    monitor = Monitor(ours, heard.put)
    qemu.thread.start()
    monitor.connect(SOON)
    yield monitor, qemu, heard
    monitor.close()
    theirs.close()
    qemu.thread.join(SOON)


def test_a_command_returns_what_qemu_answers(ends):
    """Arguments are written with underscores and travel with dashes."""
    monitor, qemu, _ = ends
    qemu.replies["dump-guest-memory"] = {"return": {"paging": False}}

    assert monitor.execute("dump-guest-memory", device_name="x") == {"paging": False}
    assert qemu.requests[-1]["arguments"] == {"device-name": "x"}


def test_a_refusal_is_told_in_qemus_words(ends):
    monitor, qemu, _ = ends
    qemu.replies["cont"] = {"error": {"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}}

    with pytest.raises(MachineError, match="monitor: cont: Resetting the Virtual Machine is required"):
        monitor.execute("cont")


def test_no_answer_ends_with_the_limit(ends):
    monitor, _, _ = ends
    with pytest.raises(MachineError, match=r"query-status: no answer after 0\.05 s"):
        monitor.execute("query-status", timeout_s=0.05)


def test_events_are_heard_and_kept_up_to_a_number(ends):
    """A guest can cause as many events as it likes; the number that is kept is bounded."""
    monitor, qemu, heard = ends
    stamp = {"seconds": 1, "microseconds": 2}
    for number in range(300):
        qemu.send({"event": "RTC_CHANGE", "data": {"offset": number}, "timestamp": stamp})
    for number in range(300):
        assert heard.get(timeout=SOON) == Event("RTC_CHANGE", {"offset": number})

    assert len(monitor.events()) == 256
    assert monitor.events()[-1].data == {"offset": 299}


def test_qemu_that_is_gone_is_told_and_quit_does_not_mind(ends):
    monitor, qemu, _ = ends
    qemu.channel.shutdown(socket.SHUT_RDWR)

    with pytest.raises(MachineError, match="monitor: query-status"):
        monitor.execute("query-status")
    monitor.quit()
