# SPDX-License-Identifier: GPL-2.0-only
"""An object tree that its owner has built: only read. What a module's build needs of it is copied into the cache.

::

    DIR/vmlinux, .config, Module.symvers, include/, scripts/     make's O=, or the source itself
    DIR/source, or the include line of DIR/Makefile              lead to the source
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.host import given, process, workspace
from harness.host.below import Below
from harness.host.progress import QUIET, Progress
from harness.kernel import bootable, content, kconfig, manifest
from harness.kernel import source as sources
from harness.kernel.manifest import File, Manifest
from harness.kernel.objects import ObjectTree
from harness.kernel.source import KernelSource
from harness.model.errors import BuildError, ConfigError, MachineError, UsageError
from harness.model.run import BUILT

BZIMAGE = "arch/x86/boot/bzImage"
# What a build leaves, and a build of a module reads: file → what makes it.
_PRODUCTS = {
    "vmlinux": "vmlinux",
    "System.map": "vmlinux",
    ".config": "olddefconfig",
    "Module.symvers": "modules",
    "include/config/auto.conf": "modules",
    "include/config/kernel.release": "modules",
    "include/generated/autoconf.h": "modules",
    "scripts/basic/fixdep": "modules_prepare",
    "scripts/mod/modpost": "modules_prepare",
    "scripts/module.lds": "modules_prepare",
}
# Of these, what no module needs.
_BOOTED = ("vmlinux", "System.map")
# What else a build of a module reads, of which there may be many, or none.
_FOLDERS = ("include/generated", "arch/x86/include/generated", "scripts")
_OPTIONAL = ("include/config/auto.conf.cmd", "tools/objtool/objtool")
# In the source: what may make another module, or a module that does not fit.
_HEADERS = ("include", "arch/x86/include")
_MADE = ("include/config", "include/generated", "arch/x86/include/generated")
_INCLUDE = re.compile(r"^include (\S+)/Makefile$", re.MULTILINE)
_TOOL_LIMIT_S = 300.0


@dataclass(frozen=True)
class BuiltTree:
    """A built tree as it was found. obj: its root. source: of its source. id: of all that decides what is loaded."""

    obj: Path
    source: Path
    release: str
    version: str
    build_id: str
    config: str
    id: str

    @property
    def image(self) -> str:
        """What QEMU boots: vmlinux itself through its PVH note, else bzImage."""
        return "vmlinux" if kconfig.values(self.config).get("PVH") == "y" else BZIMAGE

    @property
    def compiler(self) -> str:
        """What it was built with."""
        return "clang" if kconfig.values(self.config).get("CC_IS_CLANG") == "y" else "gcc"


@dataclass(frozen=True)
class Headers:
    """The source of a built tree, as an origin: there only to look at a header."""

    root: Path

    @property
    def linkable(self) -> Path | None:
        """The files are the user's."""
        return None

    def manifest(self) -> Manifest:
        """Nothing: a built tree is no source to build from."""
        return {}

    def some(self, paths: list[str]) -> Manifest:
        """The entries of those of `paths` that exist."""
        return {path: file.entry for path, file in self._files(paths)}

    def read(self, entries: Manifest) -> Iterator[tuple[str, File]]:
        """The files as they are now."""
        yield from self._files(entries)

    def _files(self, paths: Sequence[str] | Manifest) -> Iterator[tuple[str, File]]:
        with Below(self.root) as door:
            for path in paths:
                file = manifest.read_file(door, path)
                if file is not None:
                    yield path, file


