# SPDX-License-Identifier: GPL-2.0-only
"""A machine with KVM on a host without KVM: emulated SVM, and this host's files, which it changes only for itself.

It is made of the harness's own parts; it reads the host's harness, Python and QEMU through 9p.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.guest import image
from harness.guest.boot import Parts, boot
from harness.guest.machine import Machine
from harness.host import process
from harness.host.emulator import VARIABLE
from harness.host.workspace import cache_dir
from harness.model.shape import MachineShape
from tests.guest import command
from tests.guest.command import ROOT, Ended
from tests.guest.outer import emulator
from tests.guest.outer.kernel import OuterKernel

# For the harness, a guest of 512 MiB, and a snapshot of one.
# One CPU: QEMU 7.2 loses interrupts of its emulated SVM, most of them with two CPUs ("treewide: clear bits of
# cs->interrupt_request with cpu_reset_interrupt()", qemu-devel, September 2025). QEMU 10.0 passed with two in each of
# three boots, which proves little.
SHAPE = MachineShape(memory_mib=2560, cpus=1, swap_mib=0)
# TCG does not intercept XSETBV (QEMU 7.2; nobody looked in 10.0): KVM would not see what its guest sets, and the guest
# would warn of it.
CPU = "EPYC,+svm,+npt,-xsave"
LIMIT_S = 600

_QEMU = """#!/bin/sh
exec {program} "$@" \\
    -cpu {cpu} \\
    -virtfs local,path=/,mount_tag=host,readonly=on,security_model=none,multidevs=remap
"""

# cache=loose: nobody else writes to these files, and a program is mapped from the page cache. msize: the largest.
_MOUNT = """
mkdir /lower /over /host
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=507904 host /lower
mount -t tmpfs -o size=80% over /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /host
mount -t proc proc /host/proc
mount -t sysfs sysfs /host/sys
mount -o rbind /dev /host/dev
"""


@dataclass(frozen=True)
class Outer:
    """A running outer machine. Its files are this host's files at its start, plus its own changes."""

    machine: Machine
    kernel: OuterKernel

    def sh(self, script: str) -> str:
        """Run a script in the outer machine itself; each of its commands must succeed."""
        done = self.machine.run("sh", "-euc", script)
        assert done.status == 0, (script, done.stdout, done.stderr, self.machine.console.tail())
        return done.stdout.decode()

    def harness(self, *words: str, limit_s: float = LIMIT_S) -> Ended:
        """Run `harness WORDS` inside to its end."""
        chosen = {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
        env = process.environment(PYTHONPATH=str(ROOT), HARNESS_CACHE=str(cache_dir()), **chosen)
        variables = [f"{name}={value}" for name, value in env.items()]
        argv = ["chroot", "/host", "/usr/bin/env", "-i", *variables, *command.argv(*words)]
        done = self.machine.run(*argv, timeout_s=limit_s)
        return Ended(done.status, done.stdout.decode(), done.stderr.decode())

    def load_kvm(self) -> None:
        """/dev/kvm exists from now on; here is no udev that gives it to a group."""
        self.sh(shlex.join(["insmod", f"/lower{self.kernel.kvm_amd}"]))
        self.sh("chmod 666 /dev/kvm")

    @contextlib.contextmanager
    def little_space(self, folder: Path, mib: int) -> Iterator[None]:
        """A folder of the host is an empty disk of this many MiB, until the block ends."""
        place = shlex.quote(f"/host{folder}")
        self.sh(f"mkdir -p {place}; mount -t tmpfs -o size={mib}m little {place}")
        try:
            yield
        finally:
            self.sh(f"umount {place}")


@contextlib.contextmanager
def outer(kernel: OuterKernel, folder: Path, cpu: str = CPU) -> Iterator[Outer]:
    """An outer machine until the block ends, in any way; its console goes to folder/console.log."""
    program = folder / "qemu"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(_QEMU.format(program=shlex.join(emulator.find(cache_dir()).words), cpu=cpu))
    program.chmod(0o755)
    made = image.assemble(cache_dir(), kernel.modules)
    # Not confined: it reads all of this host's files.
    parts = Parts(made, kernel.vmlinuz, "tcg", program=str(program), confined=False)
    with boot(parts, SHAPE, run_dir=folder) as machine:
        assert machine.hello["modules"] == "ok", machine.hello
        host = Outer(machine, kernel)
        host.sh(_MOUNT)
        yield host
