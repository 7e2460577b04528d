# SPDX-License-Identifier: GPL-2.0-only
"""A real cluster of three worker processes, whose jobs are a fake `harness`."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest

from harness import cli
from harness.commands import matrix as command
from harness.host import workspace
from harness.matrix import engine, parcel, remote, summary
from harness.matrix.executor_dask import Cluster, _lacking
from harness.matrix.job import Job
from harness.model.errors import LaunchError, MachineError
from harness.model.verdict import Outcome
from tests.unit.conftest import Said
from tests.unit.matrices import NamedKeys, calls, fake, plan_of, rule

PLAN = """\
kernels: [debian:6.12]
scenarios: [memcg-accept, memcg-eagain, signals-storm, kswapd]
expect:
  - {scenarios: memcg-eagain, oracle: pairing}
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[distributed.LocalCluster]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine, "Keys", NamedKeys)
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None,
        local_directory=str(tmp_path / "dask"), silence_logs=50,
    ) as found:  # fmt: skip
        yield found


def wait_for(pattern: str, root: Path) -> Path:
    """The first file of that name, once it is there and has something in it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in root.glob(pattern):
            if path.stat().st_size:
                return path
        threading.Event().wait(0.02)
    raise TimeoutError(pattern)


def parent(pid: int) -> int:
    """Of a process that runs."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ends(pid: int) -> bool:
    """Whether a process that was killed ends, whoever reaps it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        threading.Event().wait(0.02)
    return False


def test_a_worker_that_is_killed_costs_one_retry_and_loses_nothing(
    cluster: distributed.LocalCluster, tmp_path: Path, said: Said
) -> None:
    plan = plan_of(tmp_path, PLAN)
    marker = tmp_path / "killed"
    program = fake(
        tmp_path / "fake",
        rule(Outcome.FAIL, "pairing", words=["memcg-eagain"]),
        rule(Outcome.PASS, words=["storm"], takes=120, once=str(marker)),
        rule(Outcome.PASS),
    )
    folder = tmp_path / "matrix"
    folder.mkdir()
    killed: list[int] = []

    def kill() -> None:
        pid = int(wait_for("cache/matrices/remote-*/*storm/pid", tmp_path).read_text())
        os.kill(parent(pid), signal.SIGKILL)
        killed.append(pid)
        marker.touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    selected = engine.select(plan, "", workspace.cache_dir(), said)
    told = engine.Run(selected, folder, workspace.cache_dir(), said).run(
        Cluster(cluster.scheduler_address, program), None
    )
    killer.join()

    assert [one.counted for one in told.results] == [Outcome.PASS] * 4
    assert {one.job.scenarios[0]: one.attempts for one in told.results}["signals-storm"] == 2
    assert ends(killed[0])
    for job in plan.jobs:
        assert (folder / job.name / "verdict.json").exists()
        assert "working in" in (folder / "logs" / f"{job.name}.log").read_text()
    assert len(calls(tmp_path / "fake", "build")) <= 2
    assert summary.read(folder).outcome is Outcome.PASS


def test_what_no_worker_has_is_said_and_waited_for_by_nobody() -> None:
    asked = remote.needs(Job(accelerator="kvm", qemu="/opt/qemu-9.2/bin"))
    offer = {remote.TURN: 1.0, remote.CORES: 4.0, remote.MEMORY: 8000.0, remote.KVM: 0.0}

    assert _lacking(asked, [offer]) == "harness-kvm: 1, harness-qemu /opt/qemu-9.2/bin: 1"
    assert _lacking(asked, [offer, {**offer, remote.KVM: 1, "harness-qemu /opt/qemu-9.2/bin": 1}]) == ""
    assert _lacking(remote.needs(Job()), [offer]) == ""


def test_without_a_scheduler_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.matrix.executor_dask._TIMEOUT_S", "0.2s")

    with pytest.raises(LaunchError, match="no scheduler answers there"):
        Cluster("tcp://127.0.0.1:1")


def test_without_dask_there_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    for name in ("harness.matrix.executor_dask", "harness.matrix.remote"):
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(LaunchError, match=r"dask\.distributed is not installed.*-m pip install"):
        command._executor(cli.parse(["matrix", "plan.yaml", "--executor", "dask:tcp://127.0.0.1:1"]))


def test_a_kernel_moves_with_its_modules_and_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    key = "0123456789abcdef0123"
    monkeypatch.setattr("harness.kernel.modules.key_of", lambda folder, _: workspace.digest(folder.name))
    for name, file in (("kernels/" + key, "vmlinux"), ("modules/" + workspace.digest("types"), "types.o")):
        with workspace.publishing(here / name) as fresh:
            (fresh / file).write_bytes(b"ELF")
    workspace.write_atomic(here / "kernels" / "inputs" / ("f" * 20), key)
    workspace.write_atomic(here / "kernels" / "inputs" / ("e" * 20), "another")

    content = parcel.pack_kernel(here / "kernels" / key / "vmlinux", here)
    for _ in range(2):
        parcel.unpack_kernel(content, there)

    assert workspace.whole(there / "kernels" / key)
    assert (there / "modules" / workspace.digest("types") / "types.o").read_bytes() == b"ELF"
    assert [path.name for path in (there / "kernels" / "inputs").iterdir()] == ["f" * 20]


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "kernels/../../evil", "kernels/0123456789abcdef0123/../x", "runs/x/y", "kernels/a"]
)
def test_a_parcel_with_another_file_is_refused(name: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))

    with pytest.raises(MachineError, match="which no kernel has"):
        parcel.unpack_kernel(content.getvalue(), tmp_path / "cache")
    with contextlib.suppress(tarfile.TarError, OSError):
        parcel.unpack_run(content.getvalue(), tmp_path / "deep" / "er" / "run")
    assert not (tmp_path / "cache").exists()
    outside = [path for path in tmp_path.rglob("evil") if not path.is_relative_to(tmp_path / "deep" / "er" / "run")]
    assert outside == []
