# SPDX-License-Identifier: GPL-2.0-only
"""A plain boot to PID 1's first word on each board, so that the choice of a board stays honest."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks import meter
from benchmarks.bench import MICROVM_CONFIG, SHAPE, Bench
from benchmarks.figure import Row, Side
from harness.model.shape import Board

_CHOSEN = SHAPE.board

ROWS = tuple(
    Row(f"plain boot to PID 1: {_CHOSEN.value}, which we use, against {board.value}", f"{_CHOSEN.value}_s",
        peer=f"{board.value}_s")
    for board in Board
    if board is not _CHOSEN
)  # fmt: skip


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """One kernel that supports every board, and one image; only the board differs."""
    lab = bench.lab(MICROVM_CONFIG)

    def side(board: Board) -> Mapping[str, float]:
        with lab.boot(dataclasses.replace(SHAPE, board=board), bench.folder()) as machine:
            return {f"{board.value}_s": machine.ready_s, f"{board.value}_pss_mib": meter.pss_mib(machine.pid)}

    yield [functools.partial(side, board) for board in Board]
