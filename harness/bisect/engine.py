# SPDX-License-Identifier: GPL-2.0-only
"""The search from its two ends to an answer, and the proof of that. Each step is in the journal before the next."""

from __future__ import annotations

import concurrent.futures
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bisect import search
from harness.bisect.ask import Ran, Target, Test
from harness.bisect.expected import Expected
from harness.bisect.journal import Entry, Journal
from harness.bisect.lane import Lane, lane
from harness.bisect.search import Knowledge, Plan, Question, Search, Tally
from harness.bisect.subjects import Subject
from harness.host import process
from harness.host.progress import Progress
from harness.model.errors import CannotTest

# Where failures are this expensive, fewer of them measure the rate.
_DEAR_S, _FEW = 180.0, 3
# So many runs at once while a rate is measured.
_AT_ONCE = 40
# So many runs without any failure, and there is none to be searched: a failure of 2 % hides in them once in 400 times.
_SEEK = 300
# The first runs of a state; a state that cannot be tested shows that in them.
_FIRST = 4


@dataclass(frozen=True)
class Step:
    """All that was asked of one state."""

    name: str
    title: str
    verdict: str
    reason: str
    runs: int
    fails: int
    cached: bool
    seconds: float
    folders: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """As the JSON document holds it."""
        return {
            "commit": self.name,
            "title": self.title,
            "verdict": self.verdict,
            "reason": self.reason,
            "runs": self.runs,
            "fails": self.fails,
            "cached": self.cached,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class Answer:
    """What came of a search. reason: why there is no answer, or why it is a range."""

    kind: str
    candidates: Sequence[str]
    confidence: float
    sought: Mapping[str, str] | None
    steps: Sequence[Step]
    reason: str = ""
    # What would narrow a range: states, and why they could not be tested.
    narrow: Mapping[str, str] = field(default_factory=dict)
    verified: bool | None = None
    proof: str = ""
    # How often the bad end fails.
    rate: float = 0.0

    @property
    def first_bad(self) -> str | None:
        """The culprit; None when only a range is known."""
        return self.candidates[0] if len(self.candidates) == 1 else None

    @property
    def exit_code(self) -> int:
        """0 for an answer, and a range is one; 1 when there is none."""
        return 0 if self.candidates else 1

    def document(self) -> dict[str, Any]:
        """As `harness bisect --json` tells it."""
        return {
            "schema": 1,
            "kind": self.kind,
            "first_bad": self.first_bad,
            "candidates": list(self.candidates),
            "confidence": math.floor(self.confidence * 1e6) / 1e6,
            "finding": dict(self.sought) if self.sought else None,
            "rate": round(self.rate, 4),
            "reason": self.reason,
            "narrow": dict(self.narrow),
            "verified": self.verified,
            "proof": self.proof,
            "steps": [step.document() for step in self.steps],
        }


@dataclass
class _Turn:
    """Who makes and runs a state: the test itself, or one of so many lanes. made: what it has made."""

    test: Test | Lane
    number: int = 0
    lanes: int = 1
    made: str = ""


class _Nothing(Exception):
    """There is nothing to search, or nothing to be found; the text says why."""


class Bisection:
    """One search. folder: where runs are kept. limit: the most runs of one state. lanes: states side by side."""

    def __init__(
        self,
        subject: Subject,
        test: Test,
        journal: Journal,
        folder: Path,
        progress: Progress,
        tell: Callable[[Step], None] = lambda _: None,
        *,
        confidence: float = 0.99,
        limit: int = 4000,
        lanes: int = 1,
        cpus: int = 0,
    ) -> None:
        self._subject = subject
        self._space = subject.space
        self._test = test
        self._journal = journal
        self._folder = folder
        self._progress = progress
        self._tell = tell
        self._confidence = confidence
        self._limit = limit
        self._lanes = lanes
        self._search = Search(self._space, confidence, limit)
        self._expected = Expected(subject, test, journal, cpus or len(os.sched_getaffinity(0)))
        self._alone = _Turn(test)
        self._said = ""
        self._guard = threading.Lock()
        self._place = {name: number for number, name in enumerate(self._space.states)}
        self._bad = subject.target(self._space.end)
        self._known = Knowledge(self._space)
        for entry in journal.entries:
            self._learn(entry)

    def run(self) -> Answer:
        """Search, from where an earlier call was ended. Raises MachineError; the next call goes on after it."""
        try:
            self._ends()
            while plans := self._search.plans(self._known, self._expected.price, self._lanes, self._expected.cost):
                self._say_what_is_left(plans)
                if len(plans[0].questions) > 1:
                    self._side_by_side(plans[0].questions)
                else:
                    self._ask(plans[0].questions[0])
        except _Nothing as nothing:
            return self._answer((), str(nothing))
        if not self._known.groups:
            return self._answer((), f"no {self._subject.kind} changes anything: all are the same to the bit")
        if self._known.contradiction:
            return self._answer((), "the failures have no one cause: no single candidate is in all states that fail")
        bits = self._known.likely(1 - (1 - self._confidence) / 2)
        candidates = self._space.named(bits)
        if len(candidates) > 1:
            apart = search.distinguishable(self._known, bits)
            why = (
                "what would tell them apart cannot be tested"
                if apart
                else f"no state is run more than {self._limit} times"
            )
            return self._answer(candidates, why, bits=bits)
        verified, proof = self._verify(candidates[0])
        return self._answer(candidates, verified=verified, proof=proof, bits=bits)

    # ------------------------------------------------------------------ the ends

    def _ends(self) -> None:
        self._find()
        self._measure()
        self._told(self._bad)
        for number, good in enumerate(self._subject.goods):
            self._clear(good, "the good end" if not number else "where the two ends have parted")

    def _find(self) -> None:
        """What is searched: what the bad end shows."""
        try:
            if self._journal.sought is None:
                self._make(self._bad)
                began = time.monotonic()
                sought, ran = self._test.seek(self._bad, min(self._limit, _SEEK), self._folder / "steps")
                if sought is None:
                    said = f": {ran.note}" if ran.note else ""
                    raise _Nothing(f"the bad end shows no failure in {ran.passes + ran.void} runs{said}")
                self._journal.seek(dict(sought))
                self._note(self._bad, ran, time.monotonic() - began)
            else:
                self._test.take(self._journal.sought)
        except CannotTest as error:
            raise _Nothing(f"the bad end cannot be tested: {error}") from None

    def _measure(self) -> None:
        """How often the bad end fails."""
        while (tally := self._tally(self._bad)).fails < search.MEASURED and tally.runs < self._limit:
            if tally.fails >= _FEW and self._seconds(self._bad.name) > _DEAR_S:
                return
            rate = (tally.fails + 0.5) / (tally.runs + 1)
            runs = math.ceil((search.MEASURED - tally.fails) / rate)
            self._run(self._bad, max(1, min(runs, _AT_ONCE, self._limit - tally.runs)), first=False)
            if self._stuck(self._bad):
                raise _Nothing(f"the bad end says nothing that can be judged: {self._note_of(self._bad.name)}")

    def _clear(self, good: Target, what: str) -> None:
        """Show that an end does not fail, as surely as the answer must be."""
        measured = self._tally(self._bad)
        enough = search.needed(measured.fails, measured.passes, (1 - self._confidence) / 4, self._limit)
        try:
            image = self._image(good)
        except CannotTest as error:
            raise _Nothing(f"{what}, {good.name}, cannot be tested: {error}") from None
        if image and image == self._journal.images.get(self._bad.name):
            raise _Nothing(f"{what}, {good.name}, is the same as the bad end, to the bit")
        while (tally := self._tally(good)).passes < enough and not tally.fails:
            left = enough - tally.passes
            self._run(good, min(left, _FIRST) if not tally.runs else left)
            if self._stuck(good):
                raise _Nothing(f"{what}, {good.name}, is not conclusive: {self._note_of(good.name)}")
        self._told(good)
        if tally.fails:
            raise _Nothing(f"{what}, {good.name}, fails in the same way ({tally.fails} of {tally.runs} runs)")

    # ------------------------------------------------------------------ a step

    def _side_by_side(self, questions: Sequence[Question]) -> None:
        """Ask several questions at once, each in a process and a work tree of its own."""
        lanes = self._expected.assigned(questions)

        def ask(number: int, question: Question) -> None:
            test = self._test.lane(number, len(lanes))
            with lane(test, self._progress, self._space.states[question.state][:12]) as mine:
                self._ask(question, _Turn(mine, number, len(lanes)))

        with concurrent.futures.ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as pool:
            try:
                futures = [pool.submit(ask, number, question) for number, question in lanes.items()]
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                process.end_all()
                raise
        self._expected.begun |= dict.fromkeys(lanes, True)
        self._alone.made = ""

    def _ask(self, question: Question, turn: _Turn | None = None) -> None:
        target = self._subject.target(question.state)
        try:
            fresh = target.name not in self._journal.images
            image = self._image(target, turn)
            if fresh and (why := self._skip_of_twin(target.name, image)):
                raise CannotTest(why)
            if fresh and self._inherits(target.name, image):
                self._told(target)
                return
            done = self._tally(target)
            left = question.runs
            while left > 0 and self._tally(target).fails == done.fails and not self._stuck(target):
                if turn and not self._search.is_open(self._known, question.state):
                    # What ran beside it has answered this question, too.
                    break
                ran = self._run(target, min(left, _FIRST) if not self._tally(target).runs else left, turn=turn)
                left -= ran.passes + ran.fails
            if self._stuck(target):
                raise CannotTest(self._note_of(target.name))
        except CannotTest as error:
            self._add(Entry(target.name, skip=str(error)))
        self._told(target)

    def _image(self, target: Target, turn: _Turn | None = None) -> str:
        """What a target is to the bit; made unless it was made before."""
        if target.name not in self._journal.images:
            self._make(target, turn)
        return self._journal.images[target.name]

    def _make(self, target: Target, turn: _Turn | None = None) -> None:
        turn = turn or self._alone
        if turn.made == target.name:
            return
        began = time.monotonic()
        self._expected.at[turn.number] = turn.made = ""
        made = turn.test.make(target)
        self._expected.at[turn.number] = turn.made = target.name
        if target.name not in self._journal.images:
            self._add(
                Entry(
                    target.name,
                    image=made.image,
                    stored=made.stored,
                    seconds=time.monotonic() - began,
                    lanes=turn.lanes,
                )
            )

    def _run(self, target: Target, runs: int, *, first: bool = True, turn: _Turn | None = None) -> Ran:
        turn = turn or self._alone
        self._make(target, turn)
        number = sum(1 for entry in self._journal.entries if entry.folder) + 1
        place = self._folder / "steps" / f"{number:04}-{_plain(target.name)}"
        while place.exists():
            # An earlier call was ended in it.
            number += 1
            place = place.with_name(f"{number:04}-{_plain(target.name)}")
        began = time.monotonic()
        ran = turn.test.run(target, runs, place, first=first)
        self._note(target, ran, time.monotonic() - began, turn.lanes)
        return ran

    def _note(self, target: Target, ran: Ran, seconds: float, lanes: int = 1) -> None:
        self._add(
            Entry(
                target.name,
                fails=ran.fails,
                passes=ran.passes,
                void=ran.void,
                note=ran.note,
                seconds=seconds,
                folder=ran.folder,
                lanes=lanes,
            )
        )

    def _add(self, entry: Entry) -> None:
        with self._guard:
            self._journal.add(entry)
            self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        """Take an answer into account."""
        state = self._place.get(entry.state)
        if state is None:
            return
        if entry.tally.runs:
            self._known = self._known.plus(state, entry.tally)
        if entry.skip:
            self._known = self._known.without(state)
        if entry.image:
            for name, image in self._journal.images.items():
                if image == entry.image and name != entry.state:
                    self._known = self._as(state, name)

    def _as(self, state: int, name: str) -> Knowledge:
        """What is known when a state is the same as another one, or as an end."""
        if name in self._place:
            return self._known.same(state, self._place[name])
        if any(name == good.name for good in self._subject.goods):
            return self._known.clean(state)
        return self._known

    def _inherits(self, name: str, image: str) -> bool:
        """Whether something else with the same content has been judged."""
        return any(entry.state != name and self._journal.images.get(entry.state) == image and entry.tally.runs
                   for entry in self._journal.entries)  # fmt: skip

    def _skip_of_twin(self, name: str, image: str) -> str:
        """Why something else with the same content cannot be tested; empty where it can, or where there is none."""
        twins = (entry for entry in self._journal.entries if entry.state != name and entry.skip)
        return next((entry.skip for entry in twins if image and self._journal.images.get(entry.state) == image), "")

    # ------------------------------------------------------------------ what the journal says

    def _tally(self, target: Target) -> Tally:
        return sum((entry.tally for entry in self._journal.entries if entry.state == target.name), Tally())

    def _seconds(self, name: str) -> float:
        return sum(entry.seconds for entry in self._journal.entries if entry.state == name)

    def _void(self, name: str) -> int:
        return sum(entry.void for entry in self._journal.entries if entry.state == name)

    def _stuck(self, target: Target) -> bool:
        """Whether a state says too little: most of its runs were void, and not just the first."""
        return self._void(target.name) >= _FEW and self._void(target.name) > self._tally(target).runs

    def _note_of(self, name: str) -> str:
        notes = Counter(
            entry.note for entry in self._journal.entries if entry.state == name and entry.note and entry.void
        )
        return notes.most_common(1)[0][0] if notes else "nothing was said"

    def _say_what_is_left(self, plans: Sequence[Plan]) -> None:
        """How far it is, and why as many states at once as there are."""
        kind, count = self._subject.kind, self._known.likely(1 - (1 - self._confidence) / 2).bit_count()
        best = plans[0]
        if self._lanes > 1 and len(plans) > 1:
            other = next(plan for plan in plans if (len(plan.questions) > 1) != (len(best.questions) > 1))
            side, alone = (best, other) if len(best.questions) > 1 else (other, best)
            said = f"{len(best.questions)} {kind}s side by side" if best is side else f"one {kind} at a time"
            if said != self._said:
                self._said = said
                self._progress.say(
                    f"{said}: on {self._expected.cpus} CPUs, {len(side.questions)} at once would take "
                    f"{_long(side.seconds)}, one at a time {_long(alone.seconds)}"
                )
        measured = self._tally(self._bad)
        enough = search.needed(measured.fails, measured.passes, (1 - self._confidence) / 2, self._limit)
        steps = max(1, math.ceil(self._known.entropy / math.log2(len(best.questions) + 1)))
        self._progress.say(
            f"{count} {kind}{'s' * (count != 1)} left; about {steps} step{'s' * (steps != 1)}, "
            f"{_long(best.seconds + self._expected.proof(enough))} with the proof"
        )

    def _told(self, target: Target) -> None:
        self._tell(self._step(target.name))

    def _step(self, name: str) -> Step:
        entries = [entry for entry in self._journal.entries if entry.state == name]
        tally = sum((entry.tally for entry in entries), Tally())
        skip = next((entry.skip for entry in entries if entry.skip), "")
        image = self._journal.images.get(name, "")
        twin = next(
            (one for one, other in self._journal.images.items() if image and other == image and one != name), ""
        )
        verdict, reason = "good", ""
        if skip:
            verdict, reason = "skip", skip
        elif tally.fails:
            verdict, reason = "bad", f"{tally.fails} of {tally.runs} runs fail"
        elif tally.runs:
            reason = f"none of {tally.runs} runs fails"
            if name in self._place and self._known.groups and self._known.bad(self._place[name]) > 0.5:
                verdict, reason = "bad", f"{reason}, but other answers say that it must be bad"
        elif twin:
            verdict, reason = self._step_of_twin(twin), f"the same kernel as {twin}, to the bit"
        elif name in self._place and self._known.groups:
            # What ran beside it has answered for it.
            verdict = "bad" if self._known.bad(self._place[name]) > 0.5 else "good"
            reason = f"not run: other answers say that it must be {verdict}"
        if not skip and self._void(name):
            reason += f"; {self._void(name)} said nothing: {self._note_of(name)}"
        return Step(
            name=name,
            title=self._subject.title(name) if name in self._place else "",
            verdict=verdict,
            reason=reason,
            runs=tally.runs + self._void(name),
            fails=tally.fails,
            cached=any(entry.stored for entry in entries) or (bool(twin) and not tally.runs),
            seconds=sum(entry.seconds for entry in entries),
            folders=[entry.folder for entry in entries if entry.folder],
        )

    def _step_of_twin(self, twin: str) -> str:
        return "bad" if any(entry.fails for entry in self._journal.entries if entry.state == twin) else "good"

    # ------------------------------------------------------------------ the answer

    def _verify(self, culprit: str) -> tuple[bool | None, str]:
        """Take the culprit alone away; where that cannot be done, look at it and what was before it again."""
        measured = self._tally(self._bad)
        enough = search.needed(measured.fails, measured.passes, (1 - self._confidence) / 2, self._limit)
        kind = self._subject.kind
        try:
            reverted = self._subject.reverted(culprit)
            image = self._image(reverted)
            if image == self._journal.images.get(self._bad.name):
                return (
                    None,
                    f"the bad end without this {kind} is the same kernel, to the bit: something later has undone it",
                )
            if tally := self._repeat(reverted, enough):
                if tally.fails:
                    return (
                        False,
                        f"the failure remains on the bad end without this {kind}: {tally.fails} of {tally.runs} runs",
                    )
                return True, f"the failure is gone on the bad end without this {kind}: none of {tally.runs} runs"
            why = f"the bad end without this {kind} says nothing: {self._note_of(reverted.name)}"
        except CannotTest as error:
            why = f"this {kind} cannot be taken back alone on the bad end: {error.message}"
        return self._compare(culprit, enough, why)

    def _compare(self, culprit: str, enough: int, why: str) -> tuple[bool | None, str]:
        """The culprit against what was before it, more often than the search did."""
        number = self._place.get(culprit)
        after = self._subject.target(number) if number is not None else self._bad
        before = self._subject.before(culprit)
        try:
            first = self._repeat(before, self._tally(before).passes + enough)
            second = self._repeat(after, self._tally(after).passes + enough, fail=True)
        except CannotTest as error:
            return None, f"{why}; and the state before it cannot be tested: {error.message}"
        if first is None or second is None:
            return None, f"{why}; and it, or the state before it, says nothing that can be judged"
        said = f"before it {first.fails} of {first.runs} runs fail, with it {second.fails} of {second.runs}"
        if first.fails or not second.fails:
            return False, f"{why}; and {said}"
        return True, f"{why}; but {said}"

    def _repeat(self, target: Target, passes: int, *, fail: bool = False) -> Tally | None:
        """Run a state until it fails or has passed so often; None when it says nothing. fail: it is the bad one."""
        self._image(target)
        while (tally := self._tally(target)).passes < min(passes, self._limit) and not tally.fails:
            left = passes - tally.passes
            self._run(target, min(left, _FIRST) if not tally.runs and not fail else left)
            if self._stuck(target):
                return None
        return self._tally(target)

    def _answer(
        self,
        candidates: Sequence[str],
        reason: str = "",
        *,
        verified: bool | None = None,
        proof: str = "",
        bits: int = 0,
    ) -> Answer:
        names = list(dict.fromkeys(entry.state for entry in self._journal.entries))
        steps = [self._step(name) for name in names]
        skipped = {step.name: step.reason for step in steps if step.verdict == "skip"}
        apart = [self._space.states[state] for state in search.distinguishable(self._known, bits)]
        measured = self._tally(self._bad)
        return Answer(
            kind=self._subject.kind,
            candidates=candidates,
            confidence=self._known.probability(bits) if bits else 0.0,
            sought=self._journal.sought,
            steps=steps,
            reason=reason,
            narrow={name: skipped.get(name, "") for name in apart},
            verified=verified,
            proof=proof,
            rate=measured.fails / measured.runs if measured.runs else 0.0,
        )


def _long(seconds: float) -> str:
    """An expectation, as exact as it may be taken."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _plain(name: str) -> str:
    """A name as part of a folder's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name[:12])
