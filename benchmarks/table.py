# SPDX-License-Identifier: GPL-2.0-only
"""RESULTS.md, as a pure function of the figures and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.figure import AtLeast, AtMost, AtMostTimes, Faster, Figure, Row, Target
from benchmarks.results import Result, Spread

_UNITS = {"s": "s", "ns": "ns", "mib": "MiB"}

_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
# Benchmarks

Written by `make bench` from `results.json`; do not edit.
Each figure was measured in one run with its peer, by turns: the median, and in brackets the least and the most.
"""


def render(figures: Mapping[str, Figure], results: Mapping[str, Result]) -> str:
    """The whole document. A figure without a result is in it as not measured."""
    places = _environments(results)
    lines = [
        _HEAD,
        "| figure | target | ours | peer | ratio | verdict | rounds | where |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures.values():
        result = results.get(figure.name)
        lines += [_row(row, result, places) for row in figure.rows]
    lines += ["", "## What it costs", "", "| figure | quantity | median | least–most |", "|---|---|---|---|"]
    for figure in figures.values():
        if figure.name in results:
            lines += list(_costs(figure, results[figure.name]))
    lines += ["", "## Where and when", ""]
    for number, place in enumerate(places, 1):
        facts = "; ".join(f"{name} {value}" for name, value in place.items())
        lines.append(f"{number}. {facts}")
    return "\n".join(lines) + "\n"


def _row(row: Row, result: Result | None, places: Sequence[Mapping[str, str]]) -> str:
    unit = _unit(row.ours)
    cells = [row.text, _wanted(row.target, unit)]
    ours = result.spread(row.ours) if result else None
    peer = result.spread(row.peer) if result and row.peer else None
    if result is None or ours is None or (row.peer and peer is None):
        return _line([*cells, "", "", "", _why(result), "", ""])
    cells.append(f"{_spread(ours)} {unit}".strip())
    cells.append(f"{_called(row.peer)}: {_spread(peer)} {_unit(row.peer)}".strip() if peer else "")
    cells.append(f"{_number(_ratio(row.target, ours.median, peer.median))} ×" if peer else "")
    if row.target is None:
        cells.append("")
    else:
        reached = row.target.reached(ours.median, peer.median if peer else 0.0)
        cells.append("reached" if reached else "**not reached**")
    return _line([*cells, str(result.rounds), f"[{places.index(result.environment) + 1}]"])


def _why(result: Result | None) -> str:
    return f"not measured: {result.error}".replace("|", "¦").replace("\n", " ") if result else "not measured"


def _wanted(target: Target | None, unit: str) -> str:
    match target:
        case Faster(times):
            return f"≥ {times:g} × faster"
        case AtLeast(least):
            return f"≥ {least:g} {unit}".strip()
        case AtMost(limit):
            return f"≤ {limit:g} {unit}".strip()
        case AtMostTimes(factor):
            return f"≤ {factor:g} ×"
        case None:
            return ""


def _ratio(target: Target | None, ours: float, peer: float) -> float:
    """How many times faster we are; if the target is a share of the peer's value, that share."""
    above, below = (ours, peer) if isinstance(target, AtMostTimes) else (peer, ours)
    return above / below if below else float("inf")


def _costs(figure: Figure, result: Result) -> Iterator[str]:
    """Everything that was measured and is in no row."""
    shown = {quantity for row in figure.rows for quantity in (row.ours, row.peer)}
    for quantity in result.samples:
        found = result.spread(quantity)
        if quantity not in shown and found is not None:
            yield _line([
                figure.name, _called(quantity), f"{_number(found.median)} {_unit(quantity)}".strip(),
                f"{_number(found.least)}–{_number(found.most)}",
            ])  # fmt: skip


def _environments(results: Mapping[str, Result]) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    for result in results.values():
        if result.environment not in found:
            found.append(result.environment)
    return found


def _unit(quantity: str) -> str:
    return _UNITS.get(quantity.rpartition("_")[2], "")


def _called(quantity: str) -> str:
    """A quantity's name as words, without its unit."""
    stem, _, last = quantity.rpartition("_")
    return (stem if last in _UNITS and stem else quantity).replace("_", " ")


def _spread(spread: Spread) -> str:
    return f"{_number(spread.median)} ({_number(spread.least)}–{_number(spread.most)})"


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.4f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