def find(spec: str) -> BuiltTree:
    """Look at the tree that --built names.

    Raises UsageError for what is no built tree, or is not built to its end;
    ConfigError for a kernel on which no guest would answer.
    """
    name = spec.removeprefix(BUILT)
    option = f"--built {name}"
    mode = given.kind("--built", name, "name the folder that holds vmlinux: make's O=, or the source itself")
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{option}: is not a folder", "name the folder that holds vmlinux")
    obj = given.path(name).resolve()
    for product, goal in _PRODUCTS.items():
        if not (obj / product).is_file():
            raise UsageError(f"{option}: is not built: it has no {product}", f"make -C {name} {goal}")
    config = given.text("--built", str(obj / ".config"))
    values = kconfig.values(config)
    _check_machine(option, name, obj, values)
    source = _source(option, name, obj)
    release = given.text("--built", str(obj / "include/config/kernel.release")).strip()
    version = sources.kernel_version(given.text("--built", str(source / "Makefile"))) or ""
    if not version or not release.startswith(version):
        raise UsageError(
            f"{option}: was built as Linux {release!r:.100}, and its source {source} is now {version or 'no kernel'}",
            f"make -C {name}",
        )
    headers = _headers(source)
    _check_age(option, name, obj, values, headers)
    if lacking := bootable.lacking(values):
        switches = " ".join(f"--{'enable' if word[-1] == 'y' else 'disable'} {word[7:-2]}" for word in lacking)
        raise ConfigError(
            f"{option}: no guest works without {', '.join(lacking)}",
            f"{source}/scripts/config --file {name}/.config {switches} && make -C {name} olddefconfig all; "
            "MMU_NOTIFIER has no prompt, TEST_HMM selects it",
        )
    if values.get("OBJTOOL") == "y" and not (obj / "tools/objtool/objtool").is_file():
        raise UsageError(f"{option}: has no tools/objtool/objtool", f"make -C {name} modules_prepare")
    found = BuiltTree(obj, source, release, version, _build_id(option, obj), config, "")
    if not (obj / found.image).is_file():
        raise UsageError(
            f"{option}: has neither CONFIG_PVH=y, with which vmlinux itself boots, nor {BZIMAGE}",
            f"make -C {name} bzImage",
        )
    state = hashlib.sha256("".join(f"{path} {facts}\n" for path, facts in headers.items()).encode())
    for path in _lent(obj):
        state.update(f"{path}\0{workspace.digest_file(obj / path)}\n".encode())
    parts = [str(obj), str(source), found.build_id, config, state.hexdigest()]
    if found.image != "vmlinux":
        parts.append(workspace.digest_file(obj / found.image))
    return BuiltTree(obj, source, release, version, found.build_id, config, f"built-{workspace.digest(*parts)}")


def as_source(spec: str, tree: BuiltTree) -> KernelSource:
    """A built tree in the place of a source."""
    lineage = f"built-{workspace.digest(str(tree.obj))}"
    return KernelSource(spec, tree.id, tree.version, lineage, origin=Headers(tree.source))


def keep(spec: str, tree: BuiltTree, fresh: Path) -> None:
    """Copy what boots into a folder of the store; without debug information, which may take a gigabyte."""
    done = process.run(["objcopy", "--strip-debug", tree.obj / "vmlinux", fresh / "vmlinux"], timeout_s=_TOOL_LIMIT_S)
    if done.status:
        raise MachineError(f"--built {spec.removeprefix(BUILT)}: {done.command}: {done.stderr.strip()}")
    shutil.copyfile(tree.obj / "System.map", fresh / "System.map")
    if tree.image != "vmlinux":
        shutil.copyfile(tree.obj / tree.image, fresh / "bzImage")
    (fresh / "config").write_text(tree.config, encoding="utf-8")
    (fresh / "build.log").touch()
    check_unchanged(spec, tree)


def check_unchanged(spec: str, tree: BuiltTree) -> None:
    """Raise MachineError when somebody has built in a tree since it was found."""
    if find(spec).id != tree.id:
        name = spec.removeprefix(BUILT)
        raise MachineError(f"--built {name}: is being built while it is copied", "wait for its make, then run it again")


def objects(spec: str, tree: BuiltTree, key: str, folder: Path, progress: Progress = QUIET) -> ObjectTree:
    """A copy of what a build of a module needs of a tree. The caller holds the lineage's lock."""
    made = ObjectTree(folder, tree.source)
    # A damaged copy is made again whole.
    if made.weed(progress) or not made.holds(key):
        progress.say(f"--built {spec.removeprefix(BUILT)}: copying what a module's build needs")
        with workspace.space(folder):
            shutil.rmtree(folder, ignore_errors=True)
            for path in _lent(tree.obj):
                target = made.obj / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree.obj / path, target, follow_symlinks=False)
            check_unchanged(spec, tree)
            made.seal(key)
    return made


def _check_machine(option: str, name: str, obj: Path, values: Mapping[str, str]) -> None:
    try:
        with (obj / "vmlinux").open("rb") as stream:
            elf = ELFFile(stream)
            machine = str(elf["e_machine"])
    except (ELFError, ValueError) as error:
        raise UsageError(f"{option}: vmlinux is no ELF file: {error}", f"make -C {name} vmlinux") from None
    if machine != "EM_X86_64" or values.get("X86_64") != "y":
        other = machine.removeprefix("EM_") if machine != "EM_X86_64" else "another architecture by its .config"
        raise UsageError(f"{option}: is built for {other}, and guests are x86_64", "build it with ARCH=x86_64")


