# SPDX-License-Identifier: GPL-2.0-only
"""What runs in a worker of a cluster. It uses the worker's own cache, QEMU and accelerator."""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import distributed

from harness.host import accelerator, process, workspace
from harness.host.progress import QUIET
from harness.matrix import keys, parcel, perform
from harness.matrix import result as results
from harness.matrix.job import Job
from harness.matrix.perform import Stopped, Work
from harness.model.errors import HarnessError
from harness.model.verdict import Outcome

TOPIC = "harness"
# What a worker has, as Dask's resources. A run takes all CPUs of a machine, so there is one at a time.
TURN, CORES, MEMORY, KVM = "harness", "harness-cores", "harness-memory-mib", "harness-kvm"
MEMORY_MIB = 1024
_QEMU = "qemu-system-x86_64"
_VERSION = re.compile(r"version (\d+\.\d+)")
_TIMEOUT_S = 20.0

# By the matrix that they belong to: set when its client was interrupted.
_stops: dict[str, threading.Event] = {}


class Offers(distributed.WorkerPlugin):
    """Tells the scheduler what each worker has, also one that joins later."""

    name = "kernel-harness"
    idempotent = True

    def __init__(self, qemus: Sequence[str]) -> None:
        """qemus: the folders that jobs name."""
        self._qemus = qemus

    async def setup(self, worker: distributed.Worker) -> None:
        """As Dask calls it."""
        await worker.set_resources(**offer(self._qemus))


def offer(qemus: Sequence[str] = ()) -> dict[str, float]:
    """What this machine has: a turn, cores, memory, KVM that a guest has run on, and QEMUs by version and by folder."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    found: dict[str, float] = {TURN: 1, CORES: len(os.sched_getaffinity(0)), MEMORY: memory}
    try:
        found[KVM] = float(accelerator.probe(workspace.cache_dir(), QUIET)["kvm"].usable)
        found[f"harness-qemu-{_version(process.which(_QEMU))}"] = 1
    except HarnessError:
        found[KVM] = 0
    for folder in qemus:
        if (Path(folder) / _QEMU).exists():
            found[f"harness-qemu {folder}"] = 1
    return found


def needs(job: Job) -> dict[str, float]:
    """What a job asks for."""
    asked: dict[str, float] = {TURN: 1, CORES: 1, MEMORY: MEMORY_MIB}
    if job.accelerator == "kvm":
        asked[KVM] = 1
    if job.qemu:
        asked[f"harness-qemu {job.qemu}"] = 1
    return asked


def identity() -> str:
    """Which harness a worker has."""
    return keys.code()


def build(job: Job, token: str, program: Sequence[str]) -> tuple[float, str, str, bytes]:
    """Build a kernel: the seconds; the outcome and the reason where there is none; and the kernel, packed."""
    tell = _teller()
    tell("begins", f"kernel {job.build}", " ".join(job.build_words()))
    built = perform.build(job, _stop(token), functools.partial(tell, "line", ""), program)
    if built.failed is not None:
        return built.seconds, built.failed.value, built.reason, b""
    return built.seconds, "", "", parcel.pack_kernel(built.vmlinux, workspace.cache_dir())


def run(
    work: Work, built: tuple[float, str, str, bytes], token: str, program: Sequence[str]
) -> tuple[str, bytes] | None:
    """Run a job on a kernel that was built: the result as a document, and the run directory; None if it was stopped."""
    job, tell = work.job, _teller()
    _, failed, reason, kernel = built
    if failed:
        return json.dumps(results.failed(job, Outcome(failed), reason).document()), b""
    cache = workspace.cache_dir()
    folder = cache / "matrices" / f"remote-{token}" / job.name
    try:
        tell("begins", job.name, f"on {socket.gethostname()}: {job.command}")
        parcel.unpack_kernel(kernel, cache)
        found = perform.run(work, folder, _stop(token), functools.partial(tell, "line", job.name), program)
    except Stopped:
        return None
    except (HarnessError, OSError) as fault:
        return json.dumps(results.failed(job, Outcome.ERROR, f"{socket.gethostname()}: {fault}").document()), b""
    return json.dumps(found.document()), parcel.pack_run(folder) if folder.is_dir() else b""


def stop(token: str) -> None:
    """End what runs of a matrix here: a running task cannot be cancelled, but its process group can be ended."""
    _stop(token).set()


def _stop(token: str) -> threading.Event:
    return _stops.setdefault(token, threading.Event())


def _teller() -> Callable[[str, str, str], None]:
    """What tells the client: the kind, the name of the job, and a line; from any thread of a task.

    Dask knows the worker of the task's own thread alone.
    """
    worker = distributed.get_worker()

    def tell(kind: str, name: str, text: str) -> None:
        worker.log_event(TOPIC, {"kind": kind, "name": name, "text": text[:1000]})

    return tell


def _version(qemu: Path) -> str:
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    found = _VERSION.search(done.stdout)
    return found[1] if found else "unknown"
