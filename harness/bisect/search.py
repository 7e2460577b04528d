# SPDX-License-Identifier: GPL-2.0-only
"""The search for one change among many, where a bad state fails only now and then, and some states cannot be tested.

Each candidate has a probability. A state that holds the change fails with a
rate that nobody knows; one that does not hold it never fails. So a failure
says for sure that the state holds the change, and a pass only makes that less
probable: by how much follows from the failures seen so far (a beta-binomial model).
Nothing that was seen is ever dropped, so an answer that was too hasty is corrected
by what comes after it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

# The failure rate before anything was seen: uniform. Jeffreys' prior believes too soon that a failure always comes.
_RATE = (1.0, 1.0)
# How probable it is that a state without the change shows the same failure. Not 0: answers may contradict each other.
_ECHO = 1e-12
# So many failures at the bad end measure the rate; fewer cost more passes at each step, more cost more there.
MEASURED = 8
# The share of the doubt that the search itself may use: a rate that is no draw from a uniform one costs the rest.
_SHARE = 0.4
# Of the states that tell most, so many are weighed by what they cost.
_WEIGHED = 12
# Of all states, so many are looked at when several are chosen: as many shares of the doubt.
_SHARES = 32
# So many states side by side are thought of.
_LANES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Space:
    """What may be to blame, and what can be tested.

    candidates: the changes, oldest first. states: what can be tested; the last one
    is the bad end. holds: for each state, the set of candidates in it, as bits.
    """

    candidates: Sequence[str]
    states: Sequence[str]
    holds: Sequence[int]

    @property
    def end(self) -> int:
        """The bad end."""
        return len(self.states) - 1

    @property
    def everything(self) -> int:
        """All candidates, as bits."""
        return (1 << len(self.candidates)) - 1

    def named(self, bits: int) -> list[str]:
        """The candidates of a set."""
        return [name for number, name in enumerate(self.candidates) if bits >> number & 1]


def line(names: Sequence[str]) -> Space:
    """Changes that are made one after the other: a state holds its own change and all before it."""
    return Space(tuple(names), tuple(names), tuple((2 << number) - 1 for number in range(len(names))))


@dataclass(frozen=True)
class Tally:
    """How often a state failed in the way that is searched, and how often it passed."""

    fails: int = 0
    passes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.fails + other.fails, self.passes + other.passes)

    @property
    def runs(self) -> int:
        """All runs that gave an answer."""
        return self.fails + self.passes


@dataclass(frozen=True)
class Group:
    """Candidates that no test has told apart: their set, and the probability that the culprit is among them."""

    bits: int
    probability: float

    @property
    def each(self) -> float:
        """The probability of one of them."""
        return self.probability / self.bits.bit_count()


@dataclass(frozen=True)
class Knowledge:
    """What has been seen. skipped: states that cannot be tested. innocent: candidates that change nothing, as bits."""

    space: Space
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()
    innocent: int = 0

    def plus(self, state: int, tally: Tally) -> Knowledge:
        """With more runs of a state."""
        tallies = {**self.tallies, state: self.tallies.get(state, Tally()) + tally}
        return Knowledge(self.space, tallies, self.skipped, self.innocent)

    def without(self, state: int) -> Knowledge:
        """With a state that cannot be tested."""
        return Knowledge(self.space, self.tallies, self.skipped | {state}, self.innocent)

    def same(self, one: int, other: int) -> Knowledge:
        """With two states that are the same to the bit: a candidate that only one of them holds changes nothing."""
        differ = self.space.holds[one] ^ self.space.holds[other]
        return Knowledge(self.space, self.tallies, self.skipped, self.innocent | differ)

    def clean(self, state: int) -> Knowledge:
        """With a state that is the same as the good end, to the bit: none of its candidates changes anything."""
        return Knowledge(self.space, self.tallies, self.skipped, self.innocent | self.space.holds[state])

    @cached_property
    def groups(self) -> Sequence[Group]:
        """The candidates as the tests tell them apart, the most probable first."""
        left = self.space.everything & ~self.innocent
        found = [(left, 0, 0, 0)] if left else []
        for state, tally in self.tallies.items():
            found = [part for group in found for part in _split(group, self.space.holds[state], tally)]
        logs = [
            math.log(bits.bit_count()) + _beta(fails, passes) + echoes * math.log(_ECHO)
            for bits, fails, passes, echoes in found
        ]
        top = max(logs, default=0.0)
        total = sum(math.exp(value - top) for value in logs)
        groups = (Group(bits, math.exp(value - top) / total) for (bits, *_), value in zip(found, logs, strict=True))
        return sorted(groups, key=lambda group: (-group.each, group.bits))

    @property
    def contradiction(self) -> bool:
        """Whether no single candidate explains all failures."""
        failed = [self.space.holds[state] for state, tally in self.tallies.items() if tally.fails]
        common = self.space.everything & ~self.innocent
        for bits in failed:
            common &= bits
        return not common

    def probability(self, bits: int) -> float:
        """The probability that the culprit is in a set."""
        return sum(
            group.probability * (group.bits & bits).bit_count() / group.bits.bit_count()
            for group in self.groups
            if group.bits & bits
        )

    def bad(self, state: int) -> float:
        """The probability that a state is bad."""
        return self.probability(self.space.holds[state])

    def likely(self, confidence: float) -> int:
        """The smallest set that holds the culprit with a probability, as bits."""
        bits, reached = 0, 0.0
        for group in self.groups:
            if reached >= confidence:
                break
            # Candidates of one group are equal: all of them, or the set would depend on their order.
            bits |= group.bits
            reached += group.probability
        return bits

    @property
    def entropy(self) -> float:
        """What is not known yet, in bits."""
        return sum(
            group.probability * (math.log2(group.bits.bit_count()) - math.log2(group.probability))
            for group in self.groups
            if group.probability > 0
        )


@dataclass(frozen=True)
class Question:
    """What to do next: run a state at most so often, and stop at its first failure."""

    state: int
    runs: int


@dataclass(frozen=True)
class Cost:
    """Seconds of work. alone: those that only one CPU can do; shared: of one CPU, which any number of them share."""

    alone: float = 0.0
    shared: float = 0.0

    def seconds(self, cpus: float) -> float:
        """On so many CPUs."""
        return self.alone + self.shared / cpus


@dataclass(frozen=True)
class Plan:
    """Questions that are asked side by side, and the seconds that the rest of the search takes in this way."""

    questions: Sequence[Question]
    seconds: float


# The seconds of the questions side by side: what has to be done once for that, and each time.
Price = Callable[[Sequence[Question]], tuple[float, float]]


class Search:
    """Decides what is tested next. confidence: how probable the answer must be. limit: runs of one state."""

    def __init__(self, space: Space, confidence: float = 0.99, limit: int = 4000) -> None:
        self.space = space
        self.confidence = confidence
        self.limit = limit
        # The probability of being wrong that the search aims at.
        self._doubt = (1 - confidence) * _SHARE

    def next(self, known: Knowledge, cost: Callable[[int], float] | None = None) -> Question | None:
        """The question that tells most for what it costs; None when there is an answer, or none can be had."""
        if known.contradiction or not self._divides(known):
            return None
        told = sorted(self._informative(known), key=lambda pair: (-pair[1], pair[0]))[:_WEIGHED]
        if not told:
            return None
        if cost is not None:
            told = [(state, information / max(cost(state), 0.01)) for state, information in told]
        state = max(told, key=lambda pair: (pair[1], -pair[0]))[0]
        return Question(state, self._enough(known, state))

    def plans(
        self, known: Knowledge, price: Price, most: int, cost: Callable[[int], float] | None = None
    ) -> list[Plan]:
        """Ways to go on, with at most so many questions side by side, the quickest first; none as with next().

        Several at once tell less each, and each has only its share of the machine: that pays where one has to wait
        for what more CPUs do not make faster.
        """
        first = self.next(known, cost)
        if first is None:
            return []
        found, most, pool = [], min(most, _LANES[-1]), self._spread(known) if most > 1 else []
        for lanes in sorted({lanes for lanes in _LANES if lanes < most} | {most}):
            states = self._apart(known, pool, lanes) if lanes > 1 else [first.state]
            if len(states) < lanes:
                break
            questions = [Question(state, self._enough(known, state)) for state in states] if lanes > 1 else [first]
            once, each = price(questions)
            rounds = known.entropy / max(_told(known, states), 1e-9)
            found.append(Plan(questions, once + each * max(1.0, rounds)))
        return sorted(found, key=lambda plan: plan.seconds)

    def is_open(self, known: Knowledge, state: int) -> bool:
        """Whether the answer of a state is not known already."""
        bad = known.bad(state)
        return min(bad, 1 - bad) > self._doubt / 8

    def _spread(self, known: Knowledge) -> list[int]:
        """Some of the states whose answer is not known: evenly from those that are good to those that are bad."""
        weighed = sorted((known.bad(state), state) for state, _ in self._informative(known))
        places = (bisect.bisect_left(weighed, (share / _SHARES, 0)) for share in range(1, _SHARES))
        return sorted({weighed[min(place, len(weighed) - 1)][1] for place in places}) if weighed else []

    def _apart(self, known: Knowledge, pool: Sequence[int], count: int) -> list[int]:
        """So many states whose answers together tell most, or nearly; fewer when there are not so many."""
        chosen: list[int] = []
        # Each is the best beside those before it; then each again, beside all others.
        for turn in range(2 * count):
            if turn >= count:
                chosen.pop(0)
            parts = _parts(known, chosen)
            left = [state for state in pool if state not in chosen]
            if not left:
                break
            chosen.append(max(left, key=lambda state: _gain(parts, self.space.holds[state], state, known)))
        return sorted(chosen)

    def _divides(self, known: Knowledge) -> bool:
        """Whether a state that can be tested tells those apart that are probably to blame."""
        bits = known.likely(1 - self._doubt)
        return any(0 < (self.space.holds[state] & bits).bit_count() < bits.bit_count() for state in self._open(known))

    def _open(self, known: Knowledge) -> Iterator[int]:
        """The states that can be tested, and of which nothing is certain."""
        for state in range(len(self.space.states)):
            tally = known.tallies.get(state, Tally())
            if state not in known.skipped and not tally.fails and tally.runs < self.limit:
                yield state

    def _informative(self, known: Knowledge) -> Iterator[tuple[int, float]]:
        """The states whose answer is not known already, with what the answer would tell."""
        for state in self._open(known):
            if self.is_open(known, state):
                yield state, _bits(known.bad(state)) * _testable(state, known.skipped)

    def _enough(self, known: Knowledge, state: int) -> int:
        """How many passes make it improbable enough that a state is bad."""
        left = self.limit - known.tallies.get(state, Tally()).runs
        # All doubts together must stay below what the search may use.
        wanted = min(self._doubt / 2, known.bad(state) / 2)
        low, high = 0, 1
        while high < left and known.plus(state, Tally(0, high)).bad(state) > wanted:
            low, high = high, high * 2
        high = min(high, left)
        while high - low > 1:
            middle = (low + high) // 2
            if known.plus(state, Tally(0, middle)).bad(state) > wanted:
                low = middle
            else:
                high = middle
        return max(high, 1)


def distinguishable(known: Knowledge, bits: int) -> list[int]:
    """The states that would tell candidates of a set apart, and that cannot be tested."""
    return [
        state for state in sorted(known.skipped) if 0 < (known.space.holds[state] & bits).bit_count() < bits.bit_count()
    ]


def ancestry(order: Sequence[str], parents: Mapping[str, Iterable[str]], candidates: Sequence[str]) -> dict[str, int]:
    """For each of some commits, parents first, the candidates in its history and itself, as bits."""
    number = {name: position for position, name in enumerate(candidates)}
    found: dict[str, int] = {}
    for name in order:
        bits = 1 << number[name] if name in number else 0
        for parent in parents[name]:
            bits |= found.get(parent, 0)
        found[name] = bits
    return found


def needed(fails: int, passes: int, doubt: float, limit: int) -> int:
    """How many passes make it improbable that a state fails with the rate that was measured."""
    count = 1
    while count < limit and math.exp(_beta(fails, passes + count) - _beta(fails, passes)) > doubt:
        count += 1
    return count


def _split(group: tuple[int, int, int, int], bits: int, tally: Tally) -> Iterator[tuple[int, int, int, int]]:
    mine, fails, passes, echoes = group
    if inside := mine & bits:
        yield inside, fails + tally.fails, passes + tally.passes, echoes
    if outside := mine & ~bits:
        yield outside, fails, passes, echoes + tally.fails


def _parts(known: Knowledge, states: Iterable[int]) -> Sequence[tuple[int, float, int]]:
    """The candidates as some states would tell them apart: set, probability of each, and which states hold them."""
    parts = [(group.bits, group.each, 0) for group in known.groups]
    for number, state in enumerate(states):
        bits = known.space.holds[state]
        halves = (((mine & bits, each, mark | 1 << number), (mine & ~bits, each, mark)) for mine, each, mark in parts)
        parts = [half for pair in halves for half in pair if half[0]]
    return parts


def _told(known: Knowledge, states: Sequence[int]) -> float:
    """What the answers of some states tell together, in bits."""
    shares: dict[int, float] = {}
    for bits, each, mark in _parts(known, states):
        shares[mark] = shares.get(mark, 0.0) + each * bits.bit_count()
    return -sum(share * math.log2(share) for share in shares.values() if share > 0)


def _gain(parts: Sequence[tuple[int, float, int]], bits: int, state: int, known: Knowledge) -> float:
    """What one more state tells beside those that made the parts, as far as it can be tested."""
    shares: dict[int, list[float]] = {}
    for mine, each, mark in parts:
        inside = (mine & bits).bit_count() * each
        both = shares.setdefault(mark, [0.0, 0.0])
        both[0] += inside
        both[1] += mine.bit_count() * each - inside
    told = sum(sum(both) * _bits(both[0] / sum(both)) for both in shares.values() if both[0] > 0 and both[1] > 0)
    return told * _testable(state, known.skipped)


def _beta(fails: int, passes: int) -> float:
    """The logarithm of the probability of these runs of bad states, in any one order."""
    a, b = fails + _RATE[0], passes + _RATE[1]
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _bits(probability: float) -> float:
    """The entropy of a yes or no."""
    return -sum(p * math.log2(p) for p in (probability, 1 - probability) if p > 0)


def _testable(state: int, skipped: frozenset[int]) -> float:
    """How probable it is that a state can be tested: less beside one that could not."""
    distance = min((abs(state - other) for other in skipped), default=0)
    return 1 - 0.5 ** (distance / 2) if distance else 1.0
