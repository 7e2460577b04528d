# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that reports in a loop says nearly the same each time: such a report is recognized as a whole.

What stands between the first lines of two reports is kept as a shape: its text, with
any times, addresses, registers, PIDs and CPUs. What follows on the console and has
a known shape is the same report once more, and is not read line by line.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.console import title
from harness.console.lines import LINE_LIMIT, Reader, Record, Rows
from harness.console.pattern import Pattern
from harness.console.report import Report
from harness.console.sight import MARKS, sight

# So many first lines have shapes, each so many; and of so many reports it is remembered how they looked.
_SHAPES = 64
_ALIKE = 8
_SEEN = 1024
# Reports that never look as before are not compared any longer.
_TRIES = 64
# Longer reports are always read.
_LIMIT_BYTES = 16 << 10

# What may differ in a text, and as what.
_KINDS = {"address": title.ADDRESS, "user": title.USER, "whose": title.WHOSE, "deaths": title.DEATHS}
_TEXT = {
    "address": title.ADDRESS, "user": r"[0-9a-f]{1,16}\b", "whose": r"\d{1,10}\b", "deaths": r"\d{1,9}",
}  # fmt: skip
# A line of registers is one value.
_VALUES = frozenset((*_TEXT, "registers"))
_DIFFERENT = re.compile("|".join(f"(?P<{kind}>{regex})" for kind, regex in _KINDS.items()))
_REGISTERS = re.compile(title.REGISTERS)
_HEX = re.compile(r"\b[0-9a-f]{1,18}\b")
# What may differ in what stands before a text.
_HEAD = re.compile(r"(?P<digits>\d+)|(?P<blanks> +)")
# What may differ from report to report, one way or another.
_DIFFERS = re.compile(rb"0x[0-9a-f]+|\b[0-9a-f]{2,18}\b|\d+| +|\r")


@dataclass(frozen=True, eq=False)
class Shape:
    """How a stretch of the console looks that is one report.

    regex: the stretch. names: what stands before its lines. times, caller: the expression's groups that hold a time,
    and the caller or none. values: those in the text; numbers: of these, a PID or CPU. whose: these of the first such
    report, and `found` what it was. shown, rest: the text of the report, and what is read of it besides, with %b for
    each value. ended: the report ends by itself, whatever follows. lines, useful: of the stretch, and of what is shown.
    """

    regex: re.Pattern[bytes]
    names: tuple[str, ...]
    times: Sequence[int]
    caller: int | None
    values: Sequence[int]
    numbers: Sequence[int]
    whose: Sequence[bytes]
    found: Mapping[str, Any]
    shown: bytes
    shown_values: int
    rest: bytes
    pattern: Pattern
    ended: bool
    lines: int
    useful: int


class Stretch(NamedTuple):
    """A stretch of a block that has a shape, with the groups of its expression."""

    shape: Shape
    start: int
    end: int
    groups: Sequence[bytes]
    caller: str
    times: Sequence[float]


@dataclass(eq=False)
class Repeated:
    """A report that was recognized as a whole.

    rewound: the clock had gone back before. values: what differs in it. text: the lines that are shown.
    """

    shape: Shape
    record: Record
    boot: int
    rewound: bool
    values: tuple[bytes, ...]
    text: str
    told: bool = False
    done: bool = True
    counts: bool = True

    @classmethod
    def of(cls, stretch: Stretch, line: int, boot: int, *, rewound: bool) -> Repeated:
        """The report that a stretch is; it begins at `line`."""
        shape, groups = stretch.shape, stretch.groups
        values = tuple([groups[index] for index in shape.values])
        record = Record(line, "", stretch.caller, stretch.times[0] if stretch.times else None, shape.names)
        text = (shape.shown % values[: shape.shown_values]).decode("ascii")
        return cls(shape, record, boot, rewound, values, text)

    @property
    def pattern(self) -> Pattern:
        """What began it."""
        return self.shape.pattern

    @property
    def useful(self) -> int:
        """How many lines are shown."""
        return self.shape.useful

    def begins(self, count: int) -> Sequence[str]:
        """Its first lines."""
        return self.text.split("\n", count)[:count]

    def report(self) -> Report:
        """What its lines say."""
        shape, values, line = self.shape, self.values, self.record.line
        if [values[index] for index in shape.numbers] == shape.whose:
            return Report(line=line, boot=self.boot, text=self.text, **shape.found)
        rest = (shape.rest % values[shape.shown_values :]).decode("ascii")
        wrapping = "+".join(self.record.names) or "none"
        return title.judge(shape.pattern, (self.text + rest).split("\n"), shape.useful, line, self.boot, wrapping)


