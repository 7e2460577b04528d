# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root: an initramfs from static busybox, dropbear, our own programs and the modules."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from harness.guest import cpio
from harness.guest.programs import compiled
from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.model.errors import LaunchError, MachineError

# Grows when what assemble() puts where changes without a change in its inputs.
_LAYOUT = "1"

_FOLDERS = (
    "bin", "dev", "etc", "etc/dropbear", "lib", "lib64", "modules", "proc",
    "root", "root/.ssh", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin",
)  # fmt: skip

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\n"
_GROUP = b"root:x:0:\n"
_SHELLS = b"/bin/sh\n"
_PROFILE = b"export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='guest# '\n"

# Where Debian and its relatives keep shared libraries, should ld.so.cache know a library only by another name.
_LIBRARY_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")


@dataclass(frozen=True)
class GuestImage:
    """An initramfs that boots with any kernel its modules were built for.

    init: PID 1, as a program that the host can run. key: content key.
    seconds: what this call cost, near 0 from the cache. client_key: private SSH
    key that the guest's root accepts. host_key: the public key, as in
    known_hosts, by which the guest's dropbear is known.
    """

    path: Path
    init: Path
    key: str
    seconds: float
    client_key: Path
    host_key: str


def assemble(cache: Path, modules: Sequence[Path] = (), progress: Progress = QUIET) -> GuestImage:
    """Make the initramfs, or find the one that was made from the same parts.

    modules: .ko files in the order in which PID 1 loads them. Raises
    LaunchError when busybox or dropbear is missing, MachineError when one of
    our programs does not compile.
    """
    began = time.monotonic()
    client, server = _keys(cache)
    parts = {**_programs(cache, progress), **_tools()}
    key = workspace.digest(
        _LAYOUT,
        *(item for name, path in parts.items() for item in (name, workspace.digest_file(path))),
        *(item for module in modules for item in (module.name, workspace.digest_file(module))),
        client.read_bytes(),
        server.read_bytes(),
    )
    target = cache / "images" / f"{key}.cpio"
    with workspace.lock(cache / "images" / f"{key}.lock", progress, "guest image"):
        if not target.exists():
            progress.say("assembling the guest image")
            workspace.write_atomic(target, cpio.archive(_entries(parts, modules, client, server)))
    return GuestImage(target, parts["init"], key, time.monotonic() - began, client, _public(server))


def _programs(cache: Path, progress: Progress) -> dict[str, Path]:
    """Path in the guest → our program on the host: PID 1, and what sits beside a module as drive.c."""
    source = workspace.data("guest-modules")
    programs = {"init": compiled("init", sorted((source / "init").glob("*.c")), cache, progress)}
    for driver in sorted(source.glob("*/drive.c")):
        if "bin/drive" in programs:
            raise MachineError(f"{driver}: the image has a place for one drive.c only")
        programs["bin/drive"] = compiled("drive", [driver], cache, progress)
    return programs


def _tools() -> dict[str, Path]:
    """Path in the guest → the host's program, with the libraries of those that are dynamic."""
    busybox = process.which("busybox")
    dropbear = process.which("dropbear")
    if _needed(busybox)[1]:
        raise LaunchError(f"{busybox}: needs shared libraries", "install the static one: apt install busybox-static")
    return {"bin/busybox": busybox, "bin/dropbear": dropbear, **_libraries(dropbear)}


def _needed(program: Path) -> tuple[str, list[str]]:
    """The loader and the libraries that an ELF file asks for; a static one asks for none."""
    with program.open("rb") as stream:
        elf = ELFFile(stream)
        interpreter = elf.get_section_by_name(".interp")
        dynamic = elf.get_section_by_name(".dynamic")
        loader = interpreter.data().rstrip(b"\0").decode() if interpreter else ""
        # pyelftools gives a tag of this type the attribute `needed` as it reads it.
        tags = dynamic.iter_tags("DT_NEEDED") if isinstance(dynamic, DynamicSection) else ()
        names = [str(getattr(tag, "needed")) for tag in tags]  # noqa: B009 - unknown to mypy
    return loader, names


def _libraries(program: Path) -> dict[str, Path]:
    """Everything a dynamic program loads. All go to /lib, where the loader looks without a cache."""
    loader, waiting = _needed(program)
    found = {loader.lstrip("/"): Path(loader)} if loader else {}
    while waiting:
        name = waiting.pop()
        if f"lib/{name}" in found or Path(loader).name == name:
            continue
        path = next((Path(place, name) for place in _LIBRARY_FOLDERS if Path(place, name).exists()), None)
        if path is None:
            raise LaunchError(f"{program}: library {name} not found", f"searched {', '.join(_LIBRARY_FOLDERS)}")
        found[f"lib/{name}"] = path
        waiting += _needed(path)[1]
    return dict(sorted(found.items()))


def _applets(busybox: Path) -> list[str]:
    """The commands that this busybox has."""
    done = process.run([busybox, "--list"], timeout_s=10)
    if done.status:
        raise LaunchError(f"{done.command}: status {done.status}: {done.stderr.strip()}")
    return done.stdout.split()


def _entries(parts: dict[str, Path], modules: Sequence[Path], client: Path, server: Path) -> Iterator[cpio.Entry]:
    yield from map(cpio.folder, _FOLDERS)
    # The kernel opens it for PID 1 before devtmpfs can be mounted.
    yield cpio.character_device("dev/console", 5, 1)
    for path, source in parts.items():
        yield cpio.file(path, source.read_bytes(), 0o755)
    for applet in _applets(parts["bin/busybox"]):
        if f"bin/{applet}" not in parts:
            yield cpio.link(f"bin/{applet}", "busybox")
    for index, module in enumerate(modules):
        yield cpio.file(f"modules/{index:02}-{module.name}", module.read_bytes())
    yield cpio.file("etc/passwd", _PASSWD)
    yield cpio.file("etc/group", _GROUP)
    yield cpio.file("etc/shells", _SHELLS)
    yield cpio.file("etc/profile", _PROFILE)
    yield cpio.file("etc/dropbear/host_key", _dropbear_key(server), 0o600)
    yield cpio.file("root/.ssh/authorized_keys", _public(client).encode() + b"\n", 0o600)


def _keys(cache: Path) -> tuple[Path, Path]:
    """The client's and the guests' key pairs, made once per cache."""
    client, server = (cache / "ssh" / name for name in ("client_ed25519", "guest_ed25519"))
    with workspace.lock(cache / "ssh" / "lock"):
        for path in (client, server):
            if not path.exists():
                private = Ed25519PrivateKey.generate()
                text = private.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
                )
                workspace.write_atomic(path, text)
                os.chmod(path, 0o600)
    return client, server


def _private(path: Path) -> Ed25519PrivateKey:
    key = serialization.load_ssh_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise MachineError(f"{path}: no ed25519 key", f"remove {path.parent}, it is made anew")
    return key


def _public(path: Path) -> str:
    """A key pair's public half, as authorized_keys and known_hosts have it."""
    raw = _private(path).public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return raw.decode()


def _dropbear_key(path: Path) -> bytes:
    """A private key in dropbear's own format: the name, then seed and public key as one string (RFC 4251, 5)."""
    private = _private(path)
    raw = serialization.Encoding.Raw
    seed = private.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = private.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    return _string(b"ssh-ed25519") + _string(seed + public)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
