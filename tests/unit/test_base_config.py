# SPDX-License-Identifier: GPL-2.0-only
"""--base-config: a user's whole .config under what guests need; what becomes of it is told, and is no error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import parse
from harness.commands import bisect, mutants
from harness.host import process, workspace
from harness.kernel import bootable, config, kconfig, patches
from harness.kernel import build as builds
from harness.kernel.build import KernelBuild
from harness.kernel.config import Fragment, Request
from harness.kernel.objects import ObjectTree
from harness.kernel.source import fetch
from harness.model.errors import ConfigError, UsageError
from harness.model.instrument import Instrument
from harness.run.pipeline import KernelRequest, RunRequest
from harness.variants import catalogue
from tests.unit.conftest import Said
from tests.unit.fuzzing import fuzz


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy kernel has nothing that a guest needs."""
    monkeypatch.setattr(bootable, "NEEDED", ())


def theirs(folder: Path, text: str) -> str:
    path = folder / "theirs.config"
    path.write_text(text)
    return str(path)


def build(toy: Path, cache: Path, base: str, *names: str, said: Said | None = None) -> KernelBuild:
    source = fetch(str(toy), cache)
    series = patches.load(["none"], source.version)
    return builds.build(source, series, config.load(names, base), cache, said or Said())


@pytest.mark.usefixtures("variants", "lenient")
def test_the_file_takes_the_place_of_tinyconfig_and_base(toy: Path, cache: Path, tmp_path: Path):
    kernel = build(toy, cache, theirs(tmp_path, "CONFIG_SWAP=y\nCONFIG_ZRAM=y\n"))

    assert kconfig.values(kernel.config.read_text()) == {"SWAP": "y", "ZRAM": "y", "KEPT": "y", "TEST_HMM": "m"}


@pytest.mark.usefixtures("variants", "lenient")
def test_what_it_lacks_is_told_and_what_it_cannot_have_too(toy: Path, cache: Path, tmp_path: Path):
    """Each with the place that asks for it; the kernel is built all the same."""
    base = theirs(tmp_path, "# CONFIG_SWAP is not set\nCONFIG_TINY=y\nCONFIG_OF_ANOTHER_KERNEL=y\n")

    kernel = build(toy, cache, base)

    assert list(kernel.told) == [
        "CONFIG_SWAP: the file says n, guest needs y (guest.config:1)",
        "CONFIG_TEST_HMM: guest needs m (guest.config:2), and it stays n: unmet: SWAP [=y] && !TINY [=y] (Kconfig:19)",
        "not as in the file, because of these, this kernel's own rules or this compiler: CONFIG_OF_ANOTHER_KERNEL",
    ]


@pytest.mark.usefixtures("variants", "lenient")
def test_the_same_is_told_of_a_kernel_that_was_built_before(
    toy: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = theirs(tmp_path, "CONFIG_TINY=y\n")
    first = build(toy, cache, base)
    monkeypatch.setattr(ObjectTree, "run", lambda *_args, **_kwargs: pytest.fail("make was called"))

    second = build(toy, cache, base)

    assert second.cached
    assert second.key == first.key
    assert second.told == first.told != ()


@pytest.mark.usefixtures("variants", "lenient")
@pytest.mark.parametrize(("text", "made"), [("CONFIG_SWAP=y\n", True), ("CONFIG_TINY=y\n", False)])
def test_only_the_modules_that_are_needed_are_made(toy: Path, cache: Path, tmp_path: Path, text: str, made: bool):
    """A distribution's file has thousands."""
    build(toy, cache, theirs(tmp_path, text))
    (objects,) = (cache / "trees").glob("*/objects/theirs-*+guest-gcc/obj")

    assert (objects / "prepared").exists()
    assert (objects / "Module.symvers").exists()
    assert (objects / "lib/test_hmm.ko").exists() is made


@pytest.mark.usefixtures("variants", "lenient")
def test_where_the_file_is_does_not_matter(toy: Path, cache: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = build(toy, cache, theirs(tmp_path / "a", "CONFIG_SWAP=y\n"))

    assert build(toy, cache, theirs(tmp_path / "b", "CONFIG_SWAP=y\n")).cached
    assert not first.cached


@pytest.mark.usefixtures("variants")
def test_a_kernel_on_which_no_guest_answers_is_not_built(toy: Path, cache: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="no guest works without CONFIG_64BIT=y, CONFIG_MODULES=y"):
        build(toy, cache, theirs(tmp_path, "CONFIG_SWAP=y\n"))


@pytest.mark.usefixtures("variants")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "sets no option"),
        (b"# a comment\n", "sets no option"),
        (b"\x1f\x8b\x08\x00", "is not text: byte 1 is not UTF-8"),
        (b"hello\n", "'hello' is no option"),
        (b'CONFIG_LOCALVERSION="$(shell touch /tmp/x)"\n', "the value of CONFIG_LOCALVERSION has a '\\$', which make"),
        (b'CONFIG_LOCALVERSION="`touch /tmp/x`"\n', "has a '`'"),
    ],
)
def test_what_is_no_configuration_is_a_usage_error(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "x.config"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=f"--base-config .*{said}"):
        config.load([], str(path))


