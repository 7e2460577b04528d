# SPDX-License-Identifier: GPL-2.0-only
"""SSH to a guest whose server is hostile: it says anything, or nothing; the caller has an answer in time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from harness.guest.shell import Shell
from harness.model.errors import MachineError

GREETING = b"SSH-2.0-dropbear\r\n"
HOSTILE = [
    b"A" * 100_000,
    b"\0" * 4096,
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"SSH-1.0-old\r\n",
    GREETING + b"\xff" * 4096,
    GREETING + (0xFFFFFFFF).to_bytes(4, "big") + b"\x00" * 64,
    GREETING + (12).to_bytes(4, "big") + b"\x0a\x14" + b"\0" * 10,
    GREETING + b"\x1b]0;owned\x07\r\n",
    GREETING,
    b"S",
]


@pytest.fixture
def serving() -> Iterator[Callable[[bytes], Callable[[], socket.socket]]]:
    """A function that makes the dial() of a guest whose server always says the same."""
    with contextlib.ExitStack() as stack:

        def make(words: bytes) -> Callable[[], socket.socket]:
            def dial() -> socket.socket:
                ours, theirs = socket.socketpair()
                stack.callback(theirs.close)

                def say() -> None:
                    with contextlib.suppress(OSError):
                        theirs.sendall(words)

                threading.Thread(target=say, daemon=True).start()
                return ours

            return dial

        yield make


@pytest.mark.parametrize("words", HOSTILE)
def test_garbage_in_place_of_ssh_is_a_lost_guest_in_time(words: bytes, serving) -> None:
    shell = Shell(serving(words), lambda *_: None, 0.3)

    with pytest.raises(MachineError) as caught:
        shell.run("true", 0.3)

    assert caught.value.exit_code == 128
    shell.close()
