# SPDX-License-Identifier: GPL-2.0-only
"""--built: a tree that its owner has built is only read, judged by what it holds, and taken anew when it changes."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands import _options
from harness.kernel import bootable, built, kconfig, modules, selftests
from harness.kernel import build as builds
from harness.kernel.build import KernelBuild
from harness.kernel.objects import ObjectTree
from harness.kernel.source import fetch
from harness.model.contract import Contract
from harness.model.errors import CannotTest, ConfigError, MachineError, UsageError
from harness.model.instrument import Instrument
from harness.run import pipeline
from harness.run.pipeline import Clock, KernelRequest
from harness.variants import catalogue
from tests.unit.conftest import Said, rot

HAS = "".join(f"CONFIG_{name}=y\n" for name in ("X86_64", "PVH", *bootable.NEEDED))
PREPARED = ("scripts/basic/fixdep", "scripts/mod/modpost", "scripts/module.lds", "include/generated/autoconf.h")


def compiled(source: Path, obj: Path, text: str = HAS) -> Path:
    """A tree as the toy kernel's make and the kernel's own leave it."""
    obj.mkdir(exist_ok=True)
    (obj / ".config").write_text(text)
    (obj / "include/config").mkdir(parents=True, exist_ok=True)
    (obj / "include/config/auto.conf").write_text(text.replace('"', ""))
    for name in PREPARED:
        (obj / name).parent.mkdir(parents=True, exist_ok=True)
        (obj / name).write_text(name)
    command = ["make", "-s", "-C", str(source), f"O={obj}", "CC=gcc", "vmlinux", "modules"]
    subprocess.run(command, check=True, capture_output=True)
    os.utime(obj / "vmlinux")
    return obj


@pytest.fixture
def obj(toy: Path, tmp_path: Path) -> Path:
    """A tree out of its source, which its link leads to."""
    made = compiled(toy, tmp_path / "obj")
    (made / "source").symlink_to(toy)
    return made


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold/hold.c").write_text("int hold;\n")
    return tmp_path / "hold"


def take(obj: Path, cache: Path, said: Said | None = None) -> KernelBuild:
    spec = f"built:{obj}"
    return builds.take(spec, built.find(spec), cache, said or Said())


def state(*folders: Path) -> dict[str, tuple[int, ...]]:
    """Everything that a write would change, the times of folders included."""
    found: dict[str, tuple[int, ...]] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
    return found


def test_a_built_tree_becomes_a_kernel_and_nothing_in_it_or_its_source_changes(
    obj: Path, toy: Path, cache: Path, module: Path
):
    before = state(obj, toy)

    kernel = take(obj, cache)
    made = modules.build_module(module, kernel, cache)

    assert state(obj, toy) == before
    assert (kernel.release, kernel.cached) == ("6.12.7", False)
    assert kernel.image == kernel.vmlinux
    assert kconfig.values(kernel.config.read_text())["PVH"] == "y"
    assert made.is_file()


def test_an_unchanged_tree_does_nothing_twice(obj: Path, cache: Path, module: Path, monkeypatch: pytest.MonkeyPatch):
    first = take(obj, cache)
    modules.build_module(module, first, cache)
    monkeypatch.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))
    monkeypatch.setattr(shutil, "copy2", lambda *_args, **_kwargs: pytest.fail("a file was copied"))

    second = take(obj, cache)
    modules.build_module(module, second, cache)

    assert second.cached
    assert second.key == first.key


def edited(obj: Path, toy: Path) -> None:
    """Change a line, and build."""
    text = (toy / "mm/rmap.c").read_text()
    (toy / "mm/rmap.c").write_text(text.replace("start(0)", "start(2)"))
    compiled(toy, obj)


def reconfigured(obj: Path, toy: Path) -> None:
    compiled(toy, obj, HAS + "CONFIG_KSM=y\n")


def exported(obj: Path, toy: Path) -> None:  # noqa: ARG001 - one of several
    (obj / "Module.symvers").write_text("0x00000000\tmore\tvmlinux\tEXPORT_SYMBOL\t\n")


def other_header(obj: Path, toy: Path) -> None:
    (toy / "include/linux/mmu_notifier.h").write_text("/* other */\n")
    os.utime(obj / "vmlinux")


@pytest.mark.parametrize("change", [edited, reconfigured, exported, other_header])
def test_a_tree_that_was_built_again_is_noticed(
    obj: Path, toy: Path, cache: Path, module: Path, change: Callable[[Path, Path], None]
):
    first = take(obj, cache)
    before = modules.build_module(module, first, cache)

    change(obj, toy)
    second = take(obj, cache)

    assert second.key != first.key
    assert modules.build_module(module, second, cache) != before


@pytest.mark.parametrize("name", ["vmlinux", "config"])
def test_what_rotted_of_it_in_the_cache_is_copied_again(obj: Path, cache: Path, name: str, said: Said):
    first = take(obj, cache)
    good = (first.vmlinux.parent / name).read_bytes()
    rot(first.vmlinux.parent / name)

    assert (take(obj, cache, said).vmlinux.parent / name).read_bytes() == good
    assert any(f"{name} in the cache is damaged" in line for line in said.lines)


def test_a_rotten_copy_for_modules_is_made_again(obj: Path, cache: Path, module: Path):
    modules.build_module(module, take(obj, cache), cache)
    (copy,) = (cache / "trees").glob("built-*/objects/built/obj/scripts/mod/modpost")
    rot(copy)
    (module / "hold.c").write_text("int hold_more;\n")

    modules.build_module(module, take(obj, cache), cache)

    assert copy.read_text() == "scripts/mod/modpost"


def test_a_tree_that_is_being_built_is_not_taken(obj: Path, toy: Path, cache: Path):
    spec = f"built:{obj}"
    tree = built.find(spec)
    edited(obj, toy)

    with pytest.raises(MachineError, match="is being built while it is copied"):
        builds.take(spec, tree, cache)


def no_link(obj: Path, toy: Path) -> None:  # noqa: ARG001
    (obj / "source").unlink()


def gone(obj: Path, toy: Path) -> None:
    (obj / "source").unlink()
    (obj / "source").symlink_to(toy.parent / "nowhere")


def moved_on(obj: Path, toy: Path) -> None:  # noqa: ARG001
    (toy / "Makefile").write_text((toy / "Makefile").read_text().replace("SUBLEVEL = 7", "SUBLEVEL = 8"))


def arm(obj: Path, toy: Path) -> None:  # noqa: ARG001
    raw = bytearray((obj / "vmlinux").read_bytes())
    raw[18:20] = struct.pack("<H", 183)
    (obj / "vmlinux").write_bytes(raw)


def no_elf(obj: Path, toy: Path) -> None:  # noqa: ARG001
    (obj / "vmlinux").write_bytes(b"\0" * 100)


def configured(obj: Path, toy: Path) -> None:  # noqa: ARG001
    (obj / ".config").write_text(HAS + "CONFIG_KSM=y\n")


def not_linked(obj: Path, toy: Path) -> None:  # noqa: ARG001
    for name in (".config", "include/config/auto.conf"):
        os.utime(obj / name, (2e9, 2e9))


def newer_header(obj: Path, toy: Path) -> None:  # noqa: ARG001
    os.utime(toy / "include/linux/mmu_notifier.h", (2e9, 2e9))


def no_pvh(obj: Path, toy: Path) -> None:
    compiled(toy, obj, HAS.replace("CONFIG_PVH=y\n", ""))


def no_objtool(obj: Path, toy: Path) -> None:
    compiled(toy, obj, HAS + "CONFIG_OBJTOOL=y\n")


def of_another_machine(obj: Path, toy: Path) -> None:
    compiled(toy, obj, HAS.replace("CONFIG_X86_64=y\n", "CONFIG_X86_32=y\n"))


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        (no_link, "its source is not to be found: it has no link to it", "ln -sfn SOURCE"),
        (gone, "its source is not to be found", "ln -sfn SOURCE"),
        (moved_on, "was built as Linux '6.12.7', and its source .* is now 6.12.8", "make -C"),
        (arm, "is built for AARCH64, and guests are x86_64", "ARCH=x86_64"),
        (of_another_machine, "is built for another architecture by its .config", "ARCH=x86_64"),
        (no_elf, "vmlinux is no ELF file", "make -C .* vmlinux"),
        (configured, ".config has changed since it was built: CONFIG_KSM", "make -C"),
        (not_linked, "vmlinux is older than .config", "make -C .*touch .*/vmlinux"),
        (newer_header, "vmlinux is older than include/linux/mmu_notifier.h of its source", "touch"),
        (no_pvh, "neither CONFIG_PVH=y, with which vmlinux itself boots, nor arch/x86/boot/bzImage", "make .* bzImage"),
        (no_objtool, "has no tools/objtool/objtool", "modules_prepare"),
    ],
)
def test_what_is_not_built_to_its_end_is_one_clear_line(
    obj: Path, toy: Path, change: Callable[[Path, Path], None], said: str, hint: str
):
    change(obj, toy)

    with pytest.raises(UsageError, match=f"--built {obj}: .*{said}") as caught:
        built.find(f"built:{obj}")
    assert "\n" not in caught.value.message
    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize("name", [*built._PRODUCTS])
def test_what_is_missing_is_named_with_what_makes_it(obj: Path, name: str):
    (obj / name).unlink()

    with pytest.raises(UsageError, match=f"is not built: it has no {name}") as caught:
        built.find(f"built:{obj}")
    assert caught.value.hint.startswith(f"make -C {obj} ")


@pytest.mark.parametrize("name", ["nowhere", ".config", "a\0b"])
def test_what_is_no_folder_is_a_usage_error(obj: Path, name: str):
    with pytest.raises(UsageError, match="--built"):
        built.find(f"built:{obj / name}")


def test_a_kernel_on_which_no_guest_answers_is_not_booted(obj: Path, toy: Path):
    compiled(
        toy, obj, HAS.replace("CONFIG_VIRTIO_CONSOLE=y", "CONFIG_VIRTIO_CONSOLE=m") + "CONFIG_CMDLINE_OVERRIDE=y\n"
    )

    with pytest.raises(
        ConfigError, match="no guest works without CONFIG_VIRTIO_CONSOLE=y, CONFIG_CMDLINE_OV"
    ) as caught:
        built.find(f"built:{obj}")
    assert "--enable VIRTIO_CONSOLE --disable CMDLINE_OVERRIDE" in caught.value.hint


def test_a_kernel_without_pvh_boots_by_its_bzimage(obj: Path, toy: Path, cache: Path):
    no_pvh(obj, toy)
    image = obj / built.BZIMAGE
    image.parent.mkdir(parents=True)
    image.write_bytes(b"packed")

    assert take(obj, cache).image.read_bytes() == b"packed"


def test_a_tree_in_its_source_and_one_without_a_link_have_their_source(toy: Path, tmp_path: Path):
    compiled(toy, toy)
    other = compiled(toy, tmp_path / "other")
    (other / "Makefile").write_text(f"# made\ninclude {toy}/Makefile\n")

    assert built.find(f"built:{toy}").source == toy
    assert built.find(f"built:{other}").source == toy


def test_strings_are_quoted_in_one_of_the_files_only(obj: Path, toy: Path):
    compiled(toy, obj, HAS + 'CONFIG_BUILD_SALT=""\nCONFIG_LOCALVERSION="-mine"\n')

    assert built.find(f"built:{obj}").config.count("-mine") == 1


def test_no_link_in_the_tree_is_followed(obj: Path, cache: Path, module: Path, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    (obj / "scripts/link").symlink_to(tmp_path / "secret")
    (obj / "include/generated/up").symlink_to(tmp_path)

    modules.build_module(module, take(obj, cache), cache)

    assert list((cache / "trees").glob("built-*/objects/built/obj/scripts/link")) == []
    assert list((cache / "trees").glob("built-*/objects/built/obj/include/generated/up*")) == []


@pytest.mark.parametrize(("text", "used"), [("#define MMU_NOTIFIER_RANGE_MAYFAIL 2\n", "mayfail"), ("", "stock")])
def test_the_contract_is_that_of_its_headers(
    obj: Path, toy: Path, cache: Path, text: str, used: str, monkeypatch: pytest.MonkeyPatch
):
    (toy / "include/linux/mmu_notifier.h").write_text(text)
    os.utime(obj / "vmlinux")
    monkeypatch.setattr("harness.postmortem.examine.types", lambda *_: None)

    prepared = pipeline.prepare(KernelRequest(f"built:{obj}", ()), Instrument(), cache, Said(), Clock())

    assert prepared.contract.used == used
    assert "the source of the built kernel has" in prepared.contract.reason


def test_what_it_has_no_source_for_is_skipped_with_the_reason(obj: Path, cache: Path):
    kernel = take(obj, cache)

    with pytest.raises(CannotTest, match="--built names none"):
        selftests.program("cow", kernel, cache)
    with pytest.raises(CannotTest, match="built without it"):
        modules.in_tree("lib/test_hmm", kernel, cache)


def test_a_module_of_its_own_is_taken_from_it(obj: Path, cache: Path):
    (obj / "lib").mkdir()
    (obj / "lib/test_hmm.ko").write_text("one")
    kernel = take(obj, cache)
    assert modules.in_tree("lib/test_hmm", kernel, cache).read_text() == "one"

    (obj / "lib/test_hmm.ko").write_text("two")

    assert modules.in_tree("lib/test_hmm", kernel, cache).read_text() == "two"


@pytest.mark.parametrize(
    "words",
    [
        ["--source", "debian:6.1"],
        ["--patch", "none"],
        ["--patch", "mayfail"],
        ["--config", "lockdep"],
        ["--base-config", "x.config"],
        ["--compiler", "clang"],
        ["--source", "debian:6.1", "--patch", "none", "--config", "kasan", "--base-config", "x"],
    ],
)
def test_options_that_would_make_a_kernel_are_refused_beside_it(words: list[str]):
    parser = argparse.ArgumentParser()
    _options.kernel(parser)
    given = ", ".join(word for word in words if word.startswith("--"))

    with pytest.raises(UsageError, match=f"--built DIR beside {given}: a kernel that is built already"):
        _options.kernel_request(parser.parse_args(["--built", "DIR", *words]))


def test_it_goes_with_a_contract():
    parser = argparse.ArgumentParser()
    _options.kernel(parser)

    asked = _options.kernel_request(parser.parse_args(["--built", "DIR", "--contract", "stock"]))

    assert (asked.source, asked.patches, asked.contract) == ("built:DIR", (), "stock")


@pytest.mark.parametrize("asked", [{"patches": ("none",)}, {"configs": ("kasan",)}, {"base_config": "x"}])
def test_a_run_directory_that_asks_for_both_is_refused(obj: Path, cache: Path, asked: dict[str, str]):
    request = KernelRequest(**{"source": f"built:{obj}", "patches": (), **asked})  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="is taken as it is"):
        pipeline.prepare(request, Instrument(), cache, Said(), Clock())


def test_what_needs_a_source_says_so(cache: Path):
    with pytest.raises(UsageError, match="--built DIR: is built already, and this needs a source"):
        fetch("built:DIR", cache)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("memcg-eagain", {"MEMCG": "y"}, ""),
        ("memcg-eagain", {}, "needs CONFIG_MEMCG, which this kernel is built without"),
        ("file-backed", {"MEMCG": "y", "BLK_DEV_RAM": "y"}, "needs CONFIG_EXT2_FS, which this kernel is built without"),
        (
            "file-backed",
            {"MEMCG": "y", "BLK_DEV_RAM": "y", "EXT2_FS": "m"},
            "needs CONFIG_EXT2_FS built in, and this kernel has it as a module, which guests do not load",
        ),
    ],
)
def test_a_scenario_is_skipped_with_the_option_that_it_lacks(
    obj: Path, toy: Path, cache: Path, name: str, options: dict[str, str], reason: str
):
    """What our own configurations always have is asked for, too."""
    compiled(toy, obj, HAS + "".join(f"CONFIG_{option}={value}\n" for option, value in options.items()))
    scenario = catalogue.choose([name])[0]

    assert pipeline.missing(scenario, take(obj, cache), Contract.MAYFAIL, cache, Said()) == reason
