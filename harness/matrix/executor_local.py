# SPDX-License-Identifier: GPL-2.0-only
"""Jobs on this machine: each kernel is built once, then so many jobs run at once."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Sequence
from pathlib import Path

from harness.matrix import perform
from harness.matrix.executor import Listener
from harness.matrix.perform import Stopped, Work
from harness.matrix.result import Result, failed
from harness.matrix.supervise import HARNESS


class Local:
    """The executor `local`."""

    def __init__(self, jobs: int = 1, program: Sequence[str] = HARNESS) -> None:
        """jobs: how many at once. program: what is run as `harness`."""
        self._jobs = jobs
        self._program = program

    def run(self, works: Sequence[Work], folder: Path, listener: Listener) -> None:
        """Run them in their order. An interrupt ends those under way, which keep what they judged."""
        stop = threading.Event()
        try:
            ready = self._built(works, stop, listener)
            with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
                waiting = [pool.submit(self._run, work, folder, stop, listener) for work in ready]
                try:
                    for future in concurrent.futures.as_completed(waiting):
                        if (ended := future.result()) is not None:
                            listener.ended(ended)
                except BaseException:
                    stop.set()
                    pool.shutdown(cancel_futures=True)
                    # What came to its end meanwhile is kept.
                    for future in waiting:
                        if future.done() and not future.cancelled() and not future.exception():
                            listener.ended(future.result())
                    raise
        finally:
            stop.set()

    def _built(self, works: Sequence[Work], stop: threading.Event, listener: Listener) -> list[Work]:
        """Those whose kernels could be built."""
        kernels: dict[str, list[Work]] = {}
        for work in works:
            kernels.setdefault(work.job.build, []).append(work)
        ready = []
        for number, members in enumerate(kernels.values(), 1):
            job = members[0].job
            listener.begins(f"kernel {number} of {len(kernels)}", job.build)
            built = perform.build(job, stop, functools.partial(listener.line, ""), self._program)
            if built.failed is None:
                listener.built(job, built.seconds)
                ready += members
            else:
                for work in members:
                    listener.ended(failed(work.job, built.failed, built.reason))
        return ready

    def _run(self, work: Work, folder: Path, stop: threading.Event, listener: Listener) -> Result | None:
        if stop.is_set():
            return None
        listener.begins(work.job.name, work.job.command)
        tell = functools.partial(listener.line, work.job.name)
        try:
            return perform.run(work, folder / work.job.name, stop, tell, self._program)
        except Stopped:
            return None
