# SPDX-License-Identifier: GPL-2.0-only
"""The compiler and what goes with it, and how make is called with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, sandbox
from harness.host.process import Completed
from harness.model.errors import LaunchError, UsageError

_TIMEOUT_S = 60
_ALWAYS = ("make", "ccache", "flex", "bison", "bc", "perl")


@dataclass(frozen=True)
class Toolchain:
    """A compiler by its name, and its identity: what it and its linker say about themselves."""

    name: str
    identity: str


# Compiler → programs that must be there, and what else make is told.
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gcc": (("gcc", "ld"), ()),
    "clang": (("clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy"), ("LLVM=1",)),
}

# No list of headers names what .incbin includes, so ccache's depend mode gives the old object
# for a new arch/x86/realmode/rm/realmode.bin (tried with 4.7.5). A preprocessor option that
# ccache cannot read makes it look at the preprocessed text, where it finds .incbin and steps
# aside. This option changes nothing else. It goes to all assembly, and to the two C files of
# 6.12 that use .incbin.
_INCLUDES_BINARY = tuple(
    f"{flags}=-Wp,-Wno-unused-macros" for flags in ("KAFLAGS", "CFLAGS_configs.o", "CFLAGS_kheaders.o")
)


def find(name: str) -> Toolchain:
    """Find a compiler and everything else a kernel's build calls, or say what is missing."""
    if name not in _KINDS:
        raise UsageError(f"compiler {name!r}: unknown", f"known: {', '.join(_KINDS)}")
    programs, _ = _KINDS[name]
    for program in (*_ALWAYS, *programs):
        process.which(program)
    if sandbox.demanded():
        sandbox.check((*_ALWAYS, *programs))
    return Toolchain(name, "\n".join(_identity(program) for program in programs[:2]))


def make(
    toolchain: Toolchain, tree: Path, objects: Path, jobs: int, *rest: str | os.PathLike[str], ccache: bool = True
) -> list[str]:
    """The argv that makes `rest` of a source tree in an object tree; variables and targets may be mixed.

    ccache: off for the configuration, whose hundreds of compiler tests it would only slow down.
    """
    launcher = "ccache " if ccache else ""
    return [
        "make", f"-j{jobs or len(os.sched_getaffinity(0))}",
        "-C", os.fspath(tree),
        f"O={objects}",
        "ARCH=x86_64",
        *_KINDS[toolchain.name][1],
        f"CC={launcher}{toolchain.name}",
        f"HOSTCC={launcher}{toolchain.name}",
        # ccache makes paths below its base directory relative, which undoes kbuild's own
        # map from the source tree; without this a WARNING is "at ../../../tree/mm/rmap.c".
        f"KCFLAGS=-fmacro-prefix-map={os.path.relpath(tree, objects)}/=",
        *_INCLUDES_BINARY,
        *(os.fspath(word) for word in rest),
    ]  # fmt: skip


def environment(cache: Path) -> dict[str, str]:
    """The environment of make: a shared ccache, and nothing in the kernel that tells when or where it was built."""
    return process.environment(
        CCACHE_DIR=os.fspath(cache / "ccache"),
        # Paths below it are hashed relative, so that object trees share results.
        CCACHE_BASEDIR=os.fspath(cache),
        CCACHE_MAXSIZE="5G",
        # A miss is not preprocessed for a second look-up. CPU seconds of mm/ and fs/ of 6.12 from
        # nothing: 84 without ccache, 107 with its defaults, 95 with CCACHE_NOCPP2, 89 with this.
        # This gives up little: with one more option (ZRAM) in a new object tree, ccache found 5 of
        # 311 files by their preprocessed text. What depend mode overlooks is in _INCLUDES_BINARY.
        CCACHE_DEPEND="1",
        # A header is hashed once, not once for each of the 900 files that include it.
        CCACHE_INODECACHE="1",
        KBUILD_BUILD_TIMESTAMP="1970-01-01 00:00:00 UTC",
        KBUILD_BUILD_USER="harness",
        KBUILD_BUILD_HOST="harness",
        KBUILD_BUILD_VERSION="1",
        LOCALVERSION="",
    )


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    tree: Path,
    writes: Sequence[Path],
    cache: Path,
    timeout_s: float,
    reads: Sequence[Path] = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """process.run() for what runs programs of a tree under test; the one door for --sandbox.

    writes: the folders that may change; reads: those that are needed beside the tree.
    Raises BuildError for what a sandboxed tree leaves there to lead us astray.
    """
    settings = environment(cache) | dict(env or {})
    if not sandbox.demanded():
        return process.run(argv, timeout_s=timeout_s, cwd=cwd, env=settings, on_line=on_line)
    # What it puts into the cache of compilers, others would link.
    compiled = cache / sandbox.apart("ccache")
    for folder in (compiled, *writes):
        folder.mkdir(parents=True, exist_ok=True)
    settings |= {"CCACHE_DIR": os.fspath(compiled), "HOME": sandbox.HOME}
    settings.pop("TMPDIR", None)
    words = sandbox.inside(argv, reads=[tree, *reads], writes=[*writes, compiled], cwd=cwd)
    done = process.run(words, timeout_s=timeout_s, env=settings, on_line=on_line)
    for folder in writes:
        sandbox.sweep(folder, [tree, *reads, *writes])
    return done


def _identity(program: str) -> str:
    done = process.run([program, "--version"], timeout_s=_TIMEOUT_S)
    if done.status or not done.stdout:
        raise LaunchError(
            f"{program} --version: ended with {done.status}: {done.stderr.strip()}", "make run installs it"
        )
    return done.stdout.splitlines()[0]
