# SPDX-License-Identifier: GPL-2.0-only
"""What fails a test: the kernel, a scenario, or the host; each as a text, without a line of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.model.verdict import Finding

# pytest's own class of a failure that is a text.
Failed: Any = pytest.fail.Exception


class ScenarioFailed(Exception):
    """A scenario that did not pass; its text is what pytest shows."""


class KernelFault(Failed):  # type: ignore[misc]
    """The kernel failed the test."""

    # As pytest does with its own, so that its summary has room for the text.
    __module__ = "builtins"


class TimeUp(Failed):  # type: ignore[misc]
    """A test took longer than its marker allows."""

    __module__ = "builtins"

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=True)


class HostFault(Failed):  # type: ignore[misc]
    """The kernel was not judged, for a reason that is not its own. transient: it may be different next time."""

    __module__ = "builtins"
    transient = False


@contextmanager
def errors_as_text(*, quiet: bool = False) -> Iterator[None]:
    """Show an error to the author of the test as one line, without a traceback through our code; quiet: not at all."""
    from harness.guest.boot import BootFailed
    from harness.model.errors import GuestLost, HarnessError
    from harness.report.text import plain

    try:
        yield
    except BootFailed as failed:
        raise KernelFault(plain(f"the kernel did not boot: {failed}\n{failed.console}"), pytrace=False) from None
    except HarnessError as error:
        if quiet:
            return
        fault = HostFault(plain(str(error)), pytrace=False)
        fault.transient = isinstance(error, GuestLost)
        raise fault from None


def texts(findings: Iterable[Finding]) -> list[str]:
    """Findings as people read them, once they were made plain."""
    return [f"[{finding.oracle}] {finding.summary}\n{finding.evidence}" for finding in findings]
