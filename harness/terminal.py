# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees: progress and results on standard error, plain lines where that is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report.text import one_line, plain

if TYPE_CHECKING:
    import rich.progress

    from harness.commands.mutants import Campaign
    from harness.variants.mutants import Trial

_STYLE = {Outcome.PASS: "32", Outcome.FAIL: "1;31", Outcome.ERROR: "1;33", Outcome.INCONCLUSIVE: "33"}
# Without a terminal a stage speaks when it has moved by this share, and not more often than this.
_SHARE = 0.1
_QUIET_S = 5.0


class Terminal:
    """A harness.host.progress.Progress on standard error; a context manager."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._guard = threading.RLock()
        self._bars: dict[str, rich.progress.TaskID] = {}
        self._rich: rich.progress.Progress | None = None
        self._told: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._rich is not None:
                self._rich.stop()
                self._rich = None

    def say(self, text: str) -> None:
        """A line of its own, above any bar."""
        self.line(plain(text))

    def line(self, text: str) -> None:
        """A line that is already safe to print."""
        with self._guard:
            if self._rich is not None:
                self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def advance(self, stage: str, done: int, total: int) -> None:
        """A bar on a terminal, a line every so often elsewhere."""
        with self._guard:
            if self._live:
                self._bar(stage, done, total)
                return
            share = done / total if total else 0.0
            last_share, last_time = self._told.get(stage, (-1.0, 0.0))
            now = time.monotonic()
            ended = bool(total) and done >= total
            if (
                (ended and last_share < 1)
                or now - last_time >= _QUIET_S
                or (share - last_share >= _SHARE and now - last_time >= 1)
            ):
                self._told[stage] = (share, now)
                self.line(f"{stage}: {done}" + (f" of {total} ({share:.0%})" if total else ""))

    def _bar(self, stage: str, done: int, total: int) -> None:
        import rich.console
        from rich import progress

        if self._rich is None:
            self._rich = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                console=rich.console.Console(stderr=True),
                transient=True,
            )
            self._rich.start()
        if stage not in self._bars:
            self._bars[stage] = self._rich.add_task(plain(stage), total=total or None)
        self._rich.update(self._bars[stage], completed=done, total=total or None)
        if total and done >= total:
            self._rich.remove_task(self._bars.pop(stage))

    def colour(self, outcome: Outcome, word: str = "") -> str:
        """The outcome's word or another, in the outcome's colour on a terminal, padded to a column."""
        word = f"{word or outcome.value:12}"
        return f"\x1b[{_STYLE[outcome]}m{word}\x1b[0m" if self._live and self._rich is None else word

    def result(self, result: ScenarioResult) -> None:
        """One line for a scenario, and one for each finding."""
        self.line(
            f"{self.colour(result.outcome)} {result.name:36} {result.seconds:6.1f} s  {one_line(result.counted, 400)}"
        )
        if result.outcome is not Outcome.PASS:
            if result.reason:
                self.line(f"             {one_line(result.reason, 400)}")
            for finding in result.findings:
                self.line(f"             [{finding.oracle}] {one_line(finding.summary)}")
                for line in finding.evidence.splitlines()[:2]:
                    self.line(f"                 {one_line(line)}")

    def summary(self, verdict: RunVerdict, folder: str) -> None:
        """The last lines of a run."""
        from collections import Counter

        counts = Counter(result.outcome.value for result in verdict.scenarios)
        said = ", ".join(f"{number} {word}" for word, number in counts.items()) or "no scenario judged"
        for name, reason in verdict.skipped.items():
            self.line(f"{'skipped':12} {name}: {one_line(reason)}")
        for line in verdict.noise:
            self.line(f"{'known noise':12} {one_line(line)}")
        spent = ", ".join(f"{name} {value:.1f}" for name, value in verdict.seconds.items() if value >= 0.05)
        self.line(f"accelerator  {verdict.accel.used or 'none'}: {one_line(verdict.accel.reason)}")
        self.line(f"seconds      {spent}")
        self.line(f"report       {folder}/report.html")
        kernel = f"{verdict.source} + {', '.join(verdict.patches)}, configuration {', '.join(verdict.configs)}"
        if verdict.error:
            self.line(f"{'stopped':12} {one_line(verdict.error, 1000)}")
        self.line(f"{self.colour(verdict.outcome)} {plain(kernel)}: {said}")

    def trial(self, trial: Trial) -> None:
        """One line for a mutant, and one that says what is wrong with it."""
        word = self.colour(Outcome.PASS if trial.good else Outcome.FAIL, trial.verdict)
        self.line(f"{word} {trial.mutant.name:32} {trial.seconds:6.1f} s  {', '.join(trial.killed_by)}")
        if trial.note:
            self.line(f"             {one_line(trial.note, 400)}")

    def matrix(self, campaign: Campaign) -> None:
        """The kill matrix, mutant × oracle, and the last line of a campaign."""
        trials = campaign.trials
        oracles = sorted({name for trial in trials for name in (trial.mutant.expected, *trial.killed_by) if name})
        rows = [[trial.mutant.name, *(_cell(trial, name) for name in oracles), trial.verdict] for trial in trials]
        self.table(["mutant", *oracles, "verdict"], rows)
        self.line("X killed it, as its file says   + may, as its file says   ! by accident   - was to and did not")
        if campaign.skipped:
            self.line(f"{'skipped':12} no port to this kernel: {', '.join(campaign.skipped)}")
        good = sum(trial.good for trial in trials)
        word = self.colour(Outcome.PASS if good == len(trials) else Outcome.FAIL)
        self.line(f"report       {campaign.folder}/mutants.json")
        self.line(f"{word} {good} of {len(trials)} mutants and equivalents as they must be")

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """A table on a terminal, aligned columns elsewhere."""
        if self._live:
            import rich.console
            import rich.table

            drawn = rich.table.Table(*header)
            for row in rows:
                drawn.add_row(*row)
            rich.console.Console(stderr=True, markup=False).print(drawn)
            return
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(trial: Trial, oracle: str) -> str:
    """What an oracle said of a mutant, in one character."""
    if oracle == trial.mutant.expected:
        return "X" if oracle in trial.killed_by else "-"
    if oracle not in trial.killed_by:
        return ""
    return "!" if oracle in trial.accidental else "+"
