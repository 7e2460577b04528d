# SPDX-License-Identifier: GPL-2.0-only
"""One `harness` command as a process group with a deadline of its own: asked to end, then killed, always collected."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import harness
from harness.host import emulator, process, workspace

# What a run gets to write down what it has judged, once it is asked to end.
GRACE_S = 30.0
_LOOK_S = 0.2
_LAST = 20
_LINE_BYTES = 4096
_OUTPUT_BYTES = 1 << 20
# -P: a folder called harness where we were called is not ours.
HARNESS = (sys.executable, "-P", "-m", "harness.cli")


@dataclass(frozen=True)
class Ended:
    """A command that ended. status: below 0 for a signal. late: at its deadline; stopped: because it was asked to.

    last: its last lines on standard error.
    """

    status: int
    seconds: float
    output: str
    last: Sequence[str]
    late: bool = False
    stopped: bool = False

    @property
    def complaint(self) -> str:
        """Why it did not do what it should: the line in which the harness says so, else the last one."""
        said = [line for line in self.last if line.startswith("harness: ")]
        return (said or list(self.last) or [f"ended with {self.status} and said nothing"])[-1].removeprefix("harness: ")


def supervise(
    words: Sequence[str],
    limit_s: float,
    stop: threading.Event,
    tell: Callable[[str], None],
    *,
    qemu: str = "",
    program: Sequence[str] = HARNESS,
) -> Ended:
    """Run the command to its end, to its deadline, or until `stop` is set. tell: is given each line that it says.

    It does not outlive the calling thread. Raises LaunchError when it cannot be started.
    """
    began = time.monotonic()
    child = process.spawn(
        [*program, *words],
        cwd=Path.cwd(),
        env=_environment(qemu),
        wrap=process.tied,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    last: collections.deque[str] = collections.deque(maxlen=_LAST)
    output: list[bytes] = []

    def hear(line: bytes) -> None:
        text = line.decode("utf-8", errors="backslashreplace").rstrip("\n")
        last.append(text)
        tell(text)

    with process.running(child):
        assert child.stdout is not None
        assert child.stderr is not None
        readers = [_reading(child.stderr, hear), _reading(child.stdout, output.append)]
        late = _waited(child, began + limit_s, stop)
        stopped = stop.is_set() and child.poll() is None
        if child.poll() is None:
            _end(child)
        for reader in readers:
            # What it started has died with it, and holds nothing open.
            reader.join(GRACE_S)
    text = b"".join(output)[:_OUTPUT_BYTES].decode("utf-8", errors="backslashreplace")
    return Ended(child.returncode, time.monotonic() - began, text, tuple(last), late, stopped)


def _environment(qemu: str) -> dict[str, str]:
    return process.environment(
        HARNESS_CACHE=str(workspace.cache_dir()),
        PYTHONPATH=str(Path(harness.__file__).parents[1]),
        **{emulator.VARIABLE: qemu or os.environ.get(emulator.VARIABLE, "")},
    )


def _waited(child: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> bool:
    """Wait for the end; returns whether the deadline came first."""
    while not stop.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            return child.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=min(_LOOK_S, left))
            return False
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask a group to end; what has not ended then is killed by running()."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GRACE_S)
    process.kill_group(child)


def _reading(stream: IO[bytes], hear: Callable[[bytes], object]) -> threading.Thread:
    def read() -> None:
        while line := _line(stream):
            hear(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader


def _line(stream: IO[bytes]) -> bytes:
    """The next line, or a part of one that is too long; nothing at the end, or when the stream was closed under us."""
    try:
        return stream.readline(_LINE_BYTES)
    except (ValueError, OSError):
        return b""
