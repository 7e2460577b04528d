# SPDX-License-Identifier: GPL-2.0-only
"""Everything that the site is made of, in one folder: the pages of docs/, those that are generated, linked files."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from setup.site import pages

INDEX = "index.md"
# The folders of docs/, and what readers see of them. A page beside the folders is a how-to.
SECTIONS: Mapping[str, str] = {
    "tutorial": "Tutorial",
    "how-to": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
}
# The pages that are read in an order; others follow by their title.
ORDER = ("first-run", "your-patch", "your-driver", "your-test", "invariants", "how-it-works", "commands")
# Where files of the checkout go that a page links to.
FILES = "files"

_FENCED = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_FOREIGN = re.compile(r"[a-z]+:")


def stage(root: Path, place: Path) -> list[Any]:
    """Fill a folder with the site's pages, and return the order in which readers see them, as MkDocs takes it."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / "docs", place)
    for name, text in pages.generated(root):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for page in sorted((root / "docs").rglob("*.md")):
        name = page.relative_to(root / "docs").as_posix()
        told = _linked(page.read_text(encoding="utf-8"), root, name, place)
        (place / name).write_text(told, encoding="utf-8")
    return navigation(place)


def links(text: str) -> Iterator[str]:
    """Where the relative links of a page lead, without the part behind a #."""
    for _, target, _ in _LINK.findall(_FENCED.sub("", text)):
        if not _FOREIGN.match(target):
            yield target


def navigation(place: Path) -> list[Any]:
    """The pages by their sections."""
    found: list[Any] = [INDEX]
    loose = [path for path in place.glob("*.md") if path.name != INDEX]
    for folder, title in SECTIONS.items():
        inner = [*(place / folder).glob("*.md"), *(loose if folder == "how-to" else ())]
        found.append({title: [path.relative_to(place).as_posix() for path in sorted(inner, key=_rank)]})
    return found


def title(path: Path) -> str:
    """The title of a page."""
    found = _TITLE.search(path.read_text(encoding="utf-8"))
    return found[1] if found else path.stem


def _rank(path: Path) -> tuple[int, str]:
    return ORDER.index(path.stem) if path.stem in ORDER else len(ORDER), title(path).casefold()


def _linked(text: str, root: Path, name: str, place: Path) -> str:
    """A page whose links to files of the checkout outside docs/ lead to a copy of them in the site.

    Raises ValueError for a link that leads to no file.
    """

    def lead(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if _FOREIGN.match(target):
            return found[0]
        aim = posixpath.normpath(posixpath.join("docs", posixpath.dirname(name), target))
        if aim.startswith("docs/"):
            return found[0]
        if aim.startswith("..") or not (root / aim).is_file():
            raise ValueError(f"docs/{name}: {target} is no file of the checkout")
        # As text: MkDocs would make a page of Markdown, whose own links lead elsewhere.
        copy = f"{FILES}/{aim}.txt" if aim.endswith(".md") else f"{FILES}/{aim}"
        (place / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / aim, place / copy)
        return f"{before}{os.path.relpath(copy, posixpath.dirname(name) or '.')}{after}"

    return _outside(_FENCED, text, lambda part: _LINK.sub(lead, part))


def _outside(pattern: re.Pattern[str], text: str, change: Any) -> str:
    """A text with everything changed but what matches."""
    parts: list[str] = []
    end = 0
    for found in pattern.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def dead(place: Path) -> Sequence[str]:
    """Links of the pages that lead to no file or, behind a #, to no heading of a page."""
    found = []
    for page in sorted(place.rglob("*.md")):
        text = _FENCED.sub("", page.read_text(encoding="utf-8"))
        for _, target, after in _LINK.findall(text):
            if _FOREIGN.match(target):
                continue
            aim = page.parent / target
            anchor = after[1:-1]
            if not aim.is_file() or (anchor and anchor not in anchors(aim)):
                found.append(f"{page.relative_to(place)}: {target}{after[:-1]}")
        found += [
            f"{page.relative_to(place)}: #{anchor}"
            for anchor in re.findall(r"\]\(#([^)]+)\)", text)
            if anchor not in anchors(page)
        ]
    return found


def anchors(page: Path) -> set[str]:
    """The headings of a page, as the links to them are written."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one.casefold()).strip()) for one in headings}
