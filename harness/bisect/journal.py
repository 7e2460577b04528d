# SPDX-License-Identifier: GPL-2.0-only
"""Every answer, on disk before the next question is asked: the same command goes on where an earlier one was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.bisect.search import Tally
from harness.host import workspace
from harness.model.errors import MachineError

_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One answer. state: the name of what was tested. image: what it is to the bit.

    skip: why it cannot be tested. void: runs that said nothing, such as those with another failure, and note: what
    those said. lanes: so many states shared the machine.
    """

    state: str
    image: str = ""
    skip: str = ""
    fails: int = 0
    passes: int = 0
    void: int = 0
    note: str = ""
    stored: bool = False
    seconds: float = 0.0
    folder: str = ""
    lanes: int = 1

    @property
    def tally(self) -> Tally:
        """The runs that gave an answer."""
        return Tally(self.fails, self.passes)


_TYPES = {"fails": int, "passes": int, "void": int, "stored": bool, "seconds": float, "lanes": int}


class Journal:
    """The answers to one question, and what is searched: a record a line. A last line that was cut short is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.sought: dict[str, str] | None = None
        for record in self._records():
            self._take(record)

    @property
    def images(self) -> dict[str, str]:
        """What each state that was made is, to the bit."""
        return {entry.state: entry.image for entry in self.entries if entry.image}

    def add(self, entry: Entry) -> None:
        """Write an answer down."""
        self._append(asdict(entry))
        self.entries.append(entry)

    def seek(self, sought: dict[str, str]) -> None:
        """Write down what is searched."""
        self._append({"sought": sought})
        self.sought = sought

    def _append(self, record: dict[str, Any]) -> None:
        with workspace.space(self.path), self.path.open("ab") as stream:
            stream.write((json.dumps({"version": _VERSION, **record}) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _records(self) -> Iterator[Any]:
        if not self.path.exists():
            return
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            # What comes next must begin on a line of its own.
            workspace.write_atomic(self.path, whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or record.pop("version", None) != _VERSION:
                raise self._damaged(f"line {number}")
            yield record

    def _take(self, record: dict[str, Any]) -> None:
        sought = record.get("sought")
        if isinstance(sought, dict) and all(isinstance(text, str) for text in sought.values()):
            self.sought = sought
            return
        names = {field.name for field in fields(Entry)}
        if "state" not in record or not record.keys() <= names:
            raise self._damaged("a line has other fields")
        for name, value in record.items():
            if not isinstance(value, _TYPES.get(name, str)) and not (name == "seconds" and isinstance(value, int)):
                raise self._damaged(f"{name} is {value!r}")
        self.entries.append(Entry(**record))

    def _damaged(self, what: str) -> MachineError:
        return MachineError(f"{self.path}: is damaged: {what}", f"rm {self.path}; the search begins anew")
