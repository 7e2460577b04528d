# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from harness.guest.agent import GuestTimeout
from harness.guest.boot import BootFailed
from harness.guest.machine import Condition, Machine, Watchdogs
from harness.host import confinement, emulator
from harness.host.clock import Deadline
from harness.model.errors import GuestLost
from harness.model.shape import MachineShape
from tests.guest.conftest import fine_timers

pytestmark = pytest.mark.guest

LIMIT_S = 60.0


@pytest.fixture
def machine(start):
    with start() as made:
        yield made


def until(ready, deadline: Deadline) -> None:
    """Poll for a state that has no event, such as the end of a process that is not our child."""
    while not ready():
        assert not deadline.expired, f"not so after {deadline}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether no process has this id, or only a zombie that waits for its own parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_commands_come_back_with_output_status_and_signal(machine: Machine):
    done = machine.run("sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert machine.run("sh", "-c", "kill -9 $$").status == 256 + 9
    assert machine.run("nonesuch").status == 127
    assert machine.run("id", "-u").text == "0\n"


def test_many_commands_at_once(machine: Machine):
    """Eight jobs side by side; each gets its own output back, even more than one pipe holds."""
    jobs = [machine.agent.start(["sh", "-c", f"head -c 300000 /dev/zero; echo {n}"]) for n in range(8)]

    for number, job in enumerate(jobs):
        result = job.result(Deadline(LIMIT_S))
        assert result.status == 0
        assert len(result.stdout) == 300000 + 2
        assert result.stdout.endswith(f"{number}\n".encode())


def test_a_line_in_a_line_out(machine: Machine):
    """The harness talks to the driver like this: input stays open between answers."""
    job = machine.agent.start(["cat"])
    for word in ("one", "two", "three"):
        job.send(f"{word}\n")
        assert job.readline(LIMIT_S) == word
    job.close_stdin()

    assert job.readline(LIMIT_S) is None
    assert job.wait(LIMIT_S) == 0


def test_large_input_and_files_survive_the_channel(machine: Machine):
    content = os.urandom(3_000_001)

    machine.agent.write_file("/tmp/large", content)

    assert machine.agent.read_file("/tmp/large") == content
    assert machine.run("cat", stdin=content).stdout == content


def test_files_of_the_kernel_are_written_in_one_piece_and_errors_are_its_own(machine: Machine):
    machine.agent.write_file("/proc/sys/vm/swappiness", "123")

    assert machine.agent.read_file("/proc/sys/vm/swappiness") == b"123\n"
    with pytest.raises(OSError, match="Invalid argument"):
        machine.agent.write_file("/proc/sys/vm/swappiness", "nonsense")
    with pytest.raises(FileNotFoundError):
        machine.agent.read_file("/nonesuch")


def test_a_command_that_outlives_its_limit_is_killed(machine: Machine):
    with pytest.raises(GuestTimeout):
        machine.run("sleep", "1234", timeout_s=0.5)

    until(lambda: "1234" not in machine.run("ps").text, Deadline(LIMIT_S))


def test_a_daemon_that_keeps_the_pipes_does_not_keep_the_command(machine: Machine):
    done = machine.run("sh", "-c", "sleep 1000 & echo started", timeout_s=LIMIT_S)

    assert (done.status, done.text) == (0, "started\n")


def test_the_guest_is_as_it_was_asked_for(start):
    with start(MachineShape(memory_mib=256, cpus=1, swap_mib=64)) as machine:
        assert machine.hello["swap"] == "ok"
        assert machine.hello["modules"] == "ok"
        assert machine.run("nproc").text == "1\n"
        memory = re.search(rb"MemTotal: +(\d+)", machine.agent.read_file("/proc/meminfo"))
        assert memory is not None
        assert 200 << 10 < int(memory[1]) < 256 << 10
        assert b"/dev/vda" in machine.agent.read_file("/proc/swaps")
        assert b"cgroup2" in machine.agent.read_file("/proc/mounts")


def test_the_guest_has_no_network_device(machine: Machine):
    """No interface at all, or none but loopback where a configuration brings it."""
    interfaces = machine.run("ls", "/sys/class/net").text.split()

    assert set(interfaces) <= {"lo"}


def test_ssh_runs_commands_and_copies_files(machine: Machine, tmp_path: Path):
    source, back = tmp_path / "a", tmp_path / "b"
    source.write_bytes(os.urandom(200_000))
    source.chmod(0o750)

    assert machine.shell.run("uname -r", LIMIT_S).text == machine.hello["release"] + "\n"
    assert machine.shell.run(["sh", "-c", "cat; exit 5"], LIMIT_S, stdin=b"in").status == 5
    machine.shell.put(source, "/tmp/a b")
    assert machine.run("stat", "-c", "%a", "/tmp/a b").text == "750\n"
    machine.shell.get("/tmp/a b", back)
    assert back.read_bytes() == source.read_bytes()


def test_ssh_comes_back_after_either_side_left(machine: Machine):
    machine.shell.run("true", LIMIT_S)
    machine.shell.close()
    assert machine.shell.run("echo again", LIMIT_S).text == "again\n"

    machine.run("killall", "-9", "dropbear")

    with contextlib.suppress(GuestLost):
        machine.shell.run("true", LIMIT_S)
    assert machine.shell.run("echo once more", LIMIT_S).text == "once more\n"


def test_the_console_has_a_shell_with_job_control(machine: Machine):
    assert machine.terminal.run("tty") == "/dev/hvc0\n"
    machine.terminal.spawn.sendline("sleep 1000")
    until(lambda: "sleep 1000" in machine.run("ps").text, Deadline(LIMIT_S))
    # Ctrl-C also discards what was typed after it: wait for its effect.
    machine.terminal.spawn.send(b"\x03")
    machine.terminal.spawn.expect_exact(machine.terminal.PROMPT, timeout=LIMIT_S)
    assert machine.terminal.run("echo $((6 * 7))") == "42\n"


def test_the_kernel_log_is_followed_as_it_comes(start):
    lines: list[str] = []
    with start(on_line=lines.append) as machine:
        mark = machine.console.mark()
        machine.agent.write_file("/dev/kmsg", "<6>canary of a test\n")
        machine.console.wait_for("canary of a test", Deadline(LIMIT_S), since=mark)

        assert "canary" in machine.console.text_since(mark)
        until(lambda: any("canary" in line for line in lines), Deadline(LIMIT_S))


def test_heartbeats_come_and_the_clock_is_exact(machine: Machine):
    """Guest time runs like the host's, within a percent; under TCG the host must help."""

    def fresh(after_ns: int) -> bool:
        return machine.agent.beat is not None and machine.agent.beat.guest_ns > after_ns

    until(lambda: fresh(0), Deadline(LIMIT_S))
    first = machine.agent.beat
    assert first is not None
    until(lambda: fresh(first.guest_ns + 2_500_000_000), Deadline(LIMIT_S))
    second = machine.agent.beat
    assert second is not None

    rate = (second.guest_ns - first.guest_ns) / 1e9 / (second.host_s - first.host_s)
    assert rate == pytest.approx(1.0, abs=0.05)


def test_the_clock_is_finer_than_a_tick(machine: Machine):
    """Durations in the event log depend on it; without help a guest under TCG falls back to jiffies of 4 ms."""
    source = machine.agent.read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource")

    assert source.strip() in {b"tsc", b"tsc-early", b"kvm-clock"}


def test_clock_and_entropy_are_the_hosts_to_set(machine: Machine):
    machine.agent.set_clock(1_000_000_000_000_000_000)
    machine.agent.add_entropy(os.urandom(64))

    assert machine.run("date", "-u", "+%Y-%m-%d").text == "2001-09-09\n"


def test_watchdogs_are_set_where_the_kernel_has_them(machine: Machine):
    machine.set_watchdogs(Watchdogs(softlockup_s=4, rcu_stall_s=5, hung_task_s=6, workqueue_s=30))

    for path, value in (
        ("/proc/sys/kernel/watchdog_thresh", b"2\n"),
        ("/proc/sys/kernel/hung_task_timeout_secs", b"6\n"),
    ):
        with contextlib.suppress(FileNotFoundError):
            assert machine.agent.read_file(path) == value


def test_pid_1_answers_while_memory_is_short(start):
    """The OOM killer takes the hog, not PID 1, and PID 1 goes on answering."""
    with start(MachineShape(memory_mib=128, swap_mib=16)) as machine:
        hog = machine.agent.start(["sh", "-c", "x=$(head -c 300000000 /dev/zero | tr '\\0' x)"])
        answers = 0
        while hog.status is None:
            machine.agent.ping(timeout_s=LIMIT_S)
            answers += 1
        assert hog.wait(LIMIT_S) == 256 + signal.SIGKILL
        machine.console.wait_for("Out of memory: Killed process", Deadline(LIMIT_S))
        assert answers > 10
        assert machine.run("echo", "alive", timeout_s=LIMIT_S).text == "alive\n"


def test_a_panic_is_blamed_on_the_kernel(machine: Machine):
    with pytest.raises(GuestLost):
        machine.agent.write_file("/proc/sysrq-trigger", "c")

    state = machine.state()

    assert state.condition is Condition.PANICKED
    assert "Kernel panic - not syncing: sysrq triggered crash" in state.evidence
    machine.console.settle(LIMIT_S)
    assert "Call Trace" in machine.console.log.read_text("utf-8", errors="replace")
    until(lambda: any(event.name == "SHUTDOWN" for event in machine.monitor.events()), Deadline(LIMIT_S))


def test_a_qemu_that_is_killed_is_blamed_on_the_host(machine: Machine):
    os.kill(machine.pid, signal.SIGKILL)

    with pytest.raises(GuestLost):
        machine.run("true")
    assert machine.state().condition is Condition.EXITED


def test_a_guest_that_stands_still_is_silent(machine: Machine):
    """QEMU lives, nothing panicked, no heartbeat comes: the state says for how long."""
    machine.monitor.execute("stop")

    until(lambda: machine.state(silence_s=1.5).condition is Condition.SILENT, Deadline(LIMIT_S))
    assert "no heartbeat" in machine.state(silence_s=1.5).evidence
    machine.monitor.execute("cont")
    until(lambda: machine.state(silence_s=1.5).condition is Condition.RUNNING, Deadline(LIMIT_S))


def test_a_kernel_that_gave_its_timer_up_is_booted_again(start, rates):
    told = rates(2)

    with start() as machine:
        assert fine_timers(machine)
    assert told[0] == told[1] == 2 * told[2]
    assert told[2:] == told[2:3] * len(told[2:])


def test_a_host_on_which_no_kernel_keeps_its_timer_gives_no_machine(start, rates, monkeypatch):
    """Each boot more is one more chance that a busy host's lost ticks make the wrong rate look right."""
    monkeypatch.setattr("harness.guest.boot._BOOTS", 2)
    told = rates(99)

    with pytest.raises(GuestLost, match="gave up its local APIC timer in each of 2 boots") as caught, start():
        pass
    assert len(told) == 2
    assert "--jobs 1" in caught.value.hint


def test_a_kernel_told_to_use_no_local_timer_is_as_good_as_any(start):
    with start(MachineShape(cmdline=("nolapic_timer",))) as machine:
        assert not fine_timers(machine)


def test_a_kernel_without_its_root_did_not_boot(start):
    with (
        pytest.raises(BootFailed, match="panicked at boot") as caught,
        start(MachineShape(cmdline=("rdinit=/nonesuch", "root=/dev/nonesuch"))),
    ):
        pass
    assert caught.value.reason == "panic"
    assert "Kernel panic" in caught.value.console


def test_two_machines_side_by_side_have_nothing_in_common(start):
    with start() as one, start() as two:
        one.agent.write_file("/tmp/mine", "1")
        assert one.boot_id != two.boot_id
        assert two.run("ls", "/tmp").text == ""
        assert one.shell.run("cat /tmp/mine", LIMIT_S).text == "1"
        assert two.shell.run("hostname", LIMIT_S).status == 0


def test_nothing_is_left_behind(start, tmp_path: Path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with start() as machine:
        pid = machine.pid
        machine.shell.run("true", LIMIT_S)

    assert gone(pid)
    assert [path.name for path in (tmp_path / "machine-0").iterdir()] == ["console.log"]
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) == before, Deadline(LIMIT_S))


