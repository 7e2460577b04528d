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
        """Close both ends."""
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
        """A new connection to the process that listens."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"/proc/self/fd/{self._inode}")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the listener, if it is still ours, and our way in."""
        self.theirs.close()
        with contextlib.suppress(OSError):
            os.close(self._inode)
        self._inode = -1


class Channels:
    """Every channel between the harness and one machine."""

    def __init__(self) -> None:
        self.console = Pair()
        self.terminal = Pair()
        self.agent = Pair()
        self.monitor = Pair()
        self.ssh = Listener()

    def blocking(self) -> contextlib.ExitStack:
        """On closing, make QEMU block on a full console or agent channel instead of coming back to it later.

        QEMU makes its ends non-blocking when it starts, so call this before the start
        and close the result after it. A tape does not record when a full channel is
        free again: without this, reading 5 MB of events could not be replayed (QEMU 7.2).
        """
        stack = contextlib.ExitStack()
        for channel in (self.console, self.agent):
            copy = stack.enter_context(channel.theirs.dup())
            stack.callback(os.set_blocking, copy.fileno(), True)
        return stack

    def started(self) -> None:
        """Drop our copies of the ends that QEMU has now, so that the end of QEMU is seen as the end of the channel."""
        for channel in (self.console, self.terminal, self.agent, self.monitor, self.ssh):
            channel.theirs.close()

    def close(self) -> None:
        """Close everything; closing twice is harmless."""
        for channel in (self.console, self.terminal, self.agent, self.monitor, self.ssh):
            channel.close()
