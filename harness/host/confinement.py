# SPDX-License-Identifier: GPL-2.0-only
"""What a QEMU may do, should its guest break out of it.

Where the harness is root, QEMU is not: it runs as nobody, in no group but that
of /dev/kvm, and gets each file of ours as a descriptor. Everywhere its system
calls are filtered (seccomp): it starts no program, and gains no rights.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.host.emulator import Emulator
from harness.model.errors import OutOfSpace, UsageError

KVM = Path("/dev/kvm")
# What libvirt asks for, too. Snapshots, dumps, recordings and replays work behind it (QEMU 7.2).
FILTER = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# CAP_CHOWN, CAP_SETGID and CAP_SETUID (include/uapi/linux/capability.h); a container's root may lack them.
_CHANGES = 1 << 0 | 1 << 6 | 1 << 7
# The kernel's overflow user: no file is its own on a system that knows no nobody by name.
_NOBODY = 65534
_HELP_LIMIT_S = 30.0


@dataclass(frozen=True)
class Account:
    """A user without rights, and its group."""

    name: str
    uid: int
    gid: int

    def groups(self, device: Path = KVM) -> list[int]:
        """The further groups: that of the KVM device, if the device is its group's."""
        with contextlib.suppress(OSError):
            seen = device.stat()
            # A group of root's is no right to one device.
            if seen.st_mode & 0o060 == 0o060 and seen.st_gid:
                return [seen.st_gid]
        return []

    def may_use(self, device: Path) -> bool:
        """Whether this user can read and write a device."""
        return bool(self.groups(device)) or device.stat().st_mode & 0o006 == 0o006

    def privileges(self) -> list[str]:
        """setpriv(1)'s words that make a process this user's."""
        groups = ",".join(map(str, self.groups()))
        return [
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            f"--groups={groups}" if groups else "--clear-groups",
        ]  # fmt: skip


@functools.cache
def account() -> Account | None:
    """Who QEMU runs as in our place. None: as we do, for we are not root, or a root that can be no other user."""
    if os.geteuid() != 0 or not _may_change():
        return None
    try:
        found = pwd.getpwnam("nobody")
        nobody = Account("nobody", found.pw_uid, found.pw_gid)
    except KeyError:
        nobody = Account(str(_NOBODY), _NOBODY, _NOBODY)
    return nobody if _mapped("uid_map", nobody.uid) and _mapped("gid_map", nobody.gid) else None


def _may_change() -> bool:
    """Whether we have the capabilities to start a process of another user, and to give it files."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("CapEff:")[2].split()[0], 16) & _CHANGES == _CHANGES


def _mapped(name: str, number: int) -> bool:
    """Whether this user namespace has a user, or a group, of this number."""
    lines = Path(f"/proc/self/{name}").read_text(encoding="ascii").splitlines()
    return any(int(first) <= number < int(first) + int(count) for first, _, count in map(str.split, lines))


def tied(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """`argv` as process.tied() has it, without the rights of root; the first to go for lack of memory."""
    user = account()
    return process.tied(argv, [*(user.privileges() if user else []), "--no-new-privs"], expendable=True)


@contextlib.contextmanager
def reached(qemu: Emulator) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """How the command line of a confined QEMU begins, and the descriptors that it must inherit to be found.

    Folders that only root may enter are no way for somebody else: a folder of packages is handed over.
    Raises UsageError for a program in such a folder.
    """
    words = [*qemu.words, *(("-sandbox", FILTER) if has_filter(qemu) else ())]
    user = account()
    if user is None or _open_to_all(qemu.program):
        yield words, ()
        return
    if qemu.root is None or not _is_open(qemu.root):
        place = qemu.root or qemu.program
        raise UsageError(f"{place}: QEMU runs as {user.name}, who may not start it", f"chmod a+rx {place}")
    descriptor = os.open(qemu.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield [word.replace(str(qemu.root), str(name(descriptor))) for word in words], (descriptor,)
    finally:
        os.close(descriptor)


def _open_to_all(program: Path) -> bool:
    """Whether anybody can start a program."""
    found = program.resolve()
    # A folder on the way need not be listed.
    return _is_open(found) and all(parent.stat().st_mode & 0o001 for parent in found.parents)


def _is_open(path: Path) -> bool:
    return path.stat().st_mode & 0o005 == 0o005


@functools.cache
def has_filter(qemu: Emulator) -> bool:
    """Whether this QEMU was built with seccomp; one that was not refuses the option. Asked once for each QEMU."""
    memory = workspace.cache_dir() / "filters" / workspace.digest(FILTER, qemu.identity)
    known = workspace.recall(memory)
    if known is None:
        asked = process.run([*qemu.words, "-sandbox", FILTER, "-machine", "help"], timeout_s=_HELP_LIMIT_S)
        known = b"yes" if asked.status == 0 else b"no"
        with contextlib.suppress(OutOfSpace, OSError):
            workspace.remember(memory, known)
    return known == b"yes"


def name(descriptor: int) -> Path:
    """The name by which a child opens what it inherits, wherever the file is."""
    return Path(f"/proc/self/fd/{descriptor}")


@contextlib.contextmanager
def lent(path: Path) -> Iterator[int]:
    """A descriptor of a file for QEMU to read, whoever it runs as; a file that is not for all is copied into memory."""
    with path.open("rb") as stream:
        if account() is None or os.fstat(stream.fileno()).st_mode & 0o004:
            yield stream.fileno()
            return
        with os.fdopen(os.memfd_create(path.name), "wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
            yield copy.fileno()


@contextlib.contextmanager
def given(path: Path, size: int | None = None) -> Iterator[int]:
    """A descriptor of a file for QEMU to write to, and its own from now on. size: its bytes, if it is a new one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        user, seen = account(), os.fstat(descriptor)
        if size is not None:
            os.ftruncate(descriptor, size)
        if user is not None and (seen.st_uid, seen.st_mode & 0o777) != (user.uid, 0o600):
            os.fchown(descriptor, user.uid, user.gid)
            os.fchmod(descriptor, 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def give_folder(path: Path) -> None:
    """Give QEMU a private folder, to make a socket there."""
    user = account()
    if user is not None:
        os.chown(path, user.uid, user.gid)
