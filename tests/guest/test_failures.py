# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong around a run: the right exit code, one clear line, nothing left behind, and the next run works."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.guest.boot import Parts, boot
from harness.model.errors import OutOfSpace
from harness.model.shape import MachineShape
from harness.report import document
from tests.guest.command import PATCHES, ROOT, Ended, argv, environment, harness

pytestmark = pytest.mark.guest

# The time that a process may take to vanish after its parent was killed; far above what it needs.
GONE_LIMIT_S = 60.0


def one_line(ended: Ended, status: int, *words: str) -> None:
    """The harness prints just one line of its own, and the line holds all the words."""
    assert ended.status == status, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith(("harness: ", "stopped "))]
    assert len(said) == 1, ended.stderr
    for word in words:
        assert word in said[0], said[0]


def test_a_patch_that_does_not_apply_names_file_and_line() -> None:
    """And the pristine source stays pristine: the next patch applies."""
    ended = harness("run", "--patch", PATCHES / "does-not-apply.patch", "memcg-accept")

    one_line(ended, 125, "does-not-apply.patch", "mm/rmap.c", "100")


@pytest.mark.kernel_build
def test_a_kernel_that_does_not_compile_shows_the_compiler_s_first_error() -> None:
    """Cannot judge: bisecting must skip it."""
    ended = harness("run", "--patch", "mayfail", "--patch", PATCHES / "does-not-compile.patch", "memcg-accept")

    one_line(ended, 125, "mm/mmu_notifier.c", "nothing_of_that_name")


def test_an_option_that_kconfig_drops_is_named_with_its_fragment(tmp_path: Path) -> None:
    """An option that was asked for and is not set is an error, not a smaller test."""
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_INET_DIAG=y\n")

    ended = harness("run", "--config", fragment, "memcg-accept")

    one_line(ended, 125, "CONFIG_INET_DIAG", "mine.config:1", "INET")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "memcg-acept"], ["unknown scenario 'memcg-acept'"]),
        (["run", "--source", "nowhere", "memcg-accept"], ["nowhere"]),
        (["run", "--source", str(ROOT / "tests"), "memcg-accept"], ["no kernel"]),
        (["run", "--source", f"git:{ROOT}@no-such-rev", "memcg-accept"], ["no-such-rev"]),
        (["run", "--patch", "nothing.patch", "memcg-accept"], ["nothing.patch"]),
        (["run", "--config", "nothing", "memcg-accept"], ["nothing"]),
        (["run", "--jobs", "0"], ["--jobs", "0"]),
        (["run", "--timeout", "-3"], ["--timeout"]),
        (["run", "--no-such-option"], ["--no-such-option"]),
        (["rum"], ["rum"]),
        (["judge", "/nonexistent"], ["/nonexistent"]),
    ],
)
def test_bad_input_is_usage(words: list[str], expected: list[str]) -> None:
    """129: git bisect stops, and blames no commit."""
    one_line(harness(*words), 129, *expected)


def test_a_scenario_with_a_wrong_key_offers_the_right_one(tmp_path: Path) -> None:
    """File, line, the wrong key, the nearest right one."""
    text = (ROOT / "scenarios/memcg-eagain.yaml").read_text().replace("policy: eagain-reclaim", "polcy: eagain-reclaim")
    path = tmp_path / "mine.yaml"
    path.write_text(text)

    ended = harness("run", path)

    one_line(ended, 129, f"{path}:", "unknown key 'polcy'")
    assert "did you mean 'policy'?" in ended.stderr


@contextmanager
def without(program: str, folder: Path) -> Iterator[str]:
    """A PATH on which one program is missing."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for path in Path(place).iterdir() if Path(place).is_dir() else ():
            target = folder / path.name
            if path.name != program and not target.is_symlink():
                target.symlink_to(path)
    yield str(folder)


@pytest.mark.kernel_build
def test_no_qemu_is_the_machine_s_fault(tmp_path: Path) -> None:
    """The exit code is 128, and the message says how to install it."""
    with without("qemu-system-x86_64", tmp_path / "bin") as path:
        ended = harness("run", "memcg-accept", env={"PATH": path})

    assert ended.status == 128, ended.stderr
    assert "qemu-system-x86_64" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs mount(2)")
def test_a_full_disk_is_the_machine_s_fault(tmp_path: Path) -> None:
    """The exit code is 128, with the number and what frees space; no half-written file is taken for whole later."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    try:
        ended = harness("run", "memcg-accept", env={"HARNESS_CACHE": str(disk / "cache")})
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)

    one_line(ended, 128, "no space left", "MiB free")


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own needs mount(2)")
def test_a_disk_that_fills_up_under_a_guest_ends_it_at_once(parts: Parts, tmp_path: Path) -> None:
    """QEMU stops such a guest, and says nothing more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    try:
        with boot(parts, MachineShape(swap_mib=16), run_dir=disk / "run") as machine:
            machine.run("swapoff", "/dev/vda")
            with contextlib.suppress(OSError), (disk / "others").open("wb", buffering=0) as others:
                while others.write(bytes(1 << 16)):
                    pass
            with pytest.raises(OutOfSpace, match=r"disk/run: no space left \(0 MiB free\)"):
                machine.run("dd", "if=/dev/zero", "of=/dev/vda", "bs=1M", "count=16", "conv=fsync", timeout_s=600)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def descendants(pid: int) -> set[int]:
    """Every process below one, now."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for tasks in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                children = [int(word) for word in tasks.read_text().split()]
            except OSError:
                continue
            found.update(children)
            todo += children
    return found


