# SPDX-License-Identifier: GPL-2.0-only
"""Jobs on a cluster of dask.distributed: kernels are built once and move to whoever runs on them.

A worker that dies costs what ran on it a retry: Dask runs those tasks again
elsewhere. A job has a process group and a deadline of its own there, as here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import distributed

from harness.matrix import keys, parcel, remote
from harness.matrix.executor import Listener
from harness.matrix.perform import Work
from harness.matrix.result import Result, failed
from harness.matrix.supervise import HARNESS
from harness.model import documents
from harness.model.errors import LaunchError, MachineError
from harness.model.verdict import Outcome

_TIMEOUT_S = "20s"


class Cluster:
    """The executor `dask:ADDRESS`."""

    def __init__(self, address: str, program: Sequence[str] = HARNESS) -> None:
        """Raises LaunchError when no scheduler answers, or no worker is there."""
        self._program = list(program)
        # In the names of tasks and of folders on workers, so that two matrices are two.
        self._token = secrets.token_hex(4)
        try:
            self._client = distributed.Client(address, timeout=_TIMEOUT_S, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as fault:
            raise LaunchError(
                f"--executor dask:{address}: no scheduler answers there: {fault}", "dask scheduler, and dask worker"
            ) from None

    def run(self, works: Sequence[Work], folder: Path, listener: Listener) -> None:
        """Run them all. An interrupt ends those under way, and what has come is kept."""
        attempts: Counter[str] = Counter()

        def hear(event: tuple[Any, Mapping[str, str]]) -> None:
            told = event[1]
            if told["kind"] == "begins":
                attempts[told["name"]] += 1
                listener.begins(told["name"], told["text"])
            else:
                listener.line(told["name"], told["text"])

        with self._client as client:
            self._prepare(client, works)
            client.subscribe_topic(remote.TOPIC, hear)
            waiting = self._submitted(client, works, listener)
            try:
                for future in distributed.as_completed(waiting, loop=client.loop):  # type: ignore[no-untyped-call]
                    listener.ended(self._result(future, waiting[future], folder, attempts))
                    # What it made is here now; the worker may forget it.
                    future.release()
            except BaseException:
                client.cancel(list(waiting))
                with contextlib.suppress(OSError, distributed.TimeoutError):
                    client.run(remote.stop, self._token)
                raise

    def _prepare(self, client: distributed.Client, works: Sequence[Work]) -> None:
        """Let the workers tell what they have. Raises MachineError for one with another harness than ours."""
        client.register_plugin(remote.Offers(sorted({work.job.qemu for work in works if work.job.qemu})))
        found = client.run(remote.identity)
        if not found:
            raise LaunchError("the cluster has no worker", "dask worker ADDRESS")
        for address, code in found.items():
            if code != keys.code():
                raise MachineError(
                    f"the worker {address} has another kernel-harness than this machine", "install the same one there"
                )

    def _submitted(
        self, client: distributed.Client, works: Sequence[Work], listener: Listener
    ) -> dict[distributed.Future[Any], Work]:
        """A task for each kernel, and one for each job, which waits for it; in the order of their priority."""
        offers = [worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        kernels: dict[str, distributed.Future[Any]] = {}
        waiting: dict[distributed.Future[Any], Work] = {}
        for place, work in enumerate(works):
            asked = remote.needs(work.job)
            if lacking := _lacking(asked, offers):
                told = f"no worker has {lacking} ({len(offers)} asked)"
                listener.ended(failed(work.job, Outcome.ERROR, told))
                continue
            common: dict[str, Any] = {"pure": False, "priority": -place}
            if work.job.build not in kernels:
                kernels[work.job.build] = client.submit(
                    remote.build, work.job, self._token, self._program,
                    key=f"build {work.job.build} {self._token}", resources={remote.TURN: 1}, **common,
                )  # fmt: skip
            future = client.submit(
                remote.run, work, kernels[work.job.build], self._token, self._program,
                key=f"run {work.job.name} {self._token}", resources=asked, **common,
            )  # fmt: skip
            waiting[future] = work
        return waiting

    def _result(
        self, future: distributed.Future[Any], work: Work, folder: Path, attempts: Mapping[str, int]
    ) -> Result | None:
        try:
            told = future.result()
            if told is None:
                return None
            text, run = told
            result = Result.restore(documents.parse(text, "job"))
            if run:
                parcel.unpack_run(run, folder / work.job.name)
        except distributed.KilledWorker as fault:
            return failed(work.job, Outcome.ERROR, f"each worker that ran it died, the last one {fault.last_worker}")
        except Exception as fault:  # noqa: BLE001 - what another machine raised may be anything; it costs this job alone
            return failed(work.job, Outcome.ERROR, f"{type(fault).__name__}: {fault}")
        return dataclasses.replace(result, job=work.job, attempts=max(1, attempts[work.job.name]))


def _lacking(asked: Mapping[str, float], offers: Sequence[Mapping[str, float]]) -> str:
    """What no worker has of what a job asks for, in words; empty when one has all."""
    if any(all(offer.get(name, 0) >= amount for name, amount in asked.items()) for offer in offers):
        return ""
    named = {name: amount for name, amount in asked.items() if all(one.get(name, 0) < amount for one in offers)}
    return json.dumps(named or dict(asked)).strip("{}").replace('"', "")
