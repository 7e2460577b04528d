# SPDX-License-Identifier: GPL-2.0-only
"""The commands without us: a script that works, whatever the names in it, and that shows a person what is done."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.guest import image as images
from harness.guest.image import GuestImage
from harness.kernel import build as builds
from harness.kernel import config, patches, toolchain
from harness.kernel.build import Recipe
from harness.kernel.source import fetch
from harness.model.instrument import Instrument
from harness.run import recipe as recipes
from harness.variants import catalogue
from tests.unit.conftest import Said, diff, git
from tests.unit.fuzzing import fuzz
from tests.unit.test_built import compiled


@pytest.fixture(autouse=True)
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's root is not what is tested."""
    (tmp_path / "root.cpio").write_bytes(b"")
    made = GuestImage(tmp_path / "root.cpio", tmp_path, "key", 0.0)
    monkeypatch.setattr(images, "assemble", lambda *_args, **_kwargs: made)


@pytest.fixture
def hold(tmp_path: Path) -> Instrument:
    """A module that the toy kernel's make can build."""
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold/hold.c").write_text("int hold;\n")
    return Instrument(module=tmp_path / "hold")


def asked(spec: str, cache: Path, series: list[str], base: str = "") -> Recipe:
    source = fetch(spec, cache)
    found = patches.load(series, source.version)
    return Recipe(source, found, tuple(config.load([], base)), toolchain.find("gcc"))


