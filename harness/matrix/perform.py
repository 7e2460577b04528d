# SPDX-License-Identifier: GPL-2.0-only
"""One job on this machine: `harness run`, and what its run directory says. The same for every executor."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.matrix import result as results
from harness.matrix.job import Job
from harness.matrix.result import Result
from harness.matrix.supervise import HARNESS, Ended, supervise
from harness.model import begun
from harness.model.errors import HarnessError, UsageError
from harness.model.run import RunVerdict
from harness.model.verdict import Outcome
from harness.report import document
from harness.terminal import duration

# The longest that a kernel may take to be fetched and built.
BUILD_LIMIT_S = 4 * 3600.0
_USAGE = UsageError.exit_code


@dataclass(frozen=True)
class Work:
    """A job that has to run, its key, and its limit in seconds."""

    job: Job
    key: str
    limit_s: float


@dataclass(frozen=True)
class Built:
    """A kernel that was built, and its vmlinux in the cache; or the outcome and the reason of none."""

    seconds: float
    vmlinux: Path = Path()
    failed: Outcome | None = None
    reason: str = ""


class Stopped(Exception):
    """The job was asked to end, and has no result; what it judged is in its folder."""


def run(
    work: Work, folder: Path, stop: threading.Event, tell: Callable[[str], None], program: Sequence[str] = HARNESS
) -> Result:
    """Run a job in a folder, or go on with it there. Raises Stopped."""
    ended = None
    if (folder / begun.NAME).exists():
        ended = _supervised(work, ["run", "--resume", str(folder)], stop, tell, program)
    if ended is None or ended.status == _USAGE:
        # Something has changed since, or the folder is of another version: it is run from the beginning.
        if folder.exists():
            shutil.rmtree(folder)
        ended = _supervised(work, work.job.words(str(folder)), stop, tell, program)
    if ended.stopped:
        raise Stopped
    found = _judged(work, ended, folder)
    return dataclasses.replace(found, key=work.key, seconds=ended.seconds, host=socket.gethostname())


def build(job: Job, stop: threading.Event, tell: Callable[[str], None], program: Sequence[str] = HARNESS) -> Built:
    """Build the kernel of a job, and the module for it. Raises Stopped."""
    try:
        ended = supervise(job.build_words(), BUILD_LIMIT_S, stop, tell, program=program)
    except HarnessError as fault:
        return Built(0.0, failed=Outcome.ERROR, reason=fault.message)
    if ended.stopped:
        raise Stopped
    if ended.status == 0 and not ended.late:
        return Built(ended.seconds, Path(ended.output.strip()))
    unjudged = ended.status == Outcome.INCONCLUSIVE.exit_code
    reason = _late(ended, BUILD_LIMIT_S) if ended.late else ended.complaint
    return Built(ended.seconds, failed=Outcome.INCONCLUSIVE if unjudged else Outcome.ERROR, reason=reason)


def _supervised(
    work: Work, words: Sequence[str], stop: threading.Event, tell: Callable[[str], None], program: Sequence[str]
) -> Ended:
    try:
        return supervise(words, work.limit_s, stop, tell, qemu=work.job.qemu, program=program)
    except HarnessError as fault:
        return Ended(fault.exit_code, 0.0, "", [fault.message])


def _judged(work: Work, ended: Ended, folder: Path) -> Result:
    """A fail needs a verdict that says so; everything else that went wrong is an error of the host."""
    verdict = _verdict(folder)
    if ended.late:
        if verdict is not None and verdict.outcome is Outcome.FAIL:
            return results.judged(work.job, verdict)
        return results.failed(work.job, Outcome.ERROR, _late(ended, work.limit_s))
    if verdict is None:
        unjudged = ended.status == Outcome.INCONCLUSIVE.exit_code
        return results.failed(work.job, Outcome.INCONCLUSIVE if unjudged else Outcome.ERROR, ended.complaint)
    if ended.status != verdict.outcome.exit_code:
        said = f"ended with {ended.status}, but its {document.NAME} says {verdict.outcome}: {ended.complaint}"
        return results.failed(work.job, Outcome.ERROR, said)
    return results.judged(work.job, verdict)


def _verdict(folder: Path) -> RunVerdict | None:
    try:
        return document.glance(folder)
    except HarnessError:
        return None


def _late(ended: Ended, limit_s: float) -> str:
    return f"not done after {duration(ended.seconds)} (limit {duration(limit_s)}): {ended.complaint}"
