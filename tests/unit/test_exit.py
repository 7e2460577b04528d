# SPDX-License-Identifier: GPL-2.0-only
"""However a command ends, its exit code is one that the README names, and never Python's own 1 or 120."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cli
from harness.host import fault
from harness.host.progress import QUIET
from harness.model.errors import HarnessFault, MachineError, UsageError
from harness.model.verdict import Outcome
from harness.report import document
from harness.run import pipeline
from harness.run.pipeline import KernelRequest, RunRequest
from harness.variants import catalogue, instruments

ROOT = Path(__file__).resolve().parents[2]


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of a user's, in which $H is harness."""
    harness = f"{sys.executable} -m harness.cli"
    return subprocess.run(
        ["bash", "-c", command.replace("$H", harness)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """A function that runs a command which ends in an exception; returns the exit code."""

    def end(error: BaseException) -> int:
        def command(_: object) -> int:
            raise error

        monkeypatch.setattr("harness.commands.gc.main", command)
        return cli.main(["gc"])

    return end


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("$H --version >&-", 0),
        ("$H --version >/dev/full", 128),
        ("$H list patches >&-", 0),
        ("$H list patches >/dev/full", 128),
        ("$H list patches 2>&-", 0),
        ("$H list patches <&- >&- 2>&-", 0),
        ("$H list patches | false; exit ${PIPESTATUS[0]}", None),
        ("$H run nosuch 2>&-", 129),
        ("$H run nosuch 2>/dev/full", 129),
        ("$H rum 2>/dev/full", 129),
        ("$H run $'nosuch\\xff\\xc3\\xa9'", 129),
        (f"$H console {'a' * 300}", 129),
        ("ulimit -v 60000; $H list patches", 128),
        ("$H run --out ''", 129),
        ("$H run --source= memcg-eagain", 129),
        ("$H run --timeout 1e-300 memcg-eagain", 129),
        ("$H run --out '~nosuch/x' memcg-eagain", 129),
    ],
)
def test_streams_and_limits_of_the_shell(command: str, status: int | None) -> None:
    """A pipe whose reader ends may be noticed or not, as the reader is quick or slow."""
    done = shell(command)

    assert done.returncode in ((0, 128) if status is None else (status,)), done.stderr
    assert b"Traceback" not in done.stderr


