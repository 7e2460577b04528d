# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root: an initramfs from static busybox, dropbear, our own programs and the modules."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from harness.guest import cpio
from harness.guest.programs import compiled
from harness.host import process, workspace
from harness.host.progress import QUIET, Progress
from harness.model.errors import LaunchError
from harness.model.instrument import Instrument

# Raise this when assemble() puts its inputs elsewhere without a change in the inputs.
_LAYOUT = "2"

_FOLDERS = (
    "bin", "dev", "etc", "etc/dropbear", "lib", "lib64", "modules", "proc",
    "root", "root/.ssh", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin",
)  # fmt: skip

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\n"
_GROUP = b"root:x:0:\n"
_SHELLS = b"/bin/sh\n"
_PROFILE = b"export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='guest# '\n"

# Where Debian and its relatives keep shared libraries; ld.so.cache may know a library only by another name.
_LIBRARY_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")


@dataclass(frozen=True)
class GuestImage:
    """An initramfs that boots with any kernel its modules were built for.

    init: PID 1, as a program that the host can run. key: content key.
    seconds: what this call cost, near 0 from the cache.
    """

    path: Path
    init: Path
    key: str
    seconds: float


def assemble(
    cache: Path,
    modules: Sequence[Path] = (),
    progress: Progress = QUIET,
    instrument: Instrument = Instrument(),  # noqa: B008 - frozen
) -> GuestImage:
    """Make the initramfs, or find the one that was made from the same parts.

    modules: .ko files in the order in which PID 1 loads them. instrument: its
    programs go in. Raises LaunchError when busybox or dropbear is missing, MachineError when one of
    our programs does not compile.
    """
    began = time.monotonic()
    parts = {**_programs(instrument, cache, progress), **_tools()}
    key = workspace.digest(
        _LAYOUT,
        *(item for name, path in parts.items() for item in (name, workspace.digest_file(path))),
        *(item for module in modules for item in (module.name, workspace.digest_file(module))),
    )
    target = cache / "images" / key / "initrd.cpio"
    with workspace.lock(cache / "images" / f"{key}.lock", progress, "guest image"):
        if not workspace.whole(target.parent, progress, "guest image"):
            progress.say("assembling the guest image")
            with workspace.publishing(target.parent) as fresh:
                (fresh / target.name).write_bytes(cpio.archive(_entries(parts, modules)))
    return GuestImage(target, parts["init"], key, time.monotonic() - began)


def _programs(instrument: Instrument, cache: Path, progress: Progress) -> dict[str, Path]:
    """Path in the guest → our program on the host: PID 1, and those of the instrument."""
    init = workspace.data("guest-modules") / "init"
    programs = {"init": compiled("init", sorted(init.glob("*.c")), cache, progress)}
    for place, folder in instrument.programs.items():
        sources = sorted(folder.glob("*.c"))
        programs[place] = compiled(folder.name, sources, cache, progress, instrument.interface)
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
        # pyelftools gives a tag of this type the attribute `needed` when it reads the tag.
        tags = dynamic.iter_tags("DT_NEEDED") if isinstance(dynamic, DynamicSection) else ()
        names = [str(getattr(tag, "needed")) for tag in tags]  # noqa: B009 - unknown to mypy
    return loader, names


def _libraries(program: Path) -> dict[str, Path]:
    """All libraries that a dynamic program loads. They go to /lib, where the loader looks without a cache."""
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


def _entries(parts: dict[str, Path], modules: Sequence[Path]) -> Iterator[cpio.Entry]:
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
