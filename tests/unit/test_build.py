# SPDX-License-Identifier: GPL-2.0-only
"""Builds of the toy kernel: what is made, what is found, and the message when a build fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from harness.host import workspace
from harness.kernel import build as builds
from harness.kernel import config, content, diagnosis, modules, patches, toolchain, worktree
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.kernel.source import fetch
from harness.model.errors import BuildError, LaunchError, MachineError, OutOfSpace
from tests.unit.conftest import Said, diff, rot

pytestmark = pytest.mark.usefixtures("variants")


def build(tree: Path, cache: Path, *specs: str, said: Said | None = None, compiler: str = "gcc") -> KernelBuild:
    source = fetch(str(tree), cache)
    series = patches.load(specs or ("mayfail",), source.version)
    return builds.build(source, series, config.load([]), cache, said or Said(), compiler=compiler)


def compiled(kernel: KernelBuild) -> list[str]:
    """The objects that a build compiled, by its log."""
    return [line.split()[1] for line in kernel.log.read_text().splitlines() if line.startswith("  CC ")]


def test_a_kernel_is_whole(toy: Path, cache: Path):
    """It has a bootable image, a name, and its origin."""
    kernel = build(toy, cache)

    assert (kernel.release, kernel.version, kernel.cached) == ("6.12.7", "6.12.7", False)
    assert kernel.build_id == content.build_id(kernel.vmlinux)
    assert "CONFIG_SWAP=y" in kernel.config.read_text()
    assert sorted(compiled(kernel)) == ["mm/mmu_notifier.o", "mm/rmap.o"]


def test_the_same_inputs_call_no_make(toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """The second time everything is found by content, even under another patch's name."""
    first = build(toy, cache)
    monkeypatch.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))

    second = build(toy, cache)

    assert second.cached
    assert (second.key, second.build_id) == (first.key, first.build_id)
    text = Path(toy.parent / "same.patch")
    text.write_text(diff("mm/rmap.c", "start(0)", "start(2)"))
    assert build(toy, cache, str(text)).key == first.key


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
@pytest.mark.parametrize("name", ["vmlinux", "config", "kernel.json", "digests"])
def test_a_rotten_kernel_is_not_used(
    toy: Path, cache: Path, name: str, kind: str, said: Said, monkeypatch: pytest.MonkeyPatch
):
    """It comes again from its object tree, which is whole; the user is told."""
    first = build(toy, cache)
    good = {path.name: path.read_bytes() for path in first.vmlinux.parent.iterdir()}
    rot(first.vmlinux.parent / name, kind)
    monkeypatch.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))

    again = build(toy, cache, said=said)

    assert again.key == first.key
    assert again.vmlinux.read_bytes() == good["vmlinux"]
    assert again.config.read_bytes() == good["config"]
    damaged = name if name != "digests" else "config, kernel.json, vmlinux"
    assert any(line.startswith("kernel 6.12.7: ") and "damaged" in line for line in said.lines)
    assert name == "digests" or f"kernel 6.12.7: {damaged} in the cache is damaged; making it again" in said.lines


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_an_older_kernel_that_had_rotted_before_it_was_adopted_is_made_again(toy: Path, cache: Path, text: str):
    folder = build(toy, cache).vmlinux.parent
    (folder / "digests").unlink()
    (folder / "kernel.json").write_text(text)

    with pytest.raises(workspace.Damaged, match=r"kernel\.json in the cache is damaged"):
        build(toy, cache)

    assert build(toy, cache).release == "6.12.7"


def test_a_rotten_kernel_whose_tree_has_moved_on_is_built_again(toy: Path, cache: Path, said: Said):
    first = build(toy, cache)
    good = first.vmlinux.read_bytes()
    build(toy, cache, "none")
    rot(first.vmlinux)

    again = build(toy, cache, said=said)

    assert not again.cached
    assert again.vmlinux.read_bytes() == good
    assert compiled(again) == ["mm/rmap.o"]


