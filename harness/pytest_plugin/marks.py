# SPDX-License-Identifier: GPL-2.0-only
"""What a test's markers say: on which kernel and machine it runs, for how long, and what the kernel is to report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.model.needs import Needs
    from harness.model.shape import MachineShape
    from harness.model.verdict import Finding

_WORDS = "source patch config contract accel memory cpus swap cmdline timeout needs without version until expect allow"
_MARKERS = {
    f"kernel({', '.join(f'{word}=' for word in _WORDS.split())})": (
        "the kernel and the machine of the test's guest, and what its kernel must or may report; "
        "see docs/how-to/pytest.md"
    ),
    "kernel_report(pattern, oracle=None)": (
        "the kernel of the test's guest must do this, and is not blamed for it; pattern: a regular expression that is "
        "searched in a finding's summary, as that of a scenario's `expect`"
    ),
}
# The longest that a test may ask for: a day.
_TIMEOUT_MAX_S = 86400


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    for form, meaning in _MARKERS.items():
        config.addinivalue_line("markers", f"{form}: {meaning}")


@dataclass(frozen=True)
class Expected:
    """What a kernel is to do. must: it fails the test that it does not."""

    pattern: str
    oracle: str | None = None
    must: bool = True

    def meets(self, finding: Finding) -> bool:
        """The kernel did it."""
        return self.oracle in (None, finding.oracle) and re.search(self.pattern, finding.summary) is not None


@dataclass(frozen=True)
class Marks:
    """All that the markers of a test say. kernel: what replaces the options' values; timeout_s: 0 for no limit."""

    kernel: Mapping[str, Any]
    shape: MachineShape
    needs: Needs
    timeout_s: float
    expected: Sequence[Expected]


def read(item: pytest.Item) -> Marks:
    """The markers of a test; the nearest one counts, and what is expected adds up. Raises UsageError."""
    from harness.model.errors import UsageError

    told: dict[str, Any] = {}
    expected: list[Expected] = []
    try:
        for marker in reversed(list(item.iter_markers("kernel"))):
            if marker.args:
                raise TypeError("it takes only names with values, as in kernel(memory='1G')")
            _known(marker.kwargs)
            for key, must in (("expect", True), ("allow", False)):
                expected += [Expected(pattern, must=must) for pattern in _texts(key, marker.kwargs.get(key, ()))]
            told |= marker.kwargs
        for marker in item.iter_markers("kernel_report"):
            expected.append(Expected(*marker.args, **marker.kwargs))
        for one in expected:
            re.compile(one.pattern)
        return Marks(
            kernel=dict(_kernel(told)),
            shape=_shape(told),
            needs=_needs(told),
            timeout_s=_timeout(told.get("timeout", 0)),
            expected=expected,
        )
    except (TypeError, ValueError, re.error) as error:
        name = "kernel_report" if not told and item.get_closest_marker("kernel_report") else "kernel"
        raise UsageError(f"{item.nodeid}: {name}: {error}", "pytest --markers") from None
    except UsageError as error:
        raise UsageError(f"{item.nodeid}: kernel: {error.message}", error.hint) from None


def _known(given: Mapping[str, Any]) -> None:
    from harness.model.errors import UsageError
    from harness.model.strict_yaml import offer

    for key in given:
        if key not in _WORDS.split():
            raise UsageError(f"unknown word {key!r}", offer(key, _WORDS.split()))


def _kernel(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    from harness.model.contract import CHOICES

    choices = {"contract": CHOICES, "accel": ("auto", "kvm", "tcg")}
    for key in ("source", "contract", "accel"):
        if key in told:
            (value,) = _texts(key, told[key])
            if value not in choices.get(key, (value,)):
                raise ValueError(f"{key} is {value!r}, not {', '.join(choices[key])}")
            yield key, value
    for key in ("patch", "config"):
        if key in told:
            yield key, _texts(key, told[key])


def _shape(told: Mapping[str, Any]) -> MachineShape:
    from harness.model import scenario

    words = {key: told[key] for key in ("memory", "cpus", "swap", "cmdline") if key in told}
    return scenario.shape(words)


def _needs(told: Mapping[str, Any]) -> Needs:
    from harness.model import needs

    def options(key: str) -> list[str]:
        return [name.removeprefix("CONFIG_") for name in _texts(key, told.get(key, ()))]

    return needs.made(options("needs"), options("without"), told.get("version", ""), told.get("until", ""))


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """A text, or several."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if found is None or not all(isinstance(text, str) for text in found):
        raise TypeError(f"{key} is {value!r}, neither a text nor a list of texts")
    return found


def _timeout(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _TIMEOUT_MAX_S:
        raise ValueError(f"timeout is {value!r}, not a number of seconds from 0 to {_TIMEOUT_MAX_S}")
    return float(value)
