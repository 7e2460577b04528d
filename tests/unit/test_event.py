# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from harness.model import event
from harness.model.errors import MachineError
from harness.model.event import PF_KSWAPD, PF_MEMALLOC
from tests.unit.recordings import Log


def packed(records: int, **changes) -> bytes:
    log = Log()
    for _ in range(records):
        log.start()
    whole = log.packed()
    fields = {
        "magic": event.MAGIC,
        "format": event.FORMAT,
        "size": event.RECORD.size,
        "count": records,
        "lost": 0,
    } | changes
    head = event.HEADER.pack(
        fields["magic"], fields["format"], fields["size"], 1, fields["count"], fields["lost"], 1024
    )
    return head + whole[event.HEADER.size :]


def test_a_log_is_read_back_as_it_was_written() -> None:
    """Every field is in its place."""
    log = event.parse(packed(3, lost=2))

    assert len(log) == 3
    assert log.lost == 2
    assert [entry.seq for entry in log] == [1, 2, 3]
    assert next(iter(log)).strict_direct


@pytest.mark.parametrize(
    "content",
    [b"", b"short", packed(1)[:-1], packed(1, count=2), packed(1, magic=1), packed(1, format=1), packed(1, size=96)],
)
def test_a_log_that_is_none_is_refused_in_one_line(content: bytes) -> None:
    """The log is torn, foreign or of another format."""
    with pytest.raises(MachineError) as caught:
        event.parse(content)

    assert "\n" not in str(caught.value)


def test_a_log_in_a_file_is_read_piece_by_piece(tmp_path: Path, monkeypatch) -> None:
    """The same events as from memory, never more than a chunk at a time."""
    monkeypatch.setattr(event, "CHUNK_RECORDS", 3)
    path = tmp_path / "sample.bin"
    path.write_bytes(packed(8))

    assert list(event.read(path)) == list(event.parse(packed(8)))
    assert [len(chunk) for chunk in event.read(path).chunks()] == [3, 3, 2]
    assert [entry.seq for entry in event.read(path)] == list(range(1, 9))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """It does not pass for a log with fewer events."""
    path = tmp_path / "sample.bin"
    path.write_bytes(packed(2))
    log = event.read(path)
    path.write_bytes(packed(1))

    with pytest.raises(MachineError, match="changed while it was read"):
        list(log)


def test_a_chunk_sees_what_an_event_sees() -> None:
    """Columns and objects answer the same questions alike."""
    log = Log()
    for flags, pf_flags, context in itertools.product(
        (0, 1, 2, 3), (0, PF_KSWAPD, PF_MEMALLOC | PF_KSWAPD, 1 << 11), (0, 1)
    ):
        log.start(flags=flags, pf_flags=pf_flags, context=context)
    (chunk,) = event.parse(log.packed()).chunks()

    for name in ("mayfail", "blockable", "strict_direct"):
        assert getattr(chunk, name).tolist() == [getattr(entry, name) for entry in chunk]


def test_a_run_without_a_log_has_an_empty_one(tmp_path: Path) -> None:
    """A guest that went away leaves no log."""
    assert len(event.read(tmp_path / "none.bin")) == 0


def test_a_guest_that_fell_silent_left_no_events_to_walk_through() -> None:
    assert list(event.EMPTY.chunks()) == []
