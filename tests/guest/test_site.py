# SPDX-License-Identifier: GPL-2.0-only
"""The site as it is built: strictly, and without a request to another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.host.workspace import cache_dir
from setup.site import rendering, staging
from tests.guest.command import ROOT

# It boots nothing, and fetches 30 packages the first time.
pytestmark = pytest.mark.nightly

# What a browser fetches by itself, wherever the address leads; a link is followed by a person.
_FETCHED = {"src", "srcset", "data", "poster", "background", "action"}
_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")


class Page(HTMLParser):
    """The addresses that a page has a browser fetch, and the policies in its head."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.policies: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag has a browser do."""
        told = {name: value or "" for name, value in attrs}
        self.fetched += [value for name, value in told.items() if name in _FETCHED]
        if tag == "link" and told.get("rel") != "canonical":
            self.fetched.append(told["href"])
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(told["content"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    where, said = rendering.render(ROOT, tmp_path_factory.mktemp("docs"), cache_dir())
    assert said == ""
    return where


def test_it_asks_no_other_host_for_anything(site: Path) -> None:
    """And its policy would not allow a script to."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}

    assert len(pages) > 25
    assert [(path.name, url) for path, page in pages.items() for url in page.fetched if "//" in url] == []
    policies = {policy for page in pages.values() for policy in page.policies}
    assert all(len(page.policies) == 1 for page in pages.values())
    assert len(policies) == 1
    assert "default-src 'none'" in policies.pop()
    assert [path.name for path in site.rglob("*.css") if _STYLES.search(path.read_text(encoding="utf-8"))] == []


def test_the_schemas_are_published(site: Path) -> None:
    published = site / "reference/schemas/verdict.json"

    assert published.read_bytes() == (ROOT / "harness/model/schemas/verdict.json").read_bytes()


def test_a_page_with_a_dead_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MkDocs sees it, with its own idea of an anchor."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/index.md").write_text("# One\n\n[it](#two)\n")
    monkeypatch.setattr(staging, "stage", lambda *_: ["index.md"])

    _, said = rendering.render(ROOT, tmp_path, cache_dir())

    assert "#two" in said
