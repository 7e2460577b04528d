# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line as a pure function of what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.shape import Board, MachineShape

# A name that only our own init answers to; init looks for it in the guest's sysfs.
AGENT_PORT = "harness.agent"
SSH_PORT = "harness.ssh"

# The id of the ssh device in events of the monitor.
SSH_DEVICE = "ssh-port"


@dataclass(frozen=True)
class Tape:
    """QEMU's record/replay: all that comes to the guest from outside is written to a file, or read back from it.

    It needs TCG, one CPU (QEMU 7.2 refuses more), and a machine that boots.
    answers: a file that gets what the guest says to the harness. stopped: the
    first instruction waits for a command of the monitor.
    """

    path: Path
    answers: Path
    replay: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Files:
    """What QEMU opens, and the descriptors it inherits.

    Every channel is a descriptor made before the start, so a machine has no
    path and no port that another machine could collide with, and none to clean up.
    So is every file: QEMU may run as a user who cannot reach its folder.
    ssh listens; console, terminal, agent and monitor are one end of a socket
    pair; swap is a file, or -1 when the shape has none.
    tsc_khz: the rate of the host's time stamp counter, which TCG passes to the
    guest; 0 leaves the guest's kernel to measure it.
    memory: a file that is the guest's RAM, for a snapshot; None: RAM is anonymous.
    clone: the machine waits for the state of its devices, and does not write to
    that file; else it boots.
    tape: the machine is recorded, or replays a recording.
    lent: descriptors of the files above.
    """

    kernel: Path
    initrd: Path
    console: int
    terminal: int
    agent: int
    ssh: int
    monitor: int
    swap: int = -1
    tsc_khz: int = 0
    memory: Path | None = None
    clone: bool = False
    tape: Tape | None = None
    lent: tuple[int, ...] = ()

    def descriptors(self) -> tuple[int, ...]:
        """Everything that the child must inherit."""
        every = (self.console, self.terminal, self.agent, self.ssh, self.monitor, self.swap, *self.lent)
        return tuple(number for number in every if number >= 0)


def command(qemu: Sequence[str], shape: MachineShape, accel: str, files: Files) -> list[str]:
    """The argv that boots `files` on a machine of `shape`; qemu: how it begins; accel: "kvm" or "tcg"."""
    return [
        *qemu,
        # Only what is asked for here: no network card, so a guest has no way out.
        "-no-user-config",
        "-nodefaults",
        "-display", "none",
        "-machine", _machine(shape.board) + (",memory-backend=ram" if files.memory else ""),
        "-accel", _accelerator(accel, files.tape),
        *_tape(files.tape),
        "-cpu", _cpu(accel),
        # One socket per CPU: without ACPI the kernel learns its CPUs from SeaBIOS's MP table,
        # which lists one per package.
        "-smp", f"{shape.cpus},sockets={shape.cpus},cores=1,threads=1",
        "-m", f"{shape.memory_mib}M",
        # With panic=-1 on the kernel's command line a panic ends QEMU instead of starting a loop of boots.
        "-no-reboot",
        # vmlinux itself, through its PVH entry: nothing to unpack in the guest.
        "-kernel", str(files.kernel),
        "-initrd", str(files.initrd),
        "-append", " ".join(_parameters(shape, accel, files)),
        *_serial(files),
        *_monitor(files),
        *_alarms(shape.board),
        *_virtio_serial(shape.board, files),
        *_swap(shape.board, files),
        *_snapshot(shape, files),
    ]  # fmt: skip


def kernel_parameters(shape: MachineShape, tsc_khz: int = 0) -> list[str]:
    """The kernel's command line: the harness's own parameters, then the shape's, which win."""
    return [
        "console=ttyS0",
        # On ttyS0 each byte costs a VM exit, and the boot's KERN_INFO is 25 KiB.
        # PID 1 raises the level: what is judged comes later, also "callback failed" at KERN_INFO.
        "loglevel=6",
        "panic=-1",
        # On tmpfs the programs of the initramfs would be swapped out under pressure, and the guest would wait for them.
        "rootfstype=ramfs",
        # THP would put a 2 MiB page under the subscribers' buffers, which reclaim then splits or skips.
        "transparent_hugepage=never",
        # dropbear must not wait for interrupts to become entropy.
        "random.trust_cpu=on",
        # The TSC is not checked against clocks that are emulated, less exact than the TSC, or not there.
        "tsc=reliable",
        # Without these: 0.2 s for a measurement that mostly fails, then a clock of 4 ms (kernel 6.12, TCG, busy host).
        *([f"tsc_early_khz={tsc_khz}", "no_timer_check"] if tsc_khz else []),
        *shape.cmdline,
    ]


# On a tape the time stamp counter counts the nanoseconds of QEMU's instruction counter.
_TAPED_TSC_KHZ = 1_000_000


def _parameters(shape: MachineShape, accel: str, files: Files) -> list[str]:
    if files.tape is None:
        return kernel_parameters(shape, files.tsc_khz if accel == "tcg" else 0)
    return kernel_parameters(shape, _TAPED_TSC_KHZ)