def _source(option: str, name: str, obj: Path) -> Path:
    """Where the source of an object tree is."""
    hint = f"ln -sfn SOURCE {name}/source"
    if (obj / "Kconfig").is_file():
        place = obj
    elif (obj / "source").is_dir():
        place = (obj / "source").resolve()
    else:
        # What make writes when its O= has no link to the source.
        text = given.text("--built", str(obj / "Makefile")) if (obj / "Makefile").is_file() else ""
        found = _INCLUDE.search(text)
        place = (obj / found[1]).resolve() if found else obj
    for mark in sources.MARKS:
        if not (place / mark).is_file():
            where = "it has no link to it" if place == obj else f"{place} has no {mark}"
            raise UsageError(f"{option}: its source is not to be found: {where}", hint)
    if odd := workspace.odd(str(place)):
        raise UsageError(f"{option}: make cannot build with a source in a folder with {odd!r} in its path: {place}")
    return place


def _headers(source: Path) -> dict[str, str]:
    """Each header of the source, and what changes when it is edited: its size and time."""
    found = {}
    for top in _HEADERS:
        for folder, folders, names in os.walk(source / top):
            inside = os.path.relpath(folder, source)
            folders[:] = sorted(one for one in folders if f"{inside}/{one}" not in _MADE)
            for name in sorted(names):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - 6,000 of them
                    found[f"{inside}/{name}"] = f"{status.st_size} {status.st_mtime_ns}"
    return found


def _check_age(option: str, name: str, obj: Path, values: Mapping[str, str], headers: Mapping[str, str]) -> None:
    """Whether vmlinux is of its .config, and of its source's headers."""
    made = (obj / "vmlinux").stat().st_mtime_ns
    synced = kconfig.values(given.text("--built", str(obj / "include/config/auto.conf")))
    wrong = sorted(one for one in values.keys() | synced.keys() if _plain(values, one) != _plain(synced, one))
    hint = f"make -C {name}; where make finds nothing to do: touch {name}/vmlinux"
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        options = ", ".join(f"CONFIG_{one}" for one in wrong[:3])
        raise UsageError(f"{option}: .config has changed since it was built: {options}{more}", f"make -C {name}")
    for file in (".config", "include/config/auto.conf"):
        if (obj / file).stat().st_mtime_ns > made and (obj / "include/config/auto.conf").stat().st_mtime_ns > made:
            raise UsageError(f"{option}: vmlinux is older than {file}", hint)
    newer = [path for path, facts in headers.items() if int(facts.split()[1]) > made]
    if newer:
        more = f" and {len(newer) - 1} more headers" if len(newer) > 1 else ""
        raise UsageError(f"{option}: vmlinux is older than {newer[0]}{more} of its source", hint)


def _plain(values: Mapping[str, str], name: str) -> str | None:
    """A value without quotes: Linux 6.12 writes .config with them, and auto.conf without."""
    value = values.get(name)
    return value and value.replace("\\", "").replace('"', "")


def _build_id(option: str, obj: Path) -> str:
    try:
        return content.build_id(obj / "vmlinux")
    except BuildError as error:
        raise UsageError(f"{option}: {error.message}", "build it with a linker that writes build ids") from None


def _lent(obj: Path) -> list[str]:
    """What a build of a module reads in an object tree: regular files, as relative paths."""
    found = [path for path in (*_PRODUCTS, *_OPTIONAL) if path not in _BOOTED and (obj / path).is_file()]
    for folder in _FOLDERS:
        if (obj / folder).is_dir():
            found += [f"{folder}/{path}" for path in manifest.walk(obj / folder)]
    plain = {path for path in found if stat.S_ISREG((obj / path).lstat().st_mode)}
    return sorted(path for path in plain if not path.endswith(".o"))


def told(tree: BuiltTree) -> list[str]:
    """What the user should know about a tree, a line each."""
    wanted = kconfig.values(tree.config).get("CC_VERSION_TEXT", "").strip('"')
    done = process.run([tree.compiler, "--version"], timeout_s=_TOOL_LIMIT_S)
    mine = done.stdout.partition("\n")[0]
    if wanted and mine and wanted != mine:
        return [f"warning: this kernel was built with {wanted}, and our module is built with {mine}"]
    return []


def facts(spec: str, tree: BuiltTree, compiler: str) -> str:
    """What the store keeps of a tree, as JSON."""
    return json.dumps(
        {
            "release": tree.release,
            "build_id": tree.build_id,
            "source": spec,
            "source_id": tree.id,
            "patches": [],
            "configs": [],
            "compiler": compiler,
            "seconds": 0.0,
        },
        indent=1,
    )