def gone(pids: set[int]) -> bool:
    """Whether none of these runs any more, after a short wait; a zombie of another parent does not run."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while time.monotonic() < deadline:
        if not any(running(pid) for pid in pids):
            return True
        os.sched_yield()
    return False


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def new_kernel(folder: Path) -> Path:
    """A patch that was never applied before, so that there is something to build, but hardly anything to compile."""
    word = secrets.token_hex(8)
    path = folder / "new.patch"
    path.write_text(
        f"--- /dev/null\n+++ b/include/linux/harness_{word}.h\n@@ -0,0 +1 @@\n"
        "+/* SPDX-License-Identifier: GPL-2.0-only */\n"
    )
    return path


# A phase, the words that start it, and the line that shows that it has begun.
PHASES = pytest.mark.parametrize(
    ("phase", "words", "line"),
    [
        ("build", ["run", "--patch", "mayfail", "--patch", "NEW", "memcg-accept"], "building Linux"),
        ("guest", ["run", "--repeat", "50", "memcg-accept"], "pass "),
    ],
)


@PHASES
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.kernel_build
def test_an_interrupted_run_leaves_no_process(
    tmp_path: Path, phase: str, words: list[str], line: str, number: int, status: int
) -> None:
    """After Ctrl-C, a polite kill, and kill -9 of the harness, compilers and QEMU are gone, too.

    What was judged is kept, unless the harness could do nothing more.
    """
    words = [str(new_kernel(tmp_path)) if word == "NEW" else word for word in words]
    words += ["--out", str(tmp_path / "run")]
    child = subprocess.Popen(argv(*words), env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    below: set[int] = set()
    for said in child.stderr:
        below |= descendants(child.pid)
        if said.startswith(line):
            break
    while not below and child.poll() is None:
        below = descendants(child.pid)
    below |= descendants(child.pid)

    os.kill(child.pid, number)

    rest = child.communicate(timeout=GONE_LIMIT_S)[1]
    assert child.returncode == status, f"{phase}: {rest}"
    assert below
    assert gone(below)
    if status > 0:
        verdict = document.read(tmp_path / "run")
        assert verdict.interrupted
        assert len(verdict.not_run) + len(verdict.scenarios) == (50 if phase == "guest" else 1)
        assert bool(verdict.scenarios) == (phase == "guest")


def test_a_guest_that_the_host_starves_blames_no_kernel(tmp_path: Path) -> None:
    """Stopped in the middle of its scenario, twice: one retry, then an error of the machine, never a verdict."""
    words = ["run", "--jobs", "1", "--timeout", "0.3", "--out", str(tmp_path / "run"), "--json", "memcg-eagain"]
    child = subprocess.Popen(argv(*words), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    console = tmp_path / "run" / "memcg-eagain" / "console.log"
    stopped: set[int] = set()
    while child.poll() is None:
        if console.exists() and b"begin:memcg-eagain" in console.read_bytes():
            machines = {pid for pid in descendants(child.pid) - stopped if "qemu" in name(pid)}
            for pid in machines:
                os.kill(pid, signal.SIGSTOP)
            stopped |= machines
        time.sleep(0.01)

    (result,) = json.loads(child.communicate()[0])["scenarios"]
    assert child.returncode == 128
    assert len(stopped) == 2
    assert (result["verdict"], result["attempts"], result["findings"]) == ("error", 2, [])
    assert "the host has stopped QEMU (SIGSTOP)" in result["reason"]
    assert gone(stopped)


def test_a_guest_that_resets_itself_is_the_kernel_s_failure(tmp_path: Path) -> None:
    """QEMU reports it, as after a triple fault: QEMU ends with status 0, but the host did not cause it."""
    path = tmp_path / "resets.yaml"
    path.write_text(
        "# SPDX-License-Identifier: GPL-2.0-only\n"
        "summary: The guest resets itself.\n"
        "steps: [{write: /proc/sysrq-trigger, value: b}]\n"
        "exercised: {callbacks: 1}\n"
    )

    ended = harness("run", "--out", tmp_path / "run", "--json", path)

    assert ended.status == 1, ended.stderr
    [finding] = ended.findings()
    assert finding["summary"] == "the guest reset itself without a panic"
    assert "QEMU: guest-reset" in finding["evidence"]
    assert "    emergency_restart+" in finding["evidence"], "its last state was read before QEMU ended"


@pytest.mark.kernel_build
def test_the_next_run_works_after_all_of_this() -> None:
    """Locks are free, the store is whole, the pristine source is pristine."""
    assert harness("run", "memcg-accept").status == 0


@pytest.mark.kernel_build
def test_two_runs_at_once_do_not_disturb_each_other() -> None:
    """The same cache, the same kernel, at the same time."""
    pair = [
        subprocess.Popen(argv("run", "memcg-eagain"), env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [child.communicate(timeout=600)[1] for child in pair]

    assert [child.returncode for child in pair] == [0, 0], said
