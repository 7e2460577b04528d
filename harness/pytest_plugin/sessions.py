# SPDX-License-Identifier: GPL-2.0-only
"""The sessions of a run of pytest: one for each kernel that its options and markers choose, prepared on first use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import options

if TYPE_CHECKING:
    from harness.run.session import Session

_SESSIONS = pytest.StashKey[dict[tuple[object, ...], "Session"]]()


def session(config: pytest.Config, kernel: Mapping[str, Any] = MappingProxyType({})) -> Session:
    """The session of this run for a kernel: that of the options, but for what a test's marker replaces."""
    from harness.commands._options import built_request
    from harness.kernel import versions
    from harness.model.contract import AUTO
    from harness.run.pipeline import KernelRequest
    from harness.run.session import Session
    from harness.terminal import Terminal
    from harness.variants import instruments

    def value(key: str) -> Any:
        return kernel.get(key) or options.value(config, f"--kernel-{key}")

    made = config.stash.setdefault(_SESSIONS, {})
    contract = value("contract") or AUTO
    if (folder := options.value(config, "--kernel-built")) is not None:
        others = {f"--kernel-{key}": value(key) for key in ("source", "patch", "config", "base-config")}
        request = built_request(folder, others, contract, "--kernel-built")
    else:
        request = KernelRequest(
            value("source") or versions.DEFAULT,
            tuple(value("patch") or versions.patch(contract)),
            tuple(value("config") or ()),
            contract=contract,
            base_config=value("base-config") or "",
        )
    accel = value("accel") or "auto"
    key = (request.source, request.patches, request.configs, request.base_config, contract, accel)
    if key not in made:
        terminal = Terminal()
        for name in config.stash.get(options.TAKEN, ()) if not made else ():
            terminal.say(f"kernel harness: {name} is somebody else's option here; ours has its default")
        made[key] = Session(request, instruments.NOTIFIER_HOLD, accel, terminal)
    return made[key]


def chosen(config: pytest.Config) -> list[str]:
    """The options that choose the kernel of this run, for a command that repeats a test."""
    words = []
    for name in ("source", "built", "patch", "config", "base-config", "contract", "accel"):
        given = options.value(config, f"--kernel-{name}")
        values = given if isinstance(given, list) else [given] if given not in (None, "auto") else []
        words += [f"--kernel-{name}={one}" for one in values]
    return words


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say where the recordings are."""
    for made in config.stash.get(_SESSIONS, {}).values():
        made.close()