def checked(text: str, folder: Path) -> None:
    """Nothing for shellcheck to say; it reads the script as sh does, and would find an open quote."""
    (folder / "checked.sh").write_bytes(text.encode(errors="surrogateescape"))
    done = subprocess.run(["shellcheck", folder / "checked.sh"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("variants")
@pytest.mark.parametrize("kind", ["directory", "repository", "git", "tarball"])
def test_the_script_makes_the_kernel_that_the_harness_makes(
    kind: str, toy: Path, cache: Path, tmp_path: Path, hold: Instrument
):
    """From each kind of source, with a patch: the build id is the same."""
    if kind in ("repository", "git"):
        git(toy, "init", "-q")
        git(toy, "add", ".")
        git(toy, "commit", "-qm", "toy")
    subprocess.run(["tar", "-cf", tmp_path / "toy.tar", "-C", tmp_path, "toy"], check=True)
    spec = {"git": f"git:{toy}@HEAD", "tarball": str(tmp_path / "toy.tar")}.get(kind, str(toy))
    mine = tmp_path / "it's mine $(x).patch"
    mine.write_text(diff("mm/rmap.c", "start(0)", "start(3)"))
    recipe = asked(spec, cache, [str(mine)])
    kernel = builds.build(recipe.source, recipe.series, recipe.fragments, cache, Said())

    text = recipes.write(recipe, [], hold, "tcg", tmp_path / "recipe", cache)
    done = subprocess.run(
        ["sh", tmp_path / "recipe" / recipes.SCRIPT, tmp_path / "work"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "STOP": "build"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"Build ID: {kernel.build_id}" in done.stdout
    assert (tmp_path / "work/obj/.config").read_text() == kernel.config.read_text()
    assert (tmp_path / "work/hold/hold.ko").exists()
    checked(text, tmp_path)


@pytest.mark.usefixtures("variants")
def test_a_users_whole_configuration_is_the_base(toy: Path, cache: Path, tmp_path: Path, hold: Instrument):
    (tmp_path / "whole.config").write_text("CONFIG_SWAP=y\nCONFIG_ZRAM=y\n")
    recipe = asked(str(toy), cache, ["none"], str(tmp_path / "whole.config"))

    text = recipes.write(recipe, [], hold, "kvm", tmp_path / "recipe", cache)

    assert "tinyconfig" not in text
    assert '"$files/config/0-whole.config" "$files/config/1-guest.config"' in text
    assert (tmp_path / "recipe/config/0-whole.config").read_text() == (tmp_path / "whole.config").read_text()
    # The file has SWAP.
    assert (tmp_path / "recipe/config/1-guest.config").read_text() == "CONFIG_TEST_HMM=m\n"
    assert "build vmlinux modules_prepare" in text
    checked(text, tmp_path)


def test_a_built_kernel_needs_only_the_module(toy: Path, cache: Path, tmp_path: Path, hold: Instrument):
    from harness.kernel import built

    obj = compiled(toy, tmp_path / "obj")
    (obj / "source").symlink_to(toy)
    spec = f"built:{obj}"

    text = recipes.write(builds.owned(spec, built.find(spec)), [], hold, "tcg", tmp_path / "recipe", cache)

    assert "git apply" not in text
    assert "merge_config" not in text
    assert f"-kernel {obj}/vmlinux" in text
    assert f"O={obj}" in text
    checked(text, tmp_path)


@pytest.mark.usefixtures("variants")
def test_qemu_gets_files_and_a_terminal_in_the_place_of_sockets(
    toy: Path, cache: Path, tmp_path: Path, hold: Instrument
):
    text = recipes.write(asked(str(toy), cache, ["none"]), [], hold, "tcg", tmp_path / "recipe", cache)
    command = text[text.index("exec qemu") :]

    assert "fd=" not in command
    assert "fdset" not in command
    assert "@" not in command
    assert "stdio,id=terminal" in command
    assert 'file.filename=$work/swap"' in command


def test_the_scenarios_commands_are_beside_it(toy: Path, cache: Path, tmp_path: Path, hold: Instrument):
    scenarios = catalogue.choose(["signals-storm"])

    recipes.write(asked(str(toy), cache, ["none"]), scenarios, hold, "tcg", tmp_path / "recipe", cache)

    lines = (tmp_path / "recipe/scenarios/signals-storm").read_text().splitlines()
    assert lines[0] == "mark text=begin:signals-storm"
    assert any(line.startswith("subscribe name=device buffer=held ") for line in lines)


@fuzz(25)
@given(st.text(max_size=30), st.sampled_from(["/@work", "/@files", ""]))
def test_no_word_leaves_its_quotes(text: str, place: str):
    """Only our own variables are the shell's; everything else stays as it is."""
    word = f"{place}{text}".replace("\0", "").replace("\r", "")
    raw = word.encode(errors="surrogatepass")
    script = f"work=W files=F\nprintf %s {recipes._word(word)}"
    done = subprocess.run(
        ["sh", "-c", script.encode(errors="surrogatepass")],
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )

    assert done.stderr == b""
    assert done.stdout == raw.replace(b"/@work", b"W").replace(b"/@files", b"F")


@pytest.mark.usefixtures("variants")
def test_a_name_with_a_line_of_its_own_adds_no_command(cache: Path, tmp_path: Path, toy: Path, hold: Instrument):
    evil = tmp_path / "a\ntouch pwned\n\x1b[2J"
    toy.rename(evil)
    recipe = asked(str(evil), cache, ["none"])

    text = recipes.write(recipe, [], hold, "tcg", tmp_path / "recipe", cache)

    assert not re.search(r"^# .*\x1b", text, re.MULTILINE)
    commands = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    assert "touch pwned" not in re.sub(r"'[^']*'", "", commands)


def test_report_prints_the_recipe_of_a_run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]):
    script = tmp_path / "run/kernel/recipe/recipe.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes(b"#!/bin/sh\necho \xff\n")

    assert main(["report", "--print-recipe", str(tmp_path / "run")]) == 0
    assert capfdbinary.readouterr().out == b"#!/bin/sh\necho \xff\n"


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_a_run_without_a_recipe_is_a_usage_error(tmp_path: Path, kind: str, capfdbinary: pytest.CaptureFixture[bytes]):
    """A link may lead to any file of the machine."""
    script = tmp_path / "run/kernel/recipe/recipe.sh"
    script.parent.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    if kind == "link":
        script.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        script.mkdir()

    assert main(["report", "--print-recipe", str(tmp_path / "run")]) == 129
    assert b"secret" not in capfdbinary.readouterr().out


def test_a_recipe_of_a_run_that_goes_on_is_not_printed(tmp_path: Path):
    assert main(["run", "--resume", str(tmp_path), "--print-recipe"]) == 129