def test_no_qemu_outlives_a_harness_that_is_killed(parts, tmp_path: Path):
    """SIGKILL lets no handler of ours run: the kernel ends QEMU, and there is no folder or socket to leave."""
    image = parts.image
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from harness.guest import image
        from harness.guest.boot import Parts, boot
        from harness.host.workspace import cache_dir
        made = image.assemble(cache_dir())
        parts = Parts(made, Path({str(parts.kernel)!r}), {parts.accel!r})
        with boot(parts, run_dir=Path({str(tmp_path / "run")!r})) as machine:
            print(machine.pid, flush=True)
            machine.wait(600)
        """
    )
    temporary = set(Path("/tmp").glob("harness-*"))
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    try:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert not gone(pid)
    finally:
        child.kill()
        child.communicate()

    until(lambda: gone(pid), Deadline(10.0))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["console.log"]
    assert set(Path("/tmp").glob("harness-*")) <= temporary
    assert image.path.exists()


def facts_of(pid: int) -> dict[str, str]:
    """What the kernel says about the rights of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_guest_that_breaks_out_of_qemu_finds_no_rights_no_files_and_no_network(machine):
    """The filter is in force, root is nobody, and QEMU has no file open but its kernel, its image and its own."""
    facts = facts_of(machine.pid)
    user = confinement.account()

    assert set(facts["Uid"].split()) == {str(user.uid if user else os.getuid())}
    assert (facts["NoNewPrivs"], facts["CapEff"]) == ("1", "0" * 16)
    assert (facts["Seccomp"] == "2") is confinement.has_filter(emulator.find())
    links = [str(link.readlink()) for link in Path(f"/proc/{machine.pid}/fd").iterdir()]
    named = [
        link for link in links if link.startswith("/") and not link.startswith("/dev/") and "(deleted)" not in link
    ]
    assert {Path(link).name for link in named} <= {"vmlinux", "initrd.cpio"}
    assert machine.monitor.execute("human-monitor-command", command_line="info network") == ""
    assert machine.run("ls", "/sys/class/net").stdout.split() == [b"lo"]
