# SPDX-License-Identifier: GPL-2.0-only
"""What builds and runs will take, from what earlier ones took: the search is planned by it, and told what is left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from harness.bisect.ask import Test
from harness.bisect.journal import Journal
from harness.bisect.search import Cost, Question
from harness.bisect.subjects import Subject

# A kernel's first build in a work tree of its own, whose objects ccache has.
_COLD = Cost(40.0, 120.0)
# So many seconds of building count as if they had taken what was expected.
_WEIGHT_S = 8.0


class Expected:
    """What is to be expected of one search. at: what is in each work tree; begun: which of them there are."""

    def __init__(self, subject: Subject, test: Test, journal: Journal, cpus: int) -> None:
        self._subject = subject
        self._states = subject.space.states
        self._place = {name: number for number, name in enumerate(self._states)}
        self._test = test
        self._journal = journal
        self._costs: dict[tuple[str, str], Cost] = {}
        self.cpus = cpus
        self.at: dict[int, str] = {}
        self.begun: dict[int, bool] = {0: True}

    def cost(self, state: int) -> float:
        """What a question costs alone, in seconds: to build, and to run."""
        return self._building(0, state, 1) + self._wave()

    def price(self, questions: Sequence[Question]) -> tuple[float, float]:
        """What questions cost side by side: to begin the work trees that are not there yet, and each time."""
        lanes = self.assigned(questions)
        share = self.cpus / len(lanes)
        at_once = max(1, self._test.at_once // len(lanes))
        for number in lanes.keys() - self.begun.keys():
            self.begun[number] = self._test.has_lane(self._subject.target(len(self._states) - 1), number)
        cold = 0.0 if all(self.begun[number] for number in lanes) else _COLD.seconds(share)
        each = max(
            self._building(lane, question.state, len(lanes)) + math.ceil(question.runs / at_once) * self._wave()
            for lane, question in lanes.items()
        )
        return cold, each

    def assigned(self, questions: Sequence[Question]) -> Mapping[int, Question]:
        """Questions by work tree: both in the order of the history, so that each tree moves little."""
        places = {lane: self._place.get(self.at.get(lane, ""), len(self._place)) for lane in range(len(questions))}
        order = sorted(places, key=places.__getitem__)
        return dict(zip(order, sorted(questions, key=lambda question: question.state), strict=True))

    def proof(self, runs: int) -> float:
        """The seconds that it takes to build the bad end without the culprit, and to run it so often."""
        here = self.at.get(0) or self._subject.goods[0].name
        build = self._between(here, self._states[-1]).seconds(self.cpus) * self._pace()
        return build + math.ceil(runs / max(1, self._test.at_once)) * self._wave()

    def _building(self, lane: int, state: int, lanes: int) -> float:
        """The seconds to build a state where another one is; what was built comes from the store."""
        name = self._states[state]
        if name in self._journal.images or name == self.at.get(lane):
            return 0.0
        return self._between(self.at.get(lane) or self._states[-1], name).seconds(self.cpus / lanes) * self._pace()

    def _between(self, one: str, other: str) -> Cost:
        if (one, other) not in self._costs:
            self._costs[one, other] = self._subject.cost(one, other)
        return self._costs[one, other]

    def _pace(self) -> float:
        """How much longer builds took than was expected."""
        known = {good.name for good in self._subject.goods} | self._place.keys()
        made = [entry for entry in self._journal.entries if entry.image and entry.state in known]
        # The first one begins a work tree, and side by side nobody knows which tree was where.
        pairs = [
            (entry.seconds, self._between(before.state, entry.state).seconds(self.cpus))
            for before, entry in itertools.pairwise(made)
            if not entry.stored and entry.lanes == before.lanes == 1
        ]
        took, expected = (sum(seconds) for seconds in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
        return (took + _WEIGHT_S) / (expected + _WEIGHT_S)

    def _wave(self) -> float:
        """What runs side by side take, in seconds."""
        runs = [entry for entry in self._journal.entries if entry.tally.runs and entry.seconds]
        # The first ones are those of all scenarios.
        runs = runs[1:] or runs
        waves = sum(
            math.ceil((entry.tally.runs + entry.void) / max(1, self._test.at_once // entry.lanes)) for entry in runs
        )
        return sum(entry.seconds for entry in runs) / max(1, waves)