# 2^5 ns for each instruction: about as fast as the host's clock while a scenario is recorded. Not shift=auto, which
# keeps it so. QEMU's main loop does that while the CPU waits with the number of instructions that it may run until the
# next timer; where the clock was set forward, the recorded CPU runs past that timer. The replay wants to fire the timer
# in time, the tape has an exception there, and both wait for ever: 1 in 13 recordings on a loaded machine (QEMU 7.2,
# icount_adjust(), icount_prepare_for_run(), icount_handle_deadline()). With 2^3 ns the kernel waits 20 s for the 0.3 s
# in which it measures its local timer: each look at the clock ends a turn of QEMU's CPU loop.
_TAPED_SHIFT = 5


def _tape(tape: Tape | None) -> Sequence[str]:
    """Time is a count of instructions; what they do not determine is on the tape."""
    if tape is None:
        return []
    mode = "replay" if tape.replay else "record"
    clock = f"shift={_TAPED_SHIFT},rr={mode},rrfile={_escaped(tape.path)}"
    return ["-icount", clock, *(["-S"] if tape.stopped else [])]


def _escaped(path: Path) -> str:
    """A path as one of several values that commas separate."""
    return str(path).replace(",", ",,")


def _machine(board: Board) -> str:
    if board is Board.MICROVM:
        # No PCI, no ACPI: QEMU lists the devices on the kernel's command line.
        return "microvm,acpi=off,rtc=on,isa-serial=on,auto-kernel-cmdline=on"
    # ACPI tables cost SeaBIOS time, and the default kernel does not read them.
    return f"{board.value},acpi=off,usb=off,vmport=off,hpet=off"


def _accelerator(accel: str, tape: Tape | None) -> str:
    if tape is not None:
        return "tcg,thread=single"
    return "tcg,thread=multi" if accel == "tcg" else accel


def _cpu(accel: str) -> str:
    return "max" if accel == "tcg" else "host"


def _serial(files: Files) -> Sequence[str]:
    """The kernel log, and nothing else, on ttyS0."""
    return [
        "-chardev", f"socket,id=console,fd={files.console}",
        # QEMU 7.2 records on the tape only what -serial names. A PC has four serial ports: the fifth -serial
        # makes the agent's channel known to the tape, and the channel then goes to its own port.
        *(
            ["-serial", "chardev:console", *["-serial", "none"] * 3, "-serial", "chardev:agent"]
            if files.tape else ["-device", "isa-serial,chardev=console"]
        ),
    ]  # fmt: skip


def _monitor(files: Files) -> Sequence[str]:
    return [
        "-chardev", f"socket,id=monitor,fd={files.monitor}",
        "-mon", "chardev=monitor,mode=control",
    ]  # fmt: skip


def _alarms(board: Board) -> Sequence[str]:
    """How a guest that can say nothing else reports that PID 1 stands still, or that it panicked.

    pvpanic is a PCI device here; a kernel finds the ISA variant only through ACPI.
    """
    # QEMU only sends an event, and the harness decides: the rest of a panic is worth reading.
    watchdog = ["-device", "ib700", "-action", "watchdog=none"]
    if board is Board.MICROVM:
        return watchdog
    return [*watchdog, "-device", "pvpanic-pci", "-action", "panic=none"]


def _virtio(kind: str, board: Board) -> str:
    return f"{kind}-device" if board is Board.MICROVM else f"{kind}-pci"


def _virtio_serial(board: Board, files: Files) -> Sequence[str]:
    """hvc0 for people, the agent's port for the harness, the ssh port for paramiko."""
    answers = f",logfile={_escaped(files.tape.answers)}" if files.tape else ""
    return [
        "-chardev", f"socket,id=terminal,fd={files.terminal}",
        "-chardev", f"socket,id=agent,fd={files.agent}{answers}",
        # QEMU listens, so that a session can end and another begin.
        "-chardev", f"socket,id=ssh,fd={files.ssh},server=on,wait=off",
        "-device", _virtio("virtio-serial", board),
        "-device", "virtconsole,chardev=terminal",
        "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}",
        "-device", f"virtserialport,chardev=ssh,name={SSH_PORT},id={SSH_DEVICE}",
    ]  # fmt: skip


def _swap(board: Board, files: Files) -> Sequence[str]:
    if files.swap < 0:
        return []
    disk = "image" if files.tape else "swap"
    return [
        "-add-fd", f"fd={files.swap},set=1",
        # no-flush: the disk dies with the machine, so nothing has to reach the host's disk.
        # Not -drive: QEMU 7.2 first opens a drive read-only, but our only descriptor is not read-only.
        "-blockdev", f"driver=raw,node-name={disk},cache.no-flush=on,file.driver=file,file.filename=/dev/fdset/1",
        *(["-blockdev", "driver=blkreplay,node-name=swap,image=image"] if files.tape else []),
        # An error of the host's disk stops the guest: its kernel would report it, and be blamed. Not on a tape, whose
        # command line must stay what it was.
        "-device", f"{_virtio('virtio-blk', board)},drive=swap{'' if files.tape else ',rerror=stop,werror=stop'}",
    ]  # fmt: skip


def _snapshot(shape: MachineShape, files: Files) -> Sequence[str]:
    """RAM in a file, so that the state of the devices need not hold it; a clone maps the file privately."""
    if files.memory is None:
        return []
    path = _escaped(files.memory)
    return [
        "-object",
        f"memory-backend-file,id=ram,size={shape.memory_mib}M,mem-path={path},share={'off' if files.clone else 'on'}",
        # QEMU must be told first that the state has no RAM in it, and QEMU 7.2's command line has no option for that.
        *(["-incoming", "defer"] if files.clone else []),
    ]  # fmt: skip