def test_a_rotten_object_is_linked_into_no_kernel(toy: Path, cache: Path, said: Said):
    """Its time says that it is up to date."""
    build(toy, cache)
    (objects,) = (cache / "trees").glob("*/objects/base-gcc")
    fine = (objects / "obj/mm/mmu_notifier.o").read_bytes()
    rot(objects / "obj/mm/mmu_notifier.o")
    rot(objects / "obj/vmlinux")

    kernel = build(toy, cache, "none", said=said)

    assert sorted(compiled(kernel)) == ["mm/mmu_notifier.o", "mm/rmap.o"]
    assert (objects / "obj/mm/mmu_notifier.o").read_bytes() == fine
    assert any("object tree: " in line and "is damaged; making it again" in line for line in said.lines)


@pytest.mark.parametrize("key", [b"", b"\xff" * 20, b"../../../../../../etc", b"0" * 20, b"\0" * 20])
def test_a_damaged_memory_of_what_inputs_make_is_no_memory(toy: Path, cache: Path, key: bytes):
    first = build(toy, cache)
    (memo,) = (cache / "kernels/inputs").iterdir()
    memo.write_bytes(key)

    assert build(toy, cache).key == first.key
    assert memo.read_text() == first.key


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
def test_a_rotten_configuration_is_found_out_again(toy: Path, cache: Path, kind: str):
    """It would make another kernel, with another key, and nobody would know why."""
    first = build(toy, cache)
    (memo,) = (cache / "configs").iterdir()
    good = memo.read_bytes()
    rot(memo, kind)

    again = build(toy, cache, "none")

    assert again.config.read_bytes() == first.config.read_bytes()
    assert memo.read_bytes() == good


def test_a_patch_compiles_what_it_changes(toy: Path, cache: Path):
    """One object tree serves both kernels; going back is one object again."""
    patched = build(toy, cache)
    plain = build(toy, cache, "none")

    assert compiled(plain) == ["mm/rmap.o"]
    assert plain.build_id != patched.build_id
    assert build(toy, cache).cached


def test_an_edit_is_picked_up(toy: Path, cache: Path):
    """A directory is built as it is on disk."""
    build(toy, cache)
    text = (toy / "mm/mmu_notifier.c").read_text()
    (toy / "mm/mmu_notifier.c").write_text(text.replace("flags &", "3 & flags &"))

    assert compiled(build(toy, cache)) == ["mm/mmu_notifier.o"]


def test_the_bar_knows_its_end_the_second_time(toy: Path, cache: Path, tmp_path: Path, said: Said):
    """A build from nothing counts towards what the last one took."""
    build(toy, cache)
    (toy / "other").mkdir()
    other = tmp_path / "other"
    (toy / "other").rename(other)
    subprocess.run(["cp", "-r", f"{toy}/.", other], check=True)
    text = (other / "mm/rmap.c").read_text()
    (other / "mm/rmap.c").write_text(text + "\nint more;\n")

    build(other, cache, said=said)

    assert [step for step in said.steps if step[0] == "compile"] == [("compile", n, 3) for n in (1, 2, 3)]


def test_the_first_compiler_error_is_the_message(toy: Path, cache: Path, tmp_path: Path):
    """File, line and text; the log is kept; and the next kernel builds."""
    broken = tmp_path / "broken.patch"
    broken.write_text(diff("mm/rmap.c", "start(0)", "start(0"))

    with pytest.raises(BuildError, match=r"mm/rmap\.c:8: .*error: |mm/rmap\.c:8: expected") as caught:
        build(toy, cache, str(broken))

    log = Path(caught.value.message.rsplit(" ", 1)[1])
    assert "error:" in log.read_text()
    assert build(toy, cache).release == "6.12.7"


