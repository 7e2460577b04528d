# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor (QMP): asyncio on a thread of its own, plain calls for everybody else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

from harness.model.errors import MachineError

_T = TypeVar("_T")

# Only this many of the latest events are kept; a guest can cause as many as it likes.
_EVENTS_KEPT = 256


@dataclass(frozen=True)
class Event:
    """Something that QEMU reported of its own accord, such as SHUTDOWN, RESET, STOP or VSERPORT_CHANGE."""

    name: str
    data: dict[str, Any]


class Monitor:
    """A QMP session over a connected socket. Calls block with a limit, from any thread."""

    def __init__(self, channel: socket.socket, on_event: Callable[[Event], None] = lambda _: None) -> None:
        """on_event is called from the monitor's thread."""
        self._on_event = on_event
        self._events: list[Event] = []
        self._client = QMPClient("harness")
        self._listener = EventListener()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitor", daemon=True)
        self._thread.start()
        self._watch: asyncio.Task[None] | None = None
        self._channel = channel

    def connect(self, timeout_s: float) -> None:
        """Wait for QEMU's greeting and agree on capabilities."""
        self._call(self._connect(), timeout_s, "greeting")

    def execute(self, command: str, timeout_s: float = 10.0, **arguments: Any) -> Any:
        """Run a QMP command; underscores in argument names become dashes. Raises MachineError with QEMU's words."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._call(self._client.execute(command, named or None), timeout_s, command)

    def lend(self, name: str, descriptor: int, timeout_s: float = 10.0) -> None:
        """Give QEMU a copy of a descriptor under a name; QEMU closes the copy when it has used it."""
        self._call(self._lend(name, descriptor), timeout_s, f"getfd {name}")

    def lend_file(self, descriptor: int, timeout_s: float = 10.0) -> str:
        """Give QEMU a copy of a descriptor for as long as it runs; returns the path that QEMU opens the copy by."""
        told = self._call(self._lend_file(descriptor), timeout_s, "add-fd")
        return f"/dev/fdset/{told['fdset-id']}"

    def events(self) -> list[Event]:
        """The latest events, oldest first."""
        return list(self._events)

    def quit(self, timeout_s: float = 2.0) -> None:
        """Ask QEMU to end; it may be gone before it answers, or not answer at all."""
        with contextlib.suppress(MachineError):
            self.execute("quit", timeout_s)

    def close(self) -> None:
        """End the session and its thread."""
        with contextlib.suppress(MachineError):
            self._call(self._disconnect(), 2.0, "disconnect")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()
        self._channel.close()

    async def _connect(self) -> None:
        self._client.register_listener(self._listener)
        await self._client.connect(self._channel)
        self._watch = asyncio.create_task(self._collect())

    async def _lend(self, name: str, descriptor: int) -> None:
        self._client.send_fd_scm(descriptor)
        await self._client.execute("getfd", {"fdname": name})

    async def _lend_file(self, descriptor: int) -> Any:
        self._client.send_fd_scm(descriptor)
        return await self._client.execute("add-fd")

    async def _disconnect(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()

    async def _collect(self) -> None:
        async for message in self._listener:
            event = _event(message)
            self._events = [*self._events[-_EVENTS_KEPT + 1 :], event]
            try:
                self._on_event(event)
            except Exception as error:  # noqa: BLE001 - the next event must be heard, too; a fault ends the run by itself
                threading.Thread(target=_raise, args=(error,), name="monitor-event").start()

    def _call(self, work: Coroutine[Any, Any, _T], timeout_s: float, what: str) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise MachineError(f"QEMU's monitor: {what}: no answer after {timeout_s:g} s") from None
        except ExecuteError as error:
            raise MachineError(f"QEMU's monitor: {what}: {error}") from error
        # AssertionError: how qemu.qmp 0.0.6 reports that QEMU ended during the negotiation.
        except (QMPError, OSError, EOFError, AssertionError, asyncio.CancelledError) as error:
            raise MachineError(f"QEMU's monitor: {what}: {error}") from error


def _raise(error: BaseException) -> None:
    raise error


def _event(message: Message) -> Event:
    data = message.get("data")
    return Event(str(message["event"]), data if isinstance(data, dict) else {})
