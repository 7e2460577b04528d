# SPDX-License-Identifier: GPL-2.0-only
"""docs/how-to/your-kernel.md: what it shows is said, what it names is there, and its commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from harness.cli import parse
from harness.kernel import config
from harness.kernel.config import Fragment
from harness.variants import catalogue

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/your-kernel.md").read_text(encoding="utf-8")
BUILT = (ROOT / "harness/kernel/built.py").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def test_each_refusal_that_it_lists_is_one_of_ours():
    """A … stands for what differs from one tree to the next."""
    _, _, table = PAGE.partition("| said | what to do |")
    said = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)

    assert len(said) == 9
    for sentence in said:
        for part in re.split(r"…|arch/x86\S+", sentence):
            for words in part.strip(" ,").split(", nor "):
                assert words in BUILT, sentence


def test_its_commands_parse_and_its_scenarios_are_there():
    commands = [shlex.split(line) for line in (*blocks("console"), *blocks("sh")) if "bin/harness" in line]

    assert len(commands) == 5
    for line in commands:
        words = line[line.index(".venv/bin/harness") + 1 :]
        parsed = parse([word.replace("RUN", str(ROOT)) for word in words])
        catalogue.choose(getattr(parsed, "scenarios", []))


def test_the_conflict_that_it_shows_is_told_so():
    (shown,) = blocks("text")
    path = ROOT / "kernel-configs/guest.config"
    guest = Fragment("guest", path, path.read_text(encoding="utf-8"))
    base = Fragment("theirs", Path("theirs"), "CONFIG_VIRTIO_BLK=m\n", whole=True)

    assert shown in config.compromises([base, guest], "6.12", "CONFIG_VIRTIO_BLK=y\n", ROOT)


def test_each_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)

    assert links
    assert [link for link in links if not (ROOT / "docs/how-to" / link).exists()] == []
