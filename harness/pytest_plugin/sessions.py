# SPDX-License-Identifier: GPL-2.0-only
"""The session of a run of pytest: the kernel that its options choose, prepared on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin import options

if TYPE_CHECKING:
    from harness.run.session import Session

_SESSION = pytest.StashKey["Session"]()


def session(config: pytest.Config) -> Session:
    """The session of this run."""
    from harness.commands._options import built_request
    from harness.kernel import versions
    from harness.model.contract import AUTO
    from harness.run.pipeline import KernelRequest
    from harness.run.session import Session
    from harness.terminal import Terminal
    from harness.variants import instruments

    if _SESSION not in config.stash:
        contract = options.value(config, "--kernel-contract") or AUTO
        folder = options.value(config, "--kernel-built")
        makes = ("--kernel-source", "--kernel-patch", "--kernel-config", "--kernel-base-config")
        given = {name: options.value(config, name) for name in makes}
        if folder is not None:
            request = built_request(folder, given, contract, "--kernel-built")
        else:
            request = KernelRequest(
                given["--kernel-source"] or versions.DEFAULT,
                tuple(given["--kernel-patch"] or versions.patch(contract)),
                tuple(given["--kernel-config"] or ()),
                contract=contract,
                base_config=given["--kernel-base-config"] or "",
            )
        terminal = Terminal()
        for name in config.stash.get(options.TAKEN, ()):
            terminal.say(f"kernel harness: {name} is somebody else's option here; ours has its default")
        accel = options.value(config, "--kernel-accel") or "auto"
        config.stash[_SESSION] = Session(request, instruments.NOTIFIER_HOLD, accel, terminal)
    return config.stash[_SESSION]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say where the recordings are."""
    made = config.stash.get(_SESSION, None)
    if made is not None:
        made.close()
