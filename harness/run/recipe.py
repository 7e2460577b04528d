# SPDX-License-Identifier: GPL-2.0-only
"""The commands that a person would type without us: a shell script, and the files that it needs beside it.

::

    FOLDER/recipe.sh       source, patches, configuration, build, module, boot
    FOLDER/patches/        as they are applied, in order
    FOLDER/config/         as merge_config.sh is given them, in order
    FOLDER/modules/        our module's source
    FOLDER/scenarios/      what the guest's driver is told, a file for each scenario
    FOLDER/initrd.cpio     the guest's root, without the module
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.guest import image as images
from harness.guest import qemu
from harness.host import emulator, given, workspace
from harness.host.progress import QUIET, Progress
from harness.kernel import apt, config, toolchain
from harness.kernel.build import RECIPE, Recipe
from harness.kernel.modules import source_files
from harness.model.instrument import Instrument
from harness.model.scenario import Scenario
from harness.model.shape import MachineShape
from harness.run.planning import plan

SCRIPT = "recipe.sh"
# Stands for the folder in which the script works, until it is a variable of the shell's.
_WORK, _FILES = Path("/@work"), Path("/@files")
# The channels that the harness makes of sockets, and what a person has in their place.
_CHANNELS = {
    "console": "file,id=console,path=/@work/console.log",
    "terminal": "stdio,id=terminal,signal=off",
    "agent": "null,id=agent",
    "ssh": "null,id=ssh",
    "monitor": "null,id=monitor",
}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_HEAD = """\
#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What `harness run` does, as commands: sh {name} [WORK]
# It works in WORK, a new folder (default: ./kernel-recipe), and ends with a guest's shell on this terminal.
# In the shell: drive < /root/scenarios/NAME runs a scenario; poweroff -f ends the guest.
# STOP=build ends the script when the kernel and the module are built.
set -eu
files={files}
mkdir -p "${{1:-kernel-recipe}}"
work=$(cd "${{1:-kernel-recipe}}" && pwd)
case $work in *[!A-Za-z0-9/._+=@~-]*) echo "make cannot build in $work: name a plain path" >&2; exit 2 ;; esac
"""


def write(
    recipe: Recipe,
    scenarios: Sequence[Scenario],
    instrument: Instrument,
    accel: str,
    folder: Path,
    cache: Path,
    progress: Progress = QUIET,
) -> str:
    """Write the script and its files into a folder; returns the script's text. accel: "kvm" or "tcg"."""
    folder = folder.absolute()
    with workspace.space(folder):
        folder.mkdir(parents=True, exist_ok=True)
        image = images.assemble(cache, [], progress, instrument)
        workspace.link(image.path, folder / "initrd.cpio")
        for scenario in scenarios:
            text = "".join(f"{command.text}\n" for command in plan(scenario))
            _put(folder / "scenarios" / scenario.name, text.encode())
        for path in source_files(instrument.module) if instrument.module else ():
            _put(folder / "modules" / path.parent.name / path.name, path.read_bytes())
        parts = _taken(recipe) if recipe.built else _made(recipe, folder)
        head = _HEAD.format(name=SCRIPT, files=shlex.quote(str(folder)))
        shape = scenarios[0].shape if scenarios else MachineShape()
        name = instrument.module.name if instrument.module else ""
        blocks = [head, *parts, *_module(recipe, name), *_boot(recipe, name, shape, accel)]
        text = "\n".join(blocks)
        _put(folder / SCRIPT, text.encode(errors="surrogateescape"))
    return text


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _shell(words: Sequence[str]) -> str:
    """A command for the shell, in which our placeholders are its variables."""
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    """A word, quoted where that is needed."""
    if str(_WORK) not in word and str(_FILES) not in word:
        return shlex.quote(word)
    plain = re.sub(r'([\\"$`])', r"\\\1", word)
    # Braces where a letter that follows would belong to the name.
    return '"' + re.sub(r"/@(work|files)(?=(\w)?)", lambda m: f"${{{m[1]}}}" if m[2] else f"${m[1]}", plain) + '"'


def _make(*rest: str) -> str:
    """A call of make."""
    return _shell(["build", *rest])


