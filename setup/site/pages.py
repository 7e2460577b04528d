# SPDX-License-Identifier: GPL-2.0-only
"""Which pages are generated: the name of each below docs/, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.model.documents import SCHEMAS
from setup.site import commands, documents, plugin, records, variants, words


def generated(root: Path) -> Iterator[tuple[str, str]]:
    """Each page, and each schema beside them. root: of the checkout."""
    yield "reference/commands.md", commands.render(root)
    yield "reference/scenario-files.md", words.keys()
    yield "reference/verbs.md", words.verbs()
    yield "reference/counters.md", words.counters()
    yield "reference/oracles.md", variants.oracles()
    yield "reference/scenarios.md", variants.scenarios()
    yield "reference/configurations.md", variants.configs()
    yield "reference/patches.md", variants.patches()
    yield "reference/mutants.md", variants.faults()
    yield "reference/event-log.md", records.render()
    yield "reference/verdict.md", documents.verdict()
    yield "reference/documents.md", documents.others()
    yield "reference/pytest.md", plugin.render()
    for name in documents.names():
        yield f"reference/{documents.PUBLISHED}/{name}.json", (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    yield f"reference/{documents.PUBLISHED}/scenario.json", words.schema()