class Shapes:
    """The shapes of the reports that came last."""

    def __init__(self) -> None:
        # By their first lines, the newest first.
        self._shapes: dict[bytes, list[Shape]] = {}
        # How reports looked that have no shape, and how many with such a first line were new.
        self._seen: dict[int, None] = {}
        self._new: Counter[bytes] = Counter()

    def learn(
        self, stretch: bytes, reader: Reader, pattern: Pattern, body: Sequence[str], report: Report, *, ended: bool
    ) -> None:
        """A report was read from `stretch`, and the next one begins behind it. body: what was taken of it."""
        key = _key(stretch, 0)
        shapes = self._shapes.get(key, [])
        if len(stretch) > _LIMIT_BYTES or self._new[key] > _TRIES or _matched(shapes, stretch, 0) is not None:
            return
        looks = hash(_DIFFERS.sub(b"", stretch))
        if looks not in self._seen:
            # To compile an expression takes as long as to read many reports: once is no loop.
            self._seen[looks] = None
            self._new[key] += 1
            _forget(self._seen, _SEEN)
            _forget(self._new, _SEEN)
            return
        rows = reader.rows(stretch)
        if rows is None:
            return
        shape = _shape(stretch, rows, pattern, body, report, ended=ended)
        self._new[key] += 1
        if shape is not None:
            self._shapes[key] = [shape, *shapes][:_ALIKE]
            _forget(self._shapes, _SHAPES)

    def stretches(self, block: bytes, position: int) -> Iterator[Stretch]:
        """What has known shapes from `position` on, one after the other, while the clock goes on."""
        shape, time_s = None, 0.0
        while True:
            match = shape.regex.match(block, position) if shape is not None else None
            if shape is None or match is None:
                found = _matched(self._shapes.get(_key(block, position), ()), block, position)
                if found is None:
                    return
                shape, match = found
            groups = match.groups()
            times = [float(groups[index]) for index in shape.times]
            if times != sorted(times) or (times and times[0] < time_s):
                return
            time_s = times[-1] if times else time_s
            caller = groups[shape.caller].decode("ascii") if shape.caller is not None else ""
            yield Stretch(shape, position, match.end(), groups, caller, times)
            position = match.end()


def _matched(shapes: Sequence[Shape], block: bytes, position: int) -> tuple[Shape, re.Match[bytes]] | None:
    """The shape that stands at `position`, and where."""
    for shape in shapes:
        if (match := shape.regex.match(block, position)) is not None:
            return shape, match
    return None


def _forget(kept: dict[Any, Any], limit: int) -> None:
    """Drop the oldest when there are more than `limit`."""
    if len(kept) > limit:
        del kept[next(iter(kept))]


def _key(block: bytes, position: int) -> bytes:
    """The first line of a report, without what differs."""
    end = block.find(b"\n", position, position + LINE_LIMIT)
    return _DIFFERS.sub(b"", block[position:end]) if end >= 0 else b""