def test_what_a_killed_build_wrote_is_not_believed(toy: Path, cache: Path, said: Said):
    """Half an object with a new time looks up to date; after kill -9 it is built again."""
    kernel = build(toy, cache)
    objects = next((cache / "trees").glob("*/objects/base-gcc"))
    (objects / "key").unlink()
    (objects / "running").touch()
    half = objects / "obj/mm/rmap.o"
    half.write_bytes(b"half")
    kept = objects / "obj/include/config/SWAP"
    kept.touch()

    again = build(toy, cache, "none", said=said)
    back = build(toy, cache)

    assert any("killed" in line for line in said.lines)
    assert kept.exists()
    assert back.key == kernel.key
    assert again.build_id == content.build_id(objects / "obj/vmlinux")


def test_a_build_that_is_killed_dies_with_its_compilers(toy: Path, cache: Path, tmp_path: Path):
    """After kill -9 of the harness in the middle of make: the next run builds the right kernel."""
    makefile = (toy / "Makefile").read_text()
    slow = makefile.replace(
        '\t@echo "  LD      vmlinux"\n', '\t@echo "  LD      vmlinux"\n\t@[ ! -e /dev/shm/$(SLOW) ] || sleep 1000\n'
    )
    assert slow != makefile
    gate = tmp_path / "gate"
    (toy / "Makefile").write_text(slow.replace("/dev/shm/$(SLOW)", str(gate)))
    gate.touch()
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from harness.host import workspace
        workspace.data = lambda folder: Path({str(tmp_path / "variants")!r}) / folder
        from tests.unit.test_build import build
        class Loud:
            def say(self, text): print(text, flush=True)
            def advance(self, *step): print(step, flush=True)
        build(Path({str(toy)!r}), Path({str(cache)!r}), said=Loud())
        """)
    )
    root = Path(__file__).resolve().parents[2]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env, cwd=root) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("('compile', 3"):
                break
        child.send_signal(signal.SIGKILL)
    gate.unlink()

    kernel = build(toy, cache)

    assert not kernel.cached
    assert kernel.build_id == content.build_id(kernel.vmlinux)


def test_a_module_is_built_for_its_kernel_and_kept(toy: Path, cache: Path, tmp_path: Path, monkeypatch):
    """Even when the tree has moved on to another patch; the same sources again call no make."""
    folder = tmp_path / "hold"
    folder.mkdir()
    (folder / "hold.c").write_text("#include <linux/mmu_notifier.h>\nint hold;\n")
    (folder / "Makefile").write_text("obj-m := hold.o\n")
    patched, _ = build(toy, cache), build(toy, cache, "none")

    module = modules.build_module(folder, patched, cache)

    assert module.name == "hold.ko"
    assert sorted(path.name for path in folder.iterdir()) == ["Makefile", "hold.c"]
    with monkeypatch.context() as patch:
        patch.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))
        assert modules.build_module(folder, patched, cache) == module
    good = module.read_bytes()
    for kind in ("flip", "cut", "empty"):
        rot(module, kind)
        assert modules.build_module(folder, patched, cache).read_bytes() == good
    (folder / "hold.c").write_text("int hold = 2;\n")
    assert modules.build_module(folder, patched, cache) != module


def test_a_module_that_does_not_compile_is_named(toy: Path, cache: Path, tmp_path: Path):
    """With file and line of its own source."""
    folder = tmp_path / "hold"
    folder.mkdir()
    (folder / "hold.c").write_text("int hold\n")

    with pytest.raises(BuildError, match=r"module hold does not compile: .*hold\.c:1"):
        modules.build_module(folder, build(toy, cache), cache)


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        ("/t/mm/a.c:3:1: error: expected ';'\n/t/mm/b.c:1: error: x\n", BuildError, "mm/a.c:3: expected ';'"),
        (
            "ld: mm/a.o: in function `f':\na.c:(.text+0x1): undefined reference to `g'\n",
            BuildError,
            "undefined reference",
        ),
        ('ERROR: modpost: "g" [x.ko] undefined!\n', BuildError, "modpost"),
        ("/bin/sh: 1: flex: not found\nmake: *** [x] Error 127\n", LaunchError, "flex is missing"),
        ("x.c:1:10: fatal error: gelf.h: No such file or directory\n", LaunchError, r"gelf\.h is missing"),
        ("cc1: fatal error: write: No space left on device\n", OutOfSpace, "no space left"),
        ("gcc: fatal error: Killed signal terminated program cc1\n", MachineError, "was killed"),
        ("make[3]: *** [Makefile:73: objtool] Terminated\n", MachineError, "was killed"),
    ],
)
def test_a_failed_make_is_sorted_by_whose_fault_it_is(output, kind, said, tmp_path: Path):
    """A kernel that does not compile is skipped by bisect; a machine that cannot compile stops it."""
    with pytest.raises(kind, match=said):
        raise diagnosis.failure(output, Path("/t"), tmp_path, "it", None)


def test_splats_name_files_from_the_top_of_the_source(cache: Path):
    """The object tree's relative path to the source is removed, the same way for any lineage."""
    tools = toolchain.find("gcc")
    argv = toolchain.make(tools, cache / "trees/l/tree", cache / "trees/l/objects/base-gcc/obj", 2, "vmlinux")

    assert "KCFLAGS=-fmacro-prefix-map=../../../tree/=" in argv
    assert "CC=ccache gcc" in argv
    assert argv[:2] == ["make", "-j2"]


