# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel must have, or must not have, for a scenario to apply to it: options, versions, and a contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.model import forms, strict_yaml
from harness.model.contract import Contract
from harness.model.errors import UsageError
from harness.model.strict_yaml import offer
from harness.model.vocabulary import KEYS


@dataclass(frozen=True)
class Needs:
    """Options without their CONFIG_, and the first version of Linux that has what options cannot tell ("": any).

    without: options that must be off, since they change what happens. until: the first version that does otherwise.
    contract: the one that it is about; None for a scenario that applies under each.
    """

    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    version: str = ""
    until: str = ""
    contract: Contract | None = None

    def missing(self, options: Mapping[str, str], release: str, contract: Contract = Contract.MAYFAIL) -> str:
        """Why a kernel does not qualify, in words; empty for a kernel that does.

        options: name → value of those that are set. release: as uname -r tells it.
        contract: the one that the kernel is judged by.
        """
        if self.contract not in (None, contract):
            return f"is for the contract {self.contract}, and this kernel is judged by {contract}"
        lacking = [f"CONFIG_{name}" for name in self.options if options.get(name, "n") == "n"]
        if lacking:
            return f"needs {', '.join(lacking)}, which this kernel is built without"
        # BASE_SMALL is a number on 6.1, and 0 means no.
        present = [f"CONFIG_{name}" for name in self.without if options.get(name, "n") not in ("n", "0")]
        if present:
            return f"is for kernels without {', '.join(present)}, and this one has it"
        if self.version and _number(release) < _number(self.version):
            return f"needs Linux {self.version}, and this is {release}"
        if self.until and _number(release) >= _number(self.until):
            return f"is for Linux before {self.until}, and this is {release}"
        return ""


def _number(version: str) -> tuple[int, int]:
    match = forms.VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def read(top: strict_yaml.Mapping) -> Needs:
    """The section `needs` of a scenario."""
    entry = top.get("needs", {})
    if not isinstance(entry, strict_yaml.Mapping):
        if entry is None or entry == {}:
            return Needs()
        raise UsageError(f"{top.at('needs')}: needs must be a mapping", "needs: {options: [KSM]}")
    entry.only(KEYS["needs"], "needs")
    return Needs(
        _options(entry, "options"),
        _options(entry, "without"),
        _release(entry, "version"),
        _release(entry, "until"),
        _contract(entry),
    )


def made(options: Collection[str], without: Collection[str], version: Any, until: Any) -> Needs:
    """The same from words that no file holds. Raises ValueError."""
    for name in (*options, *without):
        if not forms.OPTION.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an option, as KASAN is")
    for text in (version, until):
        if not isinstance(text, str) or (text and not forms.VERSION.fullmatch(text)):
            raise ValueError(f"{text!r} is not a version, as '6.8' is")
    return Needs(tuple(options), tuple(without), version, until)


def _contract(entry: strict_yaml.Mapping) -> Contract | None:
    if "contract" not in entry:
        return None
    name = entry["contract"]
    if not isinstance(name, str) or name not in list(Contract):
        raise UsageError(f"{entry.at('contract')}: unknown contract {name!r}", offer(str(name), list(Contract)))
    return Contract(name)


def _release(entry: strict_yaml.Mapping, key: str) -> str:
    version = entry.get(key, "")
    # 6.10 without quotes is the number 6.1.
    if not isinstance(version, str) or (version and not forms.VERSION.fullmatch(version)):
        raise UsageError(f"{entry.at(key)}: {version!r} is not a version", f'quote it: {key}: "6.8"')
    return version


def _options(entry: strict_yaml.Mapping, key: str) -> tuple[str, ...]:
    options = entry.get(key, [])
    if not isinstance(options, list) or not all(
        isinstance(name, str) and forms.OPTION.fullmatch(name) for name in options
    ):
        raise UsageError(f"{entry.at(key)}: {key} must be names like KSM, without CONFIG_")
    return tuple(options)