def _shape(
    stretch: bytes, rows: Rows, pattern: Pattern, body: Sequence[str], report: Report, *, ended: bool
) -> Shape | None:
    """The shape of a stretch; None where more than one caller speaks, or what was taken is not what stands there."""
    raw = stretch.decode("ascii").removesuffix("\n").split("\n")
    texts = [text for _, _, text in rows.lines]
    if list(body) != texts[: len(body)] or len({(caller, time == "") for time, caller, _ in rows.lines}) != 1:
        return None
    if any(text.startswith(MARKS) or sight(text).reboot for text in texts):
        return None
    kinds: list[str] = []
    regex, forms, useful = "", [], report.text.count("\n") + 1
    counts = []
    for number, (line, (time, caller, text)) in enumerate(zip(raw, rows.lines, strict=True)):
        end = line.removesuffix("\r")
        if not end.endswith(text):
            return None
        head, held = _head(end.removesuffix(text), time, caller, first=number == 0)
        said, form, more = _text(text, registers=number > 0 and _REGISTERS.match(text) is not None)
        regex += head + said + line[len(end) :] + "\n"
        kinds += held + (more if number < len(body) else [""] * len(more))
        forms.append(form)
        counts.append(len(more))
    compiled = re.compile(regex.encode("ascii"))
    match = compiled.fullmatch(stretch)
    if match is None:
        return None
    values = [index for index, kind in enumerate(kinds) if kind in _VALUES]
    numbers = [place for place, index in enumerate(values) if kinds[index] == "whose"]
    found = {entry.name: getattr(report, entry.name) for entry in dataclasses.fields(report)}
    return Shape(
        regex=compiled,
        names=rows.named(0),
        times=[index for index, kind in enumerate(kinds) if kind == "time"],
        caller=kinds.index("caller") if "caller" in kinds else None,
        values=values,
        numbers=numbers,
        whose=[match.groups()[values[place]] for place in numbers],
        found={name: value for name, value in found.items() if name not in {"line", "boot", "text", "count"}},
        shown="\n".join(forms[:useful]).encode("ascii"),
        shown_values=sum(counts[:useful]),
        rest="".join("\n" + form for form in forms[useful : len(body)]).encode("ascii"),
        pattern=pattern,
        ended=ended,
        lines=len(raw),
        useful=useful,
    )


def _head(head: str, time: str, caller: str, *, first: bool) -> tuple[str, list[str]]:
    """What stands before a text, as an expression, and what each of its groups is."""
    found = sorted((head.rindex(part), kind, part) for kind, part in (("time", time), ("caller", caller)) if part)
    regex, kinds, position = "", [], 0
    for start, kind, part in found:
        regex += _HEAD.sub(_any, re.escape(head[position:start]).replace("\\ ", " "))
        if kind == "time":
            regex += r"(\d{1,9}\.\d{1,9})"
        else:
            regex += r"(?P<caller>[TC]\d{1,9})" if first else r"(?P=caller)"
        kinds += [kind] if kind == "time" or first else []
        position = start + len(part)
    return regex + _HEAD.sub(_any, re.escape(head[position:]).replace("\\ ", " ")), kinds


def _any(match: re.Match[str]) -> str:
    return r"\d{1,18}" if match["digits"] else " {1,12}"


def _text(text: str, *, registers: bool) -> tuple[str, str, list[str]]:
    """A line's text as an expression; the text with %b for each of its groups; and what these are."""
    if registers:
        # One group for all of them.
        return f"({_between(text, _HEX, lambda match: rf'[0-9a-f]{{{len(match[0])}}}')})", "%b", ["registers"]
    kinds = [match.lastgroup or "" for match in _DIFFERENT.finditer(text)]
    form = _DIFFERENT.sub("\0", text).replace("%", "%%").replace("\0", "%b")
    return _between(text, _DIFFERENT, lambda match: f"({_TEXT[match.lastgroup or '']})"), form, kinds


def _between(text: str, different: re.Pattern[str], regex: Callable[[re.Match[str]], str]) -> str:
    """The text as an expression, with another one for what is different."""
    parts, position = [], 0
    for match in different.finditer(text):
        parts += [re.escape(text[position : match.start()]), regex(match)]
        position = match.end()
    return "".join(parts) + re.escape(text[position:])
