# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator works here, proved by a 64-bit guest that runs to its end on it.

That /dev/kvm opens proves nothing: in a virtual machine without nested
virtualisation KVM may create a VM, run the firmware, and then spin or stop at
the first instruction that a kernel needs. guest-modules/probe/probe.S says what
the guest does; the guest needs no kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.host import confinement, emulator, process, workspace
from harness.host.emulator import Emulator
from harness.host.progress import QUIET, Progress
from harness.model.errors import HarnessError, LaunchError, MachineError, OutOfSpace, UsageError

KVM = confinement.KVM
NAMES = ("kvm", "tcg")

_MESSAGE = b"64-bit code ran"
# The guest writes 0x10; isa-debug-exit turns a value into the exit status (value << 1) | 1.
_STATUS = 33
# TCG takes 0.07 s on an idle machine; the limit leaves room for a busy one.
_TCG_LIMIT_S = 30.0
# KVM should be fast: its limit is this, or a few times what TCG took where everything is slow.
_KVM_LIMIT_S = 3.0
_KVM_FACTOR = 6.0
# How many times slower a guest is than on an ordinary machine with KVM, until it is measured
# (Machine.slowdown: 9 to 10 here).
_USUAL_SLOWDOWN = {"kvm": 1.0, "tcg": 10.0}
# The most that the probe takes where the accelerator is as fast as usual: QEMU's own start and the firmware.
# KVM on an emulated SVM took 1.6 to 2 s, and our kernel took 10 to 14 s to reach PID 1.
_USUAL_S = 0.2


@dataclass(frozen=True)
class Accelerator:
    """What the probe found. reason: a sentence. seconds: how long the guest ran, until its end or the limit."""

    name: str
    usable: bool
    reason: str
    seconds: float


def probe(cache: Path, progress: Progress = QUIET, device: Path = KVM) -> dict[str, Accelerator]:
    """Both accelerators by name. A broken KVM costs seconds, but only once per boot of the host and version of QEMU."""
    try:
        qemu = emulator.find()
    except LaunchError as error:
        return {name: Accelerator(name, False, error.message, 0.0) for name in NAMES}
    key = _key(qemu, device)
    record = cache / "accelerators.json"
    with workspace.lock(cache / "accelerators.lock", progress, "accelerator check"):
        known = _recall(record, key)
        if known is None:
            progress.say("testing the accelerators with a 64-bit guest")
            known = _measure(qemu, cache, device)
            if not known["kvm"].usable:
                progress.say(f"KVM does not work here: {known['kvm'].reason}")
            # A host without the tools for the check is not remembered: somebody may install them.
            if known["tcg"].usable:
                document = {"key": key, "accelerators": [asdict(item) for item in known.values()]}
                workspace.remember(record, json.dumps(document, indent=1))
    return known


@dataclass(frozen=True)
class Choice:
    """The accelerator to use ("kvm" or "tcg"), and the reason as the verdict states it.

    slowdown: how many times slower guests are on it than on an ordinary machine, as estimated from the probe.
    """

    used: str
    reason: str
    slowdown: float = 1.0


def choose(requested: str, cache: Path, progress: Progress = QUIET) -> Choice:
    """Choose the accelerator for `--accel`. Raises LaunchError rather than use another one than was asked for."""
    return decide(requested, probe(cache, progress))


def usual_slowdown(name: str) -> float:
    """How many times slower guests on an accelerator are than on an ordinary machine, until one is measured."""
    return _USUAL_SLOWDOWN[name]


def decide(requested: str, found: Mapping[str, Accelerator]) -> Choice:
    """As choose(), from what probe() found."""
    if requested not in (*NAMES, "auto"):
        raise UsageError(f"--accel {requested}: no such accelerator", "auto, kvm or tcg")
    if requested != "auto":
        if not found[requested].usable:
            other = "--accel tcg works here" if found["tcg"].usable else "harness doctor shows more"
            raise LaunchError(f"--accel {requested}: {found[requested].reason}", other)
        return Choice(requested, f"asked for; {found[requested].reason}", _slowdown(found[requested]))
    for name in NAMES:
        if found[name].usable:
            return Choice(name, found["kvm"].reason, _slowdown(found[name]))
    raise LaunchError(f"no accelerator works: {found['tcg'].reason}", "harness doctor shows more")


def _slowdown(found: Accelerator) -> float:
    """The accelerator's usual slowdown, and more where its probe was slow: in a virtual machine, on an old host."""
    return usual_slowdown(found.name) * max(1.0, found.seconds / _USUAL_S)


