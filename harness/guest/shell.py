# SPDX-License-Identifier: GPL-2.0-only
"""SSH into the guest for people's commands and files: paramiko over a unix socket, no network in between."""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paramiko

from harness.guest.agent import GuestResult, GuestTimeout
from harness.guest.keys import KeyPair
from harness.host.clock import Deadline
from harness.model.errors import GuestLost, MachineError

_CHUNK = 32768
# dropbear starts in 0.05 s under TCG; if no greeting comes, the guest did not see that we connected again.
_GREETING_LIMIT_S = 2.0
_ABSENCE_S = 0.05

# paramiko logs a traceback where it also raises; without a handler Python would print it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Shell:
    """One SSH session, opened at the first use and opened again after it has ended."""

    def __init__(
        self,
        dial: Callable[[], socket.socket],
        install: Callable[[KeyPair, KeyPair], None],
        connect_limit_s: float,
    ) -> None:
        """dial: gives a socket connected to the guest's dropbear.

        install: puts the keys of the client and of the server into the guest. It
        is called before the first session, so that no two machines share keys,
        not even two clones of one snapshot.
        """
        self._dial = dial
        self._install = install
        self._keys: tuple[KeyPair, KeyPair] | None = None
        self._connect_limit_s = connect_limit_s
        self._transport: paramiko.Transport | None = None
        self._lock = threading.Lock()
        self._used = False

    def run(self, command: str | Sequence[str], timeout_s: float, stdin: bytes = b"") -> GuestResult:
        """Run a command line, or an argv, in the guest's shell. Raises GuestTimeout and GuestLost."""
        argv = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
        line = command if isinstance(command, str) else shlex.join(command)
        deadline = Deadline(timeout_s)
        with self._channel(line, deadline) as channel:
            channel.exec_command(line)
            channel.sendall(stdin)
            channel.shutdown_write()
            stderr = bytearray()
            beside = threading.Thread(target=_collect, args=(channel.recv_stderr, stderr), daemon=True)
            beside.start()
            stdout = bytearray()
            _collect(channel.recv, stdout)
            beside.join(deadline.remaining_s)
            if not channel.status_event.wait(deadline.remaining_s):
                raise GuestTimeout(f"{line}: not done after {deadline}")
            return GuestResult(argv, channel.recv_exit_status(), bytes(stdout), bytes(stderr))

    def put(self, source: Path, target: str, timeout_s: float = 60.0) -> None:
        """Copy a file into the guest, with its permissions."""
        quoted = shlex.quote(target)
        mode = source.stat().st_mode & 0o777
        done = self.run(f"cat > {quoted} && chmod {mode:o} {quoted}", timeout_s, source.read_bytes())
        if done.status:
            raise MachineError(f"{target}: not written in the guest: {done.stderr.decode(errors='backslashreplace')}")

    def get(self, source: str, target: Path, timeout_s: float = 60.0) -> None:
        """Copy a file out of the guest."""
        done = self.run(["cat", source], timeout_s)
        if done.status:
            raise MachineError(f"{source}: not read in the guest: {done.stderr.decode(errors='backslashreplace')}")
        target.write_bytes(done.stdout)

    def ended(self) -> None:
        """The guest's end was closed: a caller that waits for it must not wait until a limit. Any thread may call."""
        transport = self._transport
        if transport is not None:
            _hang_up(transport)

    def close(self) -> None:
        """End the session."""
        with self._lock:
            if self._transport is not None:
                _hang_up(self._transport)
                self._transport = None

    @contextlib.contextmanager
    def _channel(self, what: str, deadline: Deadline) -> Iterator[paramiko.Channel]:
        try:
            channel = self._connected().open_session(timeout=max(0.1, deadline.remaining_s))
            channel.settimeout(max(0.1, deadline.remaining_s))
            with contextlib.closing(channel):
                yield channel
        except TimeoutError as error:
            if isinstance(error, GuestTimeout):
                raise
            raise GuestTimeout(f"{what}: not done after {deadline}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.close()
            raise GuestLost(f"ssh: {what}: {error}") from error

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                self._transport = self._connect()
            return self._transport

    def _connect(self) -> paramiko.Transport:
        """A new session, in a few attempts: the guest may still be ending the last one, which ends this one too."""
        deadline = Deadline(self._connect_limit_s)
        if self._used:
            self._pause(deadline)
        self._used = True
        while True:
            try:
                return self._attempt(deadline)
            except (paramiko.SSHException, EOFError, OSError) as error:
                if deadline.expired:
                    raise GuestLost(f"ssh: no session after {deadline}: {error}") from error
                self._pause(deadline)

    @staticmethod
    def _pause(deadline: Deadline) -> None:
        """Stay disconnected until PID 1 has noticed, which it does in its next turn; no event tells us that it did."""
        threading.Event().wait(min(_ABSENCE_S, deadline.remaining_s))

    def _attempt(self, deadline: Deadline) -> paramiko.Transport:
        if self._keys is None:
            fresh = KeyPair(), KeyPair()
            self._install(*fresh)
            self._keys = fresh
        client, server = self._keys
        transport = paramiko.Transport(self._greeted(deadline))
        try:
            # start_client() returns without a word when the time is up; asking for the key then raises.
            transport.start_client(timeout=deadline.remaining_s or 0.1)
            seen = transport.get_remote_server_key()
            if f"{seen.get_name()} {seen.get_base64()}" != server.public:
                raise MachineError(f"ssh: the guest's host key is not the one it was given: {seen.get_base64()}")
            transport.auth_publickey("root", paramiko.Ed25519Key.from_private_key(io.StringIO(client.openssh)))
        except BaseException:
            _hang_up(transport)
            raise
        return transport

    def _greeted(self, deadline: Deadline) -> socket.socket:
        """A connection on which dropbear has greeted: what is sent before would be dropped with an old session."""
        connection = self._dial()
        try:
            connection.settimeout(min(_GREETING_LIMIT_S, deadline.remaining_s or 0.1))
            if not connection.recv(1, socket.MSG_PEEK):
                raise EOFError("QEMU closed the channel")
        except BaseException:
            connection.close()
            raise
        return connection


def _hang_up(transport: paramiko.Transport) -> None:
    """Disconnect so that the guest sees it now: close() alone keeps the socket until paramiko's thread looks again."""
    with contextlib.suppress(OSError):
        transport.sock.shutdown(socket.SHUT_RDWR)
    transport.close()


def _collect(receive: Callable[[int], bytes], into: bytearray) -> None:
    while data := receive(_CHUNK):
        into += data
