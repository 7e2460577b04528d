# SPDX-License-Identifier: GPL-2.0-only
"""What is different since a time, as lines for a person, and as one line for a mail."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

from harness.history.nights import Cause, Changed, Gone, Night, Overall, Unjudged
from harness.history.record import SKIP
from harness.report.text import one_line

# Gives a word a tone: good, bad or doubt.
Paint = Callable[[str, str], str]

_FIRST = 13
# Of each list so many entries, and of an entry so many names; --json has all.
_ROWS, _NAMES = 25, 3
# Below this width, nothing can be read.
_LEAST = 40
_MAIL = 400
_TONES = {"new": "bad", "still": "bad", "flaky": "doubt", "fixed": "good", "slower": "doubt", "less": "doubt"}


def plain(word: str, _tone: str) -> str:
    """No colour."""
    return word


def when(at_s: float) -> str:
    """A time for people, in their own zone; what no calendar has is written as it is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
    except (ValueError, OverflowError, OSError):
        return f"{at_s:.0f} s"


def number(count: int, word: str) -> str:
    """A count with its word."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def head(night: Night) -> str:
    """How much was run, and what came of it."""
    said = ", ".join(f"{count} {word}" for word, count in sorted(night.verdicts.items()))
    if night.runs:
        return f"since {when(night.since_s)}: {number(night.runs, 'run')} of {number(night.jobs, 'job')}: {said}"
    if night.before_s is None:
        return f"since {when(night.since_s)}: no run; harness run makes one"
    return f"since {when(night.since_s)}: no run; the newest began {when(night.before_s)}"


def mail(night: Night) -> str:
    """All of it in one line, to be pasted into a mail."""
    counts = [f"{len(night.state(state))} {word}" for state, word in _COUNTED if night.state(state)]
    counts += [overall(one) for one in night.overall]
    counts += [f"{len(night.slower)} slower"] if night.slower else []
    less = len(night.less) + len(night.gone)
    counts += [f"{less} exercised less"] if less else []
    worst = next(iter((*night.state("new"), *night.state("still"))), None)
    named = f"; {worst.state}: [{worst.oracle}] {worst.summary} ({_names(worst.scenarios)})" if worst else ""
    news = ", ".join(counts) or "nothing new" if night.runs else ""
    return one_line(f"kernel-harness {head(night)}{'; ' * bool(news)}{news}{named}", _MAIL)


def overall(one: Overall) -> str:
    """That everything is slower, in a few words."""
    which = f" on {one.kernel}" * bool(one.kernel)
    return f"everything{which} is slower: ×{one.factor:.2f} over {number(one.jobs, 'job')}"


_COUNTED = (("new", "new"), ("still", "still failing"), ("flaky", "flaky"), ("fixed", "fixed"))


def lines(night: Night, width: int = 0, paint: Paint = plain) -> Iterator[str]:
    """What a person reads. width: of the terminal, at which lines are broken; 0: they are not."""
    for word, parts in _entries(night):
        yield from _wrapped(word, parts, width, paint)


def cause(one: Cause, width: int = 0, paint: Paint = plain) -> Iterator[str]:
    """All that is known of a cause."""
    yield from _wrapped("cause", [_said(one), _counted(one)], width, paint)
    seen = [
        f"{each.scenario} failed in {each.failed} of {number(each.rounds, 'round')}, "
        f"and passed {number(each.passed_since, 'time')} since: {each.job}"
        for each in one.seen
    ]
    yield from _wrapped("seen in", seen, width, paint)
    more = one.count - len(one.runs)
    runs = [one_line(run, 1000) for run in one.runs] + [f"… {more} more"] * bool(more)
    yield from _wrapped("runs", runs, width, paint)


def _entries(night: Night) -> Iterator[tuple[str, Sequence[str]]]:
    """Each entry: its first word, and its lines."""
    yield "history", [head(night)]
    for state in ("new", "still"):
        yield from _cut(state, [[_said(one), *_facts(one)] for one in night.state(state)])
    yield from _cut("flaky", [[_said(one), _rate(one)] for one in night.state("flaky")])
    yield from _cut("fixed", [[_said(one), *_facts(one)] for one in night.state("fixed")])
    yield from _cut("slower", [_overall(one) for one in night.overall])
    yield from _cut("slower", [_changed(one, " s") for one in night.slower])
    yield from _cut("less", [_changed(one, "") for one in night.less])
    yield from _cut("gone", [[_gone(one), one.job] for one in night.gone])
    yield from _cut("not judged", [[one.reason, _where(one)] for one in night.unjudged])
    if night.misplaced:
        count = number(len(night.misplaced), "run")
        said = f"{count} with a time that cannot be, put where the run before was: "
        yield "clock", [said + _names(night.misplaced)]
    yield "mail", [mail(night)]


def _cut(word: str, entries: Sequence[Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    for entry in entries[:_ROWS]:
        yield word, entry
    if len(entries) > _ROWS:
        yield word, [f"… {len(entries) - _ROWS} more: harness history --json has all"]


def _said(one: Cause) -> str:
    return f"[{one.oracle}] {one.summary}"


def _facts(one: Cause) -> Iterator[str]:
    yield _counted(one)
    jobs = "; ".join(one.jobs[:_NAMES]) + "; …" * (len(one.jobs) > _NAMES)
    yield jobs if len(one.jobs) == 1 else f"in {len(one.jobs)} jobs: {jobs}"
    if one.state != "fixed":
        yield f"harness show {shlex.quote(one.runs[0])}"


def _counted(one: Cause) -> str:
    times = f"first seen {when(one.first_s)}, last {when(one.last_s)}"
    return (
        f"{one.id}: {_names(one.scenarios)}; failed in {one.rate.failed} of {number(one.rate.rounds, 'round')}; {times}"
    )


def _gone(one: Gone) -> str:
    now = "is skipped" if one.verdict == SKIP else "proves too little"
    return f"{one.scenario} was judged before, and now {now}: {one.reason}"


def _where(one: Unjudged) -> str:
    return f"{number(one.runs, 'run')} of {number(one.jobs, 'job')}, the last {one.run}"


def _rate(one: Cause) -> str:
    rate = one.rate
    low, high = rate.interval
    return (
        f"{one.id}: failed in {rate.failed} of {rate.rounds} rounds: {rate.failed / rate.rounds:.0%} "
        f"(between {low:.1%} and {high:.1%}, at 95%)"
    )


def _changed(one: Changed, unit: str) -> Sequence[str]:
    figures = f"{one.after:.4g}{unit}, was {one.before:.4g}{unit}"
    name = one.scenario if unit else f"{one.scenario}: {one.what}"
    return [f"{name} {figures}, since {when(one.since_s)}: {one.run}", one.job]


def _overall(one: Overall) -> Sequence[str]:
    sure = f"(between ×{one.low:.2f} and ×{one.high:.2f}, at 95%)"
    return [f"{overall(one)} {sure}, since {when(one.since_s)}: {one.run}"]


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _wrapped(word: str, parts: Sequence[str], width: int, paint: Paint) -> Iterator[str]:
    """An entry: its word in the first column, each of its lines in the second. All that is from outside is escaped."""
    for at, part in enumerate(parts):
        safe = one_line(part, 4000)
        room = max(_LEAST, width) - _FIRST
        rows = textwrap.wrap(safe, room, break_on_hyphens=False) if width else [safe]
        for row, text in enumerate(rows or [""]):
            first = at == 0 and row == 0
            yield f"{paint(f'{word:{_FIRST - 1}}', _TONES.get(word, '')) if first else ' ' * (_FIRST - 1)} {text}"