def _key(qemu: Emulator, device: Path) -> str:
    """A key that changes with the host's boot, QEMU, and our permissions on the device."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    try:
        seen = device.stat()
        kvm = f"{seen.st_rdev} {seen.st_mode} {seen.st_uid} {seen.st_gid} {os.access(device, os.R_OK | os.W_OK)}"
    except OSError as error:
        kvm = str(error.errno)
    guest = (workspace.data("guest-modules") / "probe" / "probe.S").read_bytes()
    return workspace.digest(boot, qemu.identity, str(device), kvm, str(confinement.account()), guest)


def _recall(record: Path, key: str) -> dict[str, Accelerator] | None:
    """What was found before, if nothing has changed since; a record that cannot be read counts as none."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        document = json.loads(workspace.recall(record) or b"{}")
        if document["key"] == key:
            return {item["name"]: Accelerator(**item) for item in document["accelerators"]}
    return None


def _measure(qemu: Emulator, cache: Path, device: Path) -> dict[str, Accelerator]:
    try:
        guest = _guest(cache)
    except OutOfSpace:
        raise
    except HarnessError as error:
        return {name: Accelerator(name, False, f"the check itself failed: {error}", 0.0) for name in NAMES}
    tcg = _try(qemu, guest, "tcg", _TCG_LIMIT_S)
    closed = _closed(device)
    if closed:
        return {"kvm": Accelerator("kvm", False, closed, 0.0), "tcg": tcg}
    kvm = _try(qemu, guest, "kvm", max(_KVM_LIMIT_S, _KVM_FACTOR * tcg.seconds))
    if not kvm.usable:
        beside = f" (TCG needed {tcg.seconds:.1f} s)" if tcg.usable else ""
        kvm = Accelerator("kvm", False, f"{device} opens, but {kvm.reason}{beside}", kvm.seconds)
    return {"kvm": kvm, "tcg": tcg}


def _closed(device: Path) -> str:
    """Why the device cannot even be opened; empty when it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} does not exist"
    except PermissionError:
        return f"{device}: permission denied (add yourself to group kvm)"
    except OSError as error:
        return f"{device}: {error.strerror}"
    user = confinement.account()
    if user is not None and not user.may_use(device):
        return f"{device}: closed to {user.name}, as whom root's QEMU runs (chgrp kvm {device}; chmod 660 {device})"
    return ""


def _guest(cache: Path) -> Path:
    """The probe's guest, assembled once per source."""
    source = workspace.data("guest-modules") / "probe" / "probe.S"
    target = cache / "programs" / workspace.digest_file(source) / "probe"
    if not workspace.whole(target.parent):
        with tempfile.TemporaryDirectory(prefix="harness-probe-") as scratch:
            made = Path(scratch) / "probe"
            done = process.run(
                [
                    process.which("gcc"),
                    "-nostdlib", "-static", "-no-pie",
                    # Above the first MiB, where a PC has its firmware; no page is needed for a build-id.
                    "-Wl,-Ttext=0x100000,--build-id=none,-z,norelro",
                    "-o", made,
                    source,
                ],
                timeout_s=60,
            )  # fmt: skip
            if done.status:
                raise MachineError(f"{source.name}: {done.stderr.strip().splitlines()[0]}", done.command)
            with workspace.publishing(target.parent) as fresh:
                shutil.copy(made, fresh / target.name)
    return target


def _try(qemu: Emulator, guest: Path, name: str, limit_s: float) -> Accelerator:
    """Run the guest on one accelerator, confined as all guests are."""
    with confinement.lent(guest) as kernel, confinement.reached(qemu) as (words, folders):
        return _tried(words, kernel, folders, name, limit_s)


def _tried(words: Sequence[str], kernel: int, folders: Sequence[int], name: str, limit_s: float) -> Accelerator:
    began = time.monotonic()
    argv = [
        *words,
        "-no-user-config",
        "-nodefaults",
        "-display", "none",
        "-no-reboot",
        "-machine", "pc,acpi=off",
        "-accel", name,
        "-cpu", "host" if name == "kvm" else "max",
        "-m", "64M",
        "-kernel", str(confinement.name(kernel)),
        "-chardev", "stdio,id=words,signal=off",
        "-device", "isa-debugcon,chardev=words,iobase=0xe9",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
    ]  # fmt: skip
    started = process.spawn(argv, wrap=confinement.tied, pass_fds=(kernel, *folders))
    with process.running(started) as child:
        try:
            out, err = child.communicate(timeout=limit_s)
            late = False
        except subprocess.TimeoutExpired:
            process.kill_group(child)
            out, err = child.communicate()
            late = True
        seconds = time.monotonic() - began
        if not late and child.returncode == _STATUS and _MESSAGE in out:
            return Accelerator(name, True, f"a 64-bit guest ran to its end in {seconds:.1f} s", round(seconds, 3))
        said = next(iter(err.decode(errors="backslashreplace").splitlines()), "")
        if late:
            what = f"a 64-bit guest did not finish in {limit_s:.0f} s"
        else:
            what = f"QEMU ended with status {child.returncode} before a 64-bit guest finished"
        return Accelerator(name, False, what + (f": {said}" if said else ""), round(seconds, 3))
