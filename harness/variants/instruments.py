# SPDX-License-Identifier: GPL-2.0-only
"""What guests can carry. Nothing else in the harness names a module, or knows how a guest reaches it."""

from __future__ import annotations

from harness.host.workspace import data
from harness.model.instrument import Instrument

_FOLDER = data("guest-modules")

# A guest of somebody's own, watched from outside.
NONE = Instrument()

NOTIFIER_HOLD = Instrument(
    module=_FOLDER / "notifier_hold",
    programs={"bin/drive": _FOLDER / "drive"},
    driver=("/bin/drive",),
    log="/dev/notifier_hold_log",
    quench="/sys/module/notifier_hold/parameters/quench",
    sections=("subscribers",),
)
