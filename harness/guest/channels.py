# SPDX-License-Identifier: GPL-2.0-only
"""The sockets between the harness and one QEMU. None of them has a name on disk that outlives the start."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path


class Pair:
    """A connected pair: `ours` stays, `theirs` goes to QEMU."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def close(self) -> None:
        """Close what nobody took over."""
        self.ours.close()
        self.theirs.close()


class Listener:
    """A socket on which QEMU listens and to which only we can connect.

    Its name is removed at once. Our way in is a descriptor of the socket's
    inode, opened with O_PATH: connect(2) follows /proc/self/fd to it. So there
    is no path to collide with or to clean up, and nobody else can connect.
    """

    def __init__(self) -> None:
        # /tmp rather than $TMPDIR: a socket's path may have 107 bytes.
        with tempfile.TemporaryDirectory(prefix="harness-", dir="/tmp") as folder:
            path = Path(folder) / "s"
            self.theirs = socket.socket(socket.AF_UNIX)
            self.theirs.bind(str(path))
            self.theirs.listen(1)
            self._inode = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def dial(self) -> socket.socket:
        """A new connection to whoever listens."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"/proc/self/fd/{self._inode}")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the listener, should it still be ours, and the way in."""
        self.theirs.close()
        with contextlib.suppress(OSError):
            os.close(self._inode)
        self._inode = -1


class Channels:
    """Everything one machine is spoken to over."""

    def __init__(self) -> None:
        self.console = Pair()
        self.terminal = Pair()
        self.agent = Pair()
        self.monitor = Pair()
        self.ssh = Listener()

    def blocking(self) -> contextlib.ExitStack:
        """Closed, it has QEMU wait for a reader of the console and the agent's channel instead of coming back later.

        QEMU makes its ends non-blocking when it starts, so this is asked before
        that and closed after. When a full channel is free again is not on a
        tape: without it, reading 5 MB of events could not be replayed (QEMU 7.2).
        """
        stack = contextlib.ExitStack()
        for channel in (self.console, self.agent):
            copy = stack.enter_context(channel.theirs.dup())
            stack.callback(os.set_blocking, copy.fileno(), True)
        return stack

    def started(self) -> None:
        """QEMU has its ends: drop our copies, so that its end is seen as the end of the channel."""
        for channel in (self.console, self.terminal, self.agent, self.monitor, self.ssh):
            channel.theirs.close()

    def close(self) -> None:
        """Close everything; closing twice is harmless."""
        for channel in (self.console, self.terminal, self.agent, self.monitor, self.ssh):
            channel.close()
