# SPDX-License-Identifier: GPL-2.0-only
"""harness shell: a fresh guest with the module loaded, for a person at its second console or for one command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.guest.agent import GuestResult
from harness.host.progress import Progress
from harness.session import Session

# A command may be a whole test suite; Ctrl-C ends it sooner.
_COMMAND_LIMIT_S = 86400.0


def prepare(session: Session, progress: Progress) -> Callable[[], int]:
    """Build what is missing; returns the function that makes the guest and hands the terminal over."""
    lab = session.lab

    def interact() -> int:
        with session.machine() as machine:
            progress.say(f"{lab.kernel.release} on {lab.choice.used}; leave with Ctrl-]")
            progress.say(f"its kernel log: {machine.console.log}")
            machine.interact()
        return 0

    return interact


def execute(session: Session, argv: Sequence[str]) -> GuestResult:
    """Run one command in a fresh guest."""
    with session.machine() as machine:
        return machine.run(*argv, timeout_s=_COMMAND_LIMIT_S)