def _build(recipe: Recipe) -> str:
    """Make, with the harness's own variables, but for ccache, as a function of the shell's."""
    tree, objects = (recipe.built.source, recipe.built.obj) if recipe.built else (_WORK / "linux", _WORK / "obj")
    argv = toolchain.make(recipe.toolchain, tree, objects, 1, ccache=False)
    command = _shell(argv).replace(" -j1 ", ' -j"$(nproc)" ', 1)
    return f'build() {{\n\t{command} "$@"\n}}'


def _environment(cache_free: Sequence[str] = ("CCACHE_", "PATH", "HOME", "TERM", "TMPDIR", "USER", "LOGNAME")) -> str:
    settings = toolchain.environment(Path("/")).items()
    kept = [
        f"{name}={shlex.quote(value)}" for name, value in sorted(settings) if not name.startswith(tuple(cache_free))
    ]
    return "export " + " ".join(kept)


def _taken(recipe: Recipe) -> Iterator[str]:
    """A kernel that its owner has built."""
    assert recipe.built is not None
    yield f"# The kernel is built already, in {str(recipe.built.obj)!a}\n"


def _made(recipe: Recipe, folder: Path) -> Iterator[str]:
    """From the source to vmlinux."""
    yield f"# The source: {recipe.source.spec!a}, Linux {recipe.source.version}\n" + _fetched(recipe)
    if recipe.series.patches:
        lines = ["# The patches, outside of any repository that encloses the folder"]
        for number, patch in enumerate(recipe.series.patches, 1):
            stem = _NOT_IN_A_NAME.sub("-", patch.name.rpartition("/")[2].removesuffix(".patch"))[:100]
            name = f"{number:04}-{stem}.patch"
            _put(folder / "patches" / name, patch.text)
            apply = f'git apply --whitespace=nowarn "$files/patches/{name}"'
            lines.append(f'(cd "$work/linux" && GIT_CEILING_DIRECTORIES="$work" {apply})')
        yield "\n".join(lines) + "\n"
    names = []
    for number, (fragment, text) in enumerate(config.merged(recipe.fragments, recipe.source.version)):
        names.append(f"{number}-{_NOT_IN_A_NAME.sub('-', fragment)}")
        _put(folder / "config" / names[-1], text.encode())
    merge = ["sh", f"{_WORK}/linux/scripts/kconfig/merge_config.sh", "-m", "-O", f"{_WORK}/obj"]
    yield "\n".join(
        [
            "# The configuration",
            'mkdir "$work/obj"',
            _environment(),
            _build(recipe),
            'export KCONFIG_CONFIG="$work/obj/.config"',
            *([] if recipe.whole else [_make("tinyconfig"), 'mv "$work/obj/.config" "$work/tiny.config"']),
            'cd "$work/linux"',
            _shell(
                [
                    *merge,
                    *([] if recipe.whole else [f"{_WORK}/tiny.config"]),
                    *(f"{_FILES}/config/{name}" for name in names),
                ]
            ),
            'cd "$work"',
            _make("olddefconfig"),
            "unset KCONFIG_CONFIG",
            "",
        ]
    )
    yield "\n".join(["# The kernel", *_kernel(recipe), 'readelf -n "$work/obj/vmlinux" | grep "Build ID"', ""])


def _kernel(recipe: Recipe) -> Iterator[str]:
    if not recipe.whole:
        yield _make("vmlinux", "modules")
        return
    yield "# No guest loads the modules of the file: those that are needed are made, and the list of symbols."
    yield _make("vmlinux", "modules_prepare")
    yield 'if grep -q ^CONFIG_TEST_HMM=m "$work/obj/.config"; then'
    yield f"\t{_make('lib/test_hmm.ko')}"
    yield "else"
    yield '\tcp "$work/obj/vmlinux.symvers" "$work/obj/Module.symvers"'
    yield "fi"