def test_the_compiler_cache_sees_what_the_assembler_includes(cache: Path, tmp_path: Path):
    """An .incbin is in no list of headers: with the flags that make gets, the new content is compiled."""
    (flags,) = [
        word.partition("=")[2] for word in toolchain.make(toolchain.find("gcc"), cache, cache, 1) if "KAFLAGS" in word
    ]
    source, binary = tmp_path / "piggy.S", tmp_path / "piggy.bin"
    source.write_text('.data\n.incbin "piggy.bin"\n')
    old = time.time() - 60  # ccache does not remember a new file.
    os.utime(source, (old, old))
    made = []
    for raw in (b"realmode 1", b"realmode 2"):
        binary.write_bytes(raw)
        argv = ["ccache", "gcc", flags, "-Wp,-MMD,piggy.d", "-c", "-o", "piggy.o", "piggy.S"]
        subprocess.run(argv, cwd=tmp_path, env=toolchain.environment(cache), check=True)
        made.append((tmp_path / "piggy.o").read_bytes())

    assert b"realmode 1" in made[0]
    assert b"realmode 2" in made[1]


def test_a_directory_that_is_edited_while_its_kernel_builds_is_not_lost(toy: Path, cache: Path, tmp_path: Path):
    """What follows is built on the mirror, and what the owner has changed since is told."""
    folder = tmp_path / "hold"
    folder.mkdir()
    (folder / "hold.c").write_text("int hold;\n")
    (folder / "Makefile").write_text("obj-m := hold.o\n")
    kernel = build(toy, cache)
    (toy / "mm/rmap.c").write_text("#error edited\n")
    (toy / "mm/new.c").write_text("")
    said = Said()

    assert modules.build_module(folder, kernel, cache, said).name == "hold.ko"

    assert any("edited since it was mirrored; not in this kernel: mm/new.c, mm/rmap.c" in line for line in said.lines)


def test_a_directory_that_is_edited_while_it_is_read_is_read_again(toy: Path, cache: Path, monkeypatch):
    """Once is told; the kernel is of the later state."""
    said, edits = Said(), iter(["int once;\n"])
    bring = worktree.bring

    def edited(*arguments: Any) -> Path:
        for text in edits:
            (toy / "mm/mmu_notifier.c").write_text((toy / "mm/mmu_notifier.c").read_text() + text)
        return bring(*arguments)

    monkeypatch.setattr(worktree, "bring", edited)
    kernel = build(toy, cache, said=said)

    assert [line for line in said.lines if "mm/mmu_notifier.c: not what it was" in line and "looking again" in line]
    assert kernel.recipe.source.id == fetch(str(toy), cache).id