@fuzz(50)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=40))
def test_no_value_of_a_fragment_is_run_by_make(value: str):
    """Whatever is around them: make expands $ in include/config/auto.conf, and a shell backquotes."""
    fragment = Fragment("f", Path("f.config"), f'CONFIG_X="{value}"\n')
    try:
        asked = config.requests(fragment, "6.12")
    except UsageError:
        return
    assert not any(set("$`") & set(request.value) for request in asked)


@pytest.mark.parametrize(
    ("wanted", "has", "met"),
    [
        ("20", {"X": "20"}, True), ("20", {"X": "21"}, True), ("20", {"X": "17"}, False), ("20", {}, False),
        ("m", {"X": "y"}, True), ("m", {"X": "m"}, True), ("y", {"X": "m"}, False), ("m", {}, False),
        ("n", {}, True), ("n", {"X": "y"}, False), ('""', {}, True), ('""', {"X": '"a"'}, False),
    ],
)  # fmt: skip
def test_a_larger_number_is_enough_and_a_module_may_be_built_in(wanted: str, has: dict[str, str], met: bool):
    assert Request("X", wanted, "").met(has, least=True) is met
    assert Request("X", wanted, "").met(has) is (has.get("X", "n") == wanted)


def ours(name: str, version: str) -> dict[str, str]:
    path = workspace.data("kernel-configs") / f"{name}.config"
    fragment = Fragment(name, path, path.read_text(encoding="utf-8"))
    return {request.symbol: request.value for request in config.requests(fragment, version)}


@pytest.mark.parametrize("version", ["6.1", "6.12", "7.3"])
def test_guest_asks_for_nothing_that_base_has_otherwise(version: str):
    base = ours("base", version)

    assert {name: value for name, value in ours("guest", version).items() if base.get(name, value) != value} == {}


def test_guest_has_what_guests_and_the_default_scenarios_need():
    """An option of base that a scenario needs is an option of guest."""
    guest, base = ours("guest", "6.12"), ours("base", "6.12")
    needed = {name for one in catalogue.scenarios().values() for name in one.needs.options if name in base}

    assert needed - guest.keys() == set()
    assert {name for name in bootable.NEEDED if guest.get(name) != "y"} == {"MMU_NOTIFIER"}
    assert {name: guest[name] for name in bootable.REFUSED} == dict.fromkeys(bootable.REFUSED, "n")


def test_ours_can_be_used_by_guests_where_kconfig_agrees():
    values = ours("guest", "6.12") | {"MMU_NOTIFIER": "y"}

    assert bootable.lacking(values) == []
    assert bootable.lacking(values | {"VIRTIO_PCI": "m", "MODULE_SIG_FORCE": "y"}) == [
        "CONFIG_VIRTIO_PCI=y",
        "CONFIG_MODULE_SIG_FORCE=n",
    ]


def test_a_search_on_another_configuration_is_another_question(tmp_path: Path):
    """Else it would go on with the answers of the first; what a search tries has it, too."""

    def question(text: str) -> object:
        words = ["--config-good", "lockdep", "--config-bad", "kasan", "--base-config", theirs(tmp_path, text)]
        return bisect._question(parse(["bisect", *words]), None, [])

    assert question("CONFIG_SWAP=y\n") == question("CONFIG_SWAP=y\n") != question("CONFIG_ZRAM=y\n")


def test_a_mutant_is_run_on_the_same_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen: list[str] = []

    def run(argv: list[str], **_: object) -> process.Completed:
        seen.extend(argv)
        return process.Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(process, "run", run)
    request = RunRequest(KernelRequest(base_config="theirs.config"), Instrument(), ())

    mutants._run(request, ["x.patch"], [], tmp_path, 1)

    assert seen[seen.index("--base-config") + 1] == "theirs.config"