def _fetched(recipe: Recipe) -> str:
    """The commands that put the source where it is built."""
    spec = recipe.source.spec
    kind, _, rest = spec.partition(":")
    lines = []
    if kind == "git":
        path, _, _ = rest.rpartition("@")
        tree = recipe.source.id.removeprefix("git-")
        lines += ['mkdir "$work/linux"', f'git -C {_quoted(path)} archive {tree} | tar -x -C "$work/linux"']
    elif recipe.source.id.startswith("dir-"):
        lines.append(f'cp -a {_quoted(spec)} "$work/linux"')
        if (given.path(spec) / ".git").exists():
            lines.append("# What is built in it, and what git ignores, is no source.")
            lines.append('git -C "$work/linux" clean -qfdX')
        else:
            lines.append('make -C "$work/linux" ARCH=x86_64 mrproper')
    else:
        tarball = given.path(spec) if kind != "debian" else apt.installed(rest)
        if kind == "debian":
            lines.append(f"# apt-get install linux-source-{rest}")
        lines += [
            'mkdir "$work/unpacked"',
            f'tar -xf {_quoted(str(tarball))} -C "$work/unpacked"',
            'mv "$(dirname "$(find "$work/unpacked" -maxdepth 2 -name Kconfig | head -n 1)")" "$work/linux"',
        ]
    return "\n".join([*lines, ""])


def _quoted(path: str) -> str:
    """A path of the user's for the shell, absolute."""
    return shlex.quote(str(given.path(path)))


def _module(recipe: Recipe, name: str) -> Iterator[str]:
    """Our module, and what the guest gets of it."""
    lines = []
    if name:
        lines += [
            f"# The module {name}",
            *([_environment(), _build(recipe)] if recipe.built else []),
            f'cp -r "$files/modules/{name}" "$work"',
            _make(f"M={_WORK}/{name}", "W=1", "modules"),
        ]
    yield "\n".join([*lines, '[ "${STOP:-}" != build ] || exit 0', ""])
    yield "\n".join(
        [
            "# The guest's root: ours, and a second archive with the module and the scenarios",
            'mkdir -p "$work/root/modules" "$work/root/root"',
            *([f'cp "$work/{name}/{name}.ko" "$work/root/modules/00-{name}.ko"'] if name else []),
            'if [ -d "$files/scenarios" ]; then cp -r "$files/scenarios" "$work/root/root"; fi',
            'cp "$files/initrd.cpio" "$work/initrd.cpio"',
            '(cd "$work/root" && find . | cpio --quiet -o -H newc) >> "$work/initrd.cpio"',
            "",
        ]
    )


def _boot(recipe: Recipe, name: str, shape: MachineShape, accel: str) -> Iterator[str]:
    """QEMU, with files and this terminal in the place of the sockets that the harness gives it."""
    kernel = recipe.built.obj / recipe.built.image if recipe.built else _WORK / "obj/vmlinux"
    swap = 1 if shape.swap_mib else -1
    files = qemu.Files(kernel, _WORK / "initrd.cpio", console=0, terminal=0, agent=0, ssh=0, monitor=0, swap=swap)
    argv = []
    for word in qemu.command([emulator.PROGRAM], shape, accel, files):
        channel = re.match(r"socket,id=(\w+),fd=", word)
        plain = _CHANNELS[channel[1]] if channel else word
        argv.append(plain.replace("/dev/fdset/1", f"{_WORK}/swap"))
    if "-add-fd" in argv:
        at = argv.index("-add-fd")
        del argv[at : at + 2]
    yield "\n".join(
        [
            f"# The guest, {'with' if name else 'without'} our module; its kernel's log is in $work/console.log",
            *(
                [f'truncate -s {shape.swap_mib}M "$work/swap"', 'PATH="$PATH:/sbin:/usr/sbin" mkswap -q "$work/swap"']
                if swap > 0
                else []
            ),
            f"exec {_shell(argv)}",
            "",
        ]
    )


def place(cache: Path, recipe: Recipe, scenarios: Sequence[Scenario]) -> Path:
    """Where the script of a kernel is kept that was not built for it."""
    texts = [patch.text for patch in recipe.series.patches] + [fragment.text.encode() for fragment in recipe.fragments]
    names = [scenario.name for scenario in scenarios]
    return cache / "recipes" / workspace.digest(RECIPE, recipe.source.id, recipe.toolchain.identity, *texts, *names)
