# SPDX-License-Identifier: GPL-2.0-only
"""The documents as a site: each link leads somewhere, each page is found, and files from outside stay outside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.kernel import versions
from harness.variants import mutants
from setup.site import pages, staging

ROOT = Path(__file__).resolve().parents[2]
# Read where they lie, not on the site.
BESIDE = ("README.md", "CONTRIBUTING.md", "examples/README.md", "scenarios/README.md", "kernel-configs/README.md")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the site is made of."""
    place = tmp_path_factory.mktemp("site") / "pages"
    staging.stage(ROOT, place)
    return place


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a page and without anything that is generated."""
    monkeypatch.setattr(pages, "generated", lambda _: iter(()))
    (tmp_path / "docs/how-to").mkdir(parents=True)
    (tmp_path / "docs/index.md").write_text("# The first\n")
    (tmp_path / "LICENSE").write_text("text")
    return tmp_path


def test_each_link_of_the_site_leads_somewhere(staged: Path) -> None:
    assert staging.dead(staged) == []


@pytest.mark.parametrize("name", BESIDE)
def test_each_relative_link_of_a_page_beside_the_site_leads_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    folder = (ROOT / name).parent

    assert [link for link in staging.links(text) if not (folder / link).exists()] == []
    for link, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
        assert anchor in staging.anchors(folder / link if link else ROOT / name), f"{link}#{anchor}"


def test_every_page_is_in_the_navigation_once(staged: Path) -> None:
    index, *sections = staging.navigation(staged)
    listed = [index, *(name for section in sections for names in section.values() for name in names)]

    assert sorted(listed) == sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*.md"))
    assert [title for section in sections for title in section] == list(staging.SECTIONS.values())
    titles = [staging.title(staged / name) for name in listed]
    assert len(set(titles)) == len(titles)


def test_a_page_that_nobody_sorted_is_a_how_to(small: Path) -> None:
    (small / "docs/history.md").write_text("# What was\n")

    navigation = staging.stage(small, small / "pages")

    assert {"How to": ["history.md"]} in navigation


def test_a_link_to_a_file_of_the_checkout_leads_to_a_copy_in_the_site(small: Path) -> None:
    (small / "docs/how-to/one.md").write_text("# One\n[it](../../LICENSE), [this](../index.md), [far](https://a.b/c)\n")

    staging.stage(small, small / "pages")

    text = (small / "pages/how-to/one.md").read_text()
    assert "[it](../files/LICENSE), [this](../index.md), [far](https://a.b/c)" in text
    assert (small / "pages/files/LICENSE").read_text() == "text"
    assert staging.dead(small / "pages") == []


@pytest.mark.parametrize("link", ["../../gone", "../../../etc/passwd", "../../docs", "../.."])
def test_a_link_that_leads_to_no_file_of_the_checkout_is_refused(small: Path, link: str) -> None:
    (small / "docs/how-to/one.md").write_text(f"# One\n[it]({link})\n")

    with pytest.raises(ValueError, match=r"one\.md: .* is no file of the checkout"):
        staging.stage(small, small / "pages")


@pytest.mark.parametrize("link", ["two.md", "../index.md#second", "#nowhere"])
def test_a_dead_link_is_noticed(small: Path, link: str) -> None:
    (small / "docs/how-to/one.md").write_text(f"# One\n[it]({link})\n```text\n[not](a-link.md)\n```\n")
    staging.stage(small, small / "pages")

    assert len(staging.dead(small / "pages")) == 1


def test_the_kernels_and_numbers_of_mutants_are_those_that_there_are() -> None:
    page = (ROOT / "docs/how-to/other-kernels.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (\d+\.\d+).*\| \D*?(\d+)[^|]*\|$", page, re.MULTILINE))

    assert told == {version: str(len(mutants.choose([], version)[0])) for version in versions.served()}


def test_what_was_staged_before_is_gone(small: Path) -> None:
    shutil.copytree(small / "docs", small / "pages")
    (small / "pages/old.md").write_text("# Old\n")

    staging.stage(small, small / "pages")

    assert not (small / "pages/old.md").exists()