def test_what_an_encoding_lacks_is_escaped() -> None:
    done = shell("$H list scenarios", PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2212EAGAIN" in done.stdout


def test_a_closed_stream_is_no_file_of_ours(tmp_path: Path) -> None:
    """The number of a closed standard output went to the next file that was opened."""
    done = shell(
        f"{sys.executable} -c 'from harness.host import streams; streams.prepare(); import os; "
        f'os.write(os.open("{tmp_path}/log", 65), b"mine"); print("lost", flush=True)\' >&- 2>&-'
    )

    assert done.returncode == 0
    assert (tmp_path / "log").read_bytes() == b"mine"


def test_a_fault_of_ours_is_one_line_that_names_the_traceback(ends, cache: Path, capsys) -> None:
    assert ends(ZeroDivisionError("\x1b[31m by \n zero")) == 128

    said = capsys.readouterr().err
    assert said.startswith("harness: a fault of the harness, not of a kernel: ZeroDivisionError: \\x1b[31m by zero\n")
    assert "\x1b" not in said
    (kept,) = (cache / "faults").iterdir()
    assert f"send {kept}" in " ".join(said.split())
    assert "ZeroDivisionError" in kept.read_text()
    assert re.search(r'File ".*test_exit.py", line \d+, in command', kept.read_text())


def test_a_fault_whose_traceback_cannot_be_kept_says_where_it_was(ends, cache: Path, monkeypatch, capsys) -> None:
    cache.write_text("a file, and no folder")
    monkeypatch.setattr("tempfile.tempdir", str(cache / "below"))

    assert ends(KeyError("x")) == 128

    assert re.search(r"KeyError: 'x': test_exit.py:\d+", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "no memory left"),
        (RuntimeError("can't start new thread"), "no new thread"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError"),
        (OSError(28, "No space left on device", "/x/y"), "/x/y: no space left"),
        (OSError(28, "No space left on device"), "the system: No space left"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
        (SystemExit(1), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_every_exception_is_an_error_of_the_machine_or_of_ours(ends, capsys, error, words) -> None:
    assert ends(error) == 128
    assert words in capsys.readouterr().err


def test_a_module_that_ends_python_is_no_success(monkeypatch) -> None:
    """Somebody's json.py in PYTHONPATH, for one."""

    def parse(_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(cli, "parse", parse)

    assert cli.main(["list", "patches"]) == 128


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_each_signal_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, number: int, status: int) -> None:
    def command(_: object) -> int:
        os.kill(os.getpid(), number)
        return 0

    monkeypatch.setattr("harness.commands.gc.main", command)

    assert cli.main(["gc"]) == status


def test_a_thread_that_ends_by_what_nobody_foresaw_ends_the_run(monkeypatch, capsys) -> None:
    """No verdict can be trusted when a reader of the guest is gone."""

    def reader() -> None:
        raise KeyError("x")

    def command(_: object) -> int:
        thread = threading.Thread(target=reader)
        thread.start()
        thread.join()
        # The signal of the other thread is taken between two instructions of this one.
        for _ in range(1000):
            pass
        return 0

    monkeypatch.setattr("harness.commands.gc.main", command)
    monkeypatch.setattr(cli, "_faults", [])

    assert cli.main(["gc"]) == 128
    assert "a fault of the harness, not of a kernel: KeyError: 'x'" in capsys.readouterr().err


def test_a_thread_that_failed_unnoticed_is_noticed_at_the_end(monkeypatch) -> None:
    """The interrupt of the main thread can be lost, in a destructor for one."""

    def command(_: object) -> int:
        cli._faults.append(KeyError("x"))
        return 0

    monkeypatch.setattr("harness.commands.gc.main", command)
    monkeypatch.setattr(cli, "_faults", [])

    assert cli.main(["gc"]) == 128


def test_an_error_that_is_explained_in_a_thread_does_not_end_the_run(monkeypatch, capsys) -> None:
    def reader() -> None:
        raise MachineError("QEMU is gone")

    def command(_: object) -> int:
        thread = threading.Thread(target=reader)
        thread.start()
        thread.join()
        return 0

    monkeypatch.setattr("harness.commands.gc.main", command)

    assert cli.main(["gc"]) == 0
    assert "QEMU is gone" in capsys.readouterr().err


def test_only_what_nobody_foresaw_is_a_fault_of_ours(tmp_path: Path) -> None:
    assert isinstance(fault.explained(KeyError("x"), tmp_path), HarnessFault)
    assert not isinstance(fault.explained(MemoryError(), tmp_path), HarnessFault)
    assert isinstance(fault.explained(OSError(36, "File name too long", "a" * 300), tmp_path), UsageError)


def test_an_interrupted_run_says_what_was_not_judged(monkeypatch, tmp_path: Path) -> None:
    def choose(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.run.pipeline.accelerator.choose", choose)
    scenarios = catalogue.choose(["memcg-eagain", "exit"])
    request = RunRequest(KernelRequest(), instruments.NOTIFIER_HOLD, scenarios, repeat=2, out=tmp_path / "run")

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(request, tmp_path / "cache", QUIET, lambda _: None)

    verdict = document.read(tmp_path / "run")
    assert (verdict.outcome, verdict.interrupted) == (Outcome.ERROR, True)
    assert verdict.not_run[:2] == ("memcg-eagain.1", f"{scenarios[1].name}.1")
    assert len(verdict.not_run) == 2 * len(scenarios)
    assert verdict.error == f"interrupted; {2 * len(scenarios)} scenarios were not judged"


def test_a_fault_of_ours_in_a_run_is_in_its_verdict(monkeypatch, tmp_path: Path) -> None:
    """The traceback is in the run directory, and what was judged before is not lost."""

    def choose(*_: object) -> None:
        raise KeyError("kvm")

    monkeypatch.setattr("harness.run.pipeline.accelerator.choose", choose)
    request = RunRequest(KernelRequest(), instruments.NOTIFIER_HOLD, catalogue.choose([]), out=tmp_path / "run")

    verdict, folder = pipeline.run(request, tmp_path / "cache", QUIET, lambda _: None)

    assert verdict.outcome is Outcome.ERROR
    assert "a fault of the harness, not of a kernel: KeyError: 'kvm'" in verdict.error
    (kept,) = folder.glob("fault-*.txt")
    assert str(kept) in verdict.error
    assert document.read(folder).error == verdict.error
