# SPDX-License-Identifier: GPL-2.0-only
"""Fragments: merged, then verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host import workspace
from harness.kernel import config, kconfig, toolchain
from harness.kernel.config import Fragment
from harness.model.errors import ConfigError, UsageError

pytestmark = pytest.mark.usefixtures("variants")


def fragment(text: str) -> Fragment:
    return Fragment("f", Path("f.config"), text)


def resolve(toy: Path, tmp_path: Path, cache: Path, *names: str) -> str:
    fragments = config.load(names)
    return config.resolve(fragments, "6.12.7", toy, tmp_path / "scratch", toolchain.find("gcc"), cache).text


def test_base_comes_first_and_once():
    """This holds whether it is named or not."""
    assert [f.name for f in config.load(["zram", "base", "zram"])] == ["base", "zram"]


def test_an_unknown_fragment_offers_the_nearest():
    """A typing error costs one look."""
    with pytest.raises(UsageError) as caught:
        config.load(["zrma"])

    assert "zram" in caught.value.hint


def test_a_merged_configuration_holds_what_was_asked(toy: Path, tmp_path: Path, cache: Path):
    """Base and fragment together, by the tree's own scripts."""
    values = kconfig.values(resolve(toy, tmp_path, cache, "zram"))

    assert values == {"SWAP": "y", "ZRAM": "y", "KEPT": "y"}


def test_a_later_fragment_wins(toy: Path, tmp_path: Path, cache: Path):
    """A user's file may override what base asks for."""
    (tmp_path / "mine.config").write_text("# CONFIG_SWAP is not set\n")

    assert "SWAP" not in kconfig.values(resolve(toy, tmp_path, cache, str(tmp_path / "mine.config")))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("CONFIG_ZRAM=y\n# CONFIG_SWAP is not set\n",
         r"CONFIG_ZRAM=y \(mine.config:1\).*: unmet: SWAP \[=n\] \(lib/Kconfig:2\)"),
        ("\nCONFIG_NOWHERE=y\n", r"CONFIG_NOWHERE=y \(mine.config:2\) became n: this kernel has no such option"),
        ("CONFIG_MMU_NOTIFIER=y\n", r"CONFIG_MMU_NOTIFIER=y .* no prompt \(Kconfig:14\); selected by TEST_HMM"),
        ("CONFIG_TINY=y\nCONFIG_TEST_HMM=m\n",
         r"CONFIG_TEST_HMM=m .*unmet: SWAP \[=y\] && !TINY \[=y\] \(Kconfig:19\)"),
        ("# CONFIG_KEPT is not set\n", r"CONFIG_KEPT=n .* became y: on by default \(lib/Kconfig:7\)"),
    ],
)  # fmt: skip
def test_a_dropped_option_is_named_with_its_reason(asked, said, toy: Path, tmp_path: Path, cache: Path):
    """Option, fragment, line, and the dependency that is not met, with its own line."""
    (tmp_path / "mine.config").write_text(asked)

    with pytest.raises(ConfigError, match=said):
        resolve(toy, tmp_path, cache, str(tmp_path / "mine.config"))


def test_options_may_belong_to_some_kernels_only():
    """`since` includes its version, `until` does not, and both end at an empty line."""
    text = (
        "CONFIG_A=y\n# since 6.12\nCONFIG_B=y\n\n# until 6.12\nCONFIG_C=y\n\n"
        "# since 6.2 until 6.5\nCONFIG_D=y\n\nCONFIG_E=y\n"
    )

    def symbols(version):
        return "".join(request.symbol for request in config.requests(fragment(text), version))

    assert symbols("6.12.1") == "ABE"
    assert symbols("6.1.192") == "ACE"
    assert symbols("6.2") == "ACDE"
    assert symbols("6.5") == "ACE"


@pytest.mark.parametrize("text", ["CONFIG_A=y\nCONFIG_A=n\n", "CONFIG A=y\n", "A=y\n"])
def test_a_line_that_is_no_option_is_a_usage_error(text):
    """Two lines that contradict each other in one file are a usage error, too."""
    with pytest.raises(UsageError, match=r"f\.config:"):
        config.requests(fragment(text), "6.12")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("A", True), ("B", False), ("!B", True), ("A && B", False), ("A || B", True), ("B || (A && !B)", True),
        ("M", True), ("!M", True), ("A = y", True), ("B = n", True), ("A != y", False), ('S = "x"', True),
        ("N >= 1200", True), ("N < 12", False), ("$(success,true)", True), ("B && $(cc-option,-x)", False),
    ],
)  # fmt: skip
def test_expressions_are_judged_as_kconfig_does(expression, expected):
    """Expressions have three values: the negation of m is m."""
    assert kconfig.holds(expression, {"A": "y", "M": "m", "S": '"x"', "N": "1200"}) is expected


def test_the_projects_own_fragments_are_well_formed(monkeypatch: pytest.MonkeyPatch):
    """Each is readable for every kernel series, and says what it is for in its first comment."""
    monkeypatch.undo()
    for path in sorted(workspace.data("kernel-configs").glob("*.config")):
        found = config.load([path.stem])[-1]
        assert config.requests(found, "6.1")
        assert config.requests(found, "6.12")
        assert found.text.splitlines()[1].startswith("# ")
