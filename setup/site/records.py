# SPDX-License-Identifier: GPL-2.0-only
"""The reference of the event log: its layout, the kinds of its records, and what their fields mean."""

from __future__ import annotations

from harness.model import event, glossary
from setup.site import markdown
from setup.site.markdown import code

_TYPES = {"Q": "u64", "I": "u32", "i": "s32", "B": "u8"}


def render() -> str:
    """The page."""
    letters = "Q" * 10 + event.RECORD.format.removeprefix("<10Q")
    return markdown.page(
        "Event log",
        f"`events/NAME.bin` of a run has what the module saw, in format {event.FORMAT}: a header of "
        f"{event.HEADER.size} bytes, then records of {event.RECORD.size} bytes, little endian. "
        "`harness report RUN --perfetto FILE` writes it as a trace; a test reads it as `observed.events`.",
        "## Kinds of records",
        markdown.table(
            ("kind", "number", "what it is"),
            ((code(kind.name), str(kind.value), glossary.EVENTS[kind.name]) for kind in event.Kind),
        ),
        "## Fields of a record",
        markdown.table(
            ("field", "type", "what it says"),
            (
                (code(name), _TYPES[letter], glossary.FIELDS[name])
                for name, letter in zip(event.Event._fields, letters, strict=True)
            ),
        ),
        "## Events of a range",
        markdown.table(
            ("event", "number", "what it is"),
            (
                (code(one.name), str(one.value), glossary.COUNTERS[f"event_{one.name.lower()}"])
                for one in event.RangeEvent
            ),
        ),
    )
