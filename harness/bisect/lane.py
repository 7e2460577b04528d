# SPDX-License-Identifier: GPL-2.0-only
"""A test in a process of its own, so that states are built and run side by side, and the end of one ends no other.

The process gets the test, and then what is asked, as pickles; it answers with
a line of JSON for each, because by then it has read what guests wrote.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.bisect.ask import Made, Ran, Target, Test
from harness.host import fault, process, workspace
from harness.host.progress import Progress
from harness.model.errors import CannotTest, HarnessError, MachineError, UsageError

_ERRORS: Mapping[str, type[HarnessError]] = {"skip": CannotTest, "usage": UsageError, "machine": MachineError}

_BEGIN = "import sys; sys.path.insert(0, sys.argv[1]); from harness.bisect import lane; sys.exit(lane.main())"


class Lane:
    """Makes targets and runs them in another process."""

    def __init__(self, child: subprocess.Popen[bytes], progress: Progress, name: str) -> None:
        self._child = child
        self._progress = progress
        self._name = name

    def make(self, target: Target) -> Made:
        """As harness.bisect.ask.Test."""
        return Made(**self._asked("make", target))

    def run(self, target: Target, runs: int, folder: Path, *, first: bool = True) -> Ran:
        """As harness.bisect.ask.Test."""
        return Ran(**self._asked("run", target, runs, folder, first=first))

    def _asked(self, what: str, *words: object, **options: object) -> dict[str, Any]:
        said: dict[str, Any] = {}
        try:
            _send(self._child, (what, words, options))
            assert self._child.stdout is not None
            for line in self._child.stdout:
                said = json.loads(line)
                if "advance" in said:
                    stage, done, total = said["advance"]
                    self._progress.advance(f"{self._name} {stage}", done, total)
                elif "say" in said:
                    self._progress.say(f"{self._name}: {said['say']}")
                else:
                    break
        except (OSError, ValueError, TypeError) as error:
            raise MachineError(f"{self._name}: its process ended: {error}", "the same command goes on") from None
        if "answer" in said:
            answer: dict[str, Any] = said["answer"]
            return answer
        if said.get("error") in _ERRORS:
            raise _ERRORS[said["error"]](said["message"], said["hint"])
        raise MachineError(f"{self._name}: its process ended", "the same command goes on")


@contextmanager
def lane(test: Test, progress: Progress, name: str) -> Iterator[Lane]:
    """A process that has a test; it ends with the block, and with the thread that has begun it."""
    # The folder where the user is must not be searched for modules, and the environment is for the user's command.
    argv = [sys.executable, "-P", "-c", _BEGIN, str(workspace.ROOT)]
    child = process.spawn(argv, env=os.environ, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process.running(child):
        try:
            _send(child, test)
        except OSError as error:
            raise MachineError(f"{name}: its process did not begin: {error.strerror}") from None
        yield Lane(child, progress, name)


def _send(child: subprocess.Popen[bytes], value: object) -> None:
    assert child.stdin is not None
    pickle.dump(value, child.stdin)
    child.stdin.flush()


class _Told:
    """A harness.host.progress.Progress for whoever reads our standard output."""

    def __init__(self) -> None:
        self._guard = threading.Lock()

    def say(self, text: str) -> None:
        """Pass it on."""
        self.put({"say": text})

    def advance(self, stage: str, done: int, total: int) -> None:
        """Pass it on."""
        self.put({"advance": [stage, done, total]})

    def put(self, said: Mapping[str, object]) -> None:
        """Write a line; threads take turns."""
        with self._guard:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


def main() -> int:
    """Answer until nobody asks any more."""
    told = _Told()
    # At a terminal, Ctrl-C is for whoever has begun this process, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    test = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the harness that has begun this process
    test.progress = told
    while True:
        try:
            what, words, options = pickle.load(sys.stdin.buffer)  # noqa: S301 - as above
        except EOFError:
            return 0
        try:
            told.put({"answer": asdict(getattr(test, what)(*words, **options))})
        except Exception as error:  # noqa: BLE001 - whoever asked has to know
            known = fault.explained(error, test.cache / "faults")
            kind = next((name for name, family in _ERRORS.items() if isinstance(known, family)), "machine")
            told.put({"error": kind, "message": known.message, "hint": known.hint})
