# SPDX-License-Identifier: GPL-2.0-only
"""What a guest carries to see what its kernel does: a module, the program that drives it, and how both are reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instrument:
    """A description for the engine; without arguments, it describes a guest that carries nothing of ours.

    module: the folder of the module's source, named like it; None: no module is
    loaded. programs: path in the guest → folder of the C sources, compiled with
    what the module's folder says in *_uapi.h. driver: the command that takes a
    scenario's steps. log: the device in the guest that the event log is read
    from. quench: the file in the guest that takes a 1 when enough was seen: the
    module accepts all from then on. sections: files of harness/postmortem that
    tell more about a guest in trouble.
    """

    module: Path | None = None
    programs: Mapping[str, Path] = field(default_factory=dict)
    driver: Sequence[str] = ()
    log: str = ""
    quench: str = ""
    sections: Sequence[str] = ()

    @property
    def interface(self) -> Sequence[Path]:
        """The headers from which programs know the module."""
        return sorted(self.module.glob("*_uapi.h")) if self.module else []

    @property
    def text(self) -> str:
        """The file in the guest that tells where its kernel put the module's code; empty without a module."""
        return f"/sys/module/{self.module.name}/sections/.text" if self.module else ""
