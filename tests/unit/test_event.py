# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.host.workspace import data
from harness.model import event
from harness.model.errors import MachineError
from tests.unit.recordings import Log


def packed(records: int, **changes) -> bytes:
    log = Log()
    for _ in range(records):
        log.start()
    fields = {"magic": event.MAGIC, "abi": event.ABI, "size": event.RECORD.size, "count": records, "lost": 0} | changes
    head = event.HEADER.pack(fields["magic"], fields["abi"], fields["size"], 1, fields["count"], fields["lost"], 1024)
    return head + b"".join(event.RECORD.pack(*entry) for entry in log.events)


def test_a_log_is_read_back_as_it_was_written() -> None:
    """Every field in its place."""
    log = event.parse(packed(3, lost=2))

    assert len(log) == 3
    assert log.lost == 2
    assert [entry.seq for entry in log] == [1, 2, 3]
    assert next(iter(log)).strict_direct


@pytest.mark.parametrize(
    "content",
    [b"", b"short", packed(1)[:-1], packed(1, count=2), packed(1, magic=1), packed(1, abi=1), packed(1, size=96)],
)
def test_a_log_that_is_none_is_refused_in_one_line(content: bytes) -> None:
    """Torn, foreign or of another ABI."""
    with pytest.raises(MachineError) as caught:
        event.parse(content)

    assert "\n" not in str(caught.value)


def test_a_run_without_a_log_has_an_empty_one(tmp_path: Path) -> None:
    """A guest that went away leaves none."""
    assert len(event.read(tmp_path / "none.bin")) == 0


def test_the_layout_is_the_module_s() -> None:
    """Names and order of struct nh_event, ABI number, size and kinds agree with the header."""
    header = (data("guest-modules") / "notifier_hold" / "notifier_hold_uapi.h").read_text()
    body = header.split("struct nh_event {")[1].split("};")[0]
    names = re.findall(r"__[us]\d+\s+(\w+);", body)
    kinds = re.findall(r"^\tNH_(\w+)", header.split("enum nh_kind {")[1].split("};")[0], re.MULTILINE)

    assert tuple(names) == event.Event._fields
    assert f"#define NH_ABI\t\t\t{event.ABI}\n" in header
    assert event.RECORD.size == 112
    assert kinds == [kind.name for kind in event.Kind]
