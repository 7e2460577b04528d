# SPDX-License-Identifier: GPL-2.0-only
"""The store: one SQLite file in the cache, beside the runs, that several processes write to at once.

The runs are the truth. What the store lacks is taken from them, and a store that is damaged is moved aside
and made again. A run that is no longer there lives on in the store alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.history.record import Entry, Result
from harness.host import workspace
from harness.model.errors import HarnessError, MachineError, UsageError

NAME = "runs.sqlite3"
# In the head of a file of ours: "khis".
_APPLICATION = 0x6B686973
# Each entry makes the next schema; a released one is never changed.
_MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """CREATE TABLE runs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, folder TEXT NOT NULL,
        stamp TEXT NOT NULL, live INTEGER NOT NULL, began_s REAL NOT NULL, job TEXT NOT NULL, source TEXT NOT NULL,
        patches TEXT NOT NULL, configs TEXT NOT NULL, contract TEXT NOT NULL, accel TEXT NOT NULL,
        release TEXT NOT NULL, build_id TEXT NOT NULL, commit_name TEXT NOT NULL, verdict TEXT NOT NULL,
        error TEXT NOT NULL, seconds REAL NOT NULL) STRICT""",
        "CREATE INDEX runs_began_s ON runs (began_s)",
        """CREATE TABLE results (run INTEGER NOT NULL REFERENCES runs (seq) ON DELETE CASCADE, place INTEGER NOT NULL,
        name TEXT NOT NULL, verdict TEXT NOT NULL, seconds REAL NOT NULL, exercised TEXT NOT NULL,
        reason TEXT NOT NULL, oracle TEXT NOT NULL, cause TEXT NOT NULL, summary TEXT NOT NULL,
        PRIMARY KEY (run, place)) STRICT, WITHOUT ROWID""",
        # Folders that cannot be read, so that they are not read again and again.
        "CREATE TABLE unread (folder TEXT PRIMARY KEY, stamp TEXT NOT NULL, reason TEXT NOT NULL) STRICT",
    ),
    ("ALTER TABLE results ADD COLUMN loop_ms REAL NOT NULL DEFAULT 0",),
)
VERSION = len(_MIGRATIONS)
_COLUMNS = (
    "id, folder, stamp, live, began_s, job, source, patches, configs, contract, accel, release, build_id, "
    "commit_name, verdict, error, seconds"
)
# Files that belong to a store.
_BESIDE = ("", "-wal", "-shm", "-journal")
_HINT = "harness history makes it again"


class Damaged(MachineError):
    """The file is not a store of ours, or no longer."""


class Store:
    """An open store; a context manager. Raises UsageError for one of a newer harness, MachineError for one that fails.

    Nothing is written to a store of a newer harness.
    """

    def __init__(self, cache: Path, wait_s: float = 10.0, *, thorough: bool = False) -> None:
        """wait_s: how long another writer is waited for. thorough: read the whole file, to see that it is whole."""
        self.path = place(cache)
        self._wait_s = wait_s
        self._closing = contextlib.ExitStack()
        with self._faults():
            self._demand_folder()
            self._demand_file()
            self._rows = sqlite3.connect(self.path, timeout=wait_s, isolation_level=None, cached_statements=32)
            self._closing.callback(self._rows.close)
            try:
                self._open(thorough=thorough)
            except BaseException:
                self._closing.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._faults():
            self._closing.close()

    def put(self, entry: Entry, stamp: str, *, live: bool = False) -> None:
        """Enter a run, or what has become of it since; a run that is there keeps its place."""
        run = [
            *(entry.id, entry.folder, stamp, int(live), entry.began_s, entry.job, entry.source),
            *(json.dumps(entry.patches), json.dumps(entry.configs), entry.contract, entry.accel, entry.release),
            *(entry.build_id, entry.commit, entry.verdict, entry.error, entry.seconds),
        ]
        # A copy of a run is the run; of the two folders, the first one counts for as long as it is there.
        kept = "live = max(live, excluded.live), " + ", ".join(
            f"{name} = excluded.{name}" for name in _COLUMNS.split(", ") if name not in ("id", "live")
        )
        with self._faults(), self._transaction():
            marks = ", ".join("?" * len(run))
            # The names are ours.
            (seq,) = self._rows.execute(
                f"INSERT INTO runs ({_COLUMNS}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {kept} RETURNING seq",  # noqa: S608
                run,
            ).fetchone()
            self._rows.execute("DELETE FROM results WHERE run = ?", (seq,))
            self._rows.executemany(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        *(seq, at, one.name, one.verdict, one.seconds, json.dumps(dict(one.exercised))),
                        *(one.reason, one.oracle, one.cause, one.summary, one.loop_ms),
                    )
                    for at, one in enumerate(entry.results)
                ),
            )
            self._rows.execute("DELETE FROM unread WHERE folder = ?", (entry.folder,))

    def leave_out(self, folder: str, stamp: str, reason: str) -> None:
        """Note that a folder cannot be read."""
        with self._faults(), self._transaction():
            self._rows.execute("INSERT OR REPLACE INTO unread VALUES (?, ?, ?)", (folder, stamp, reason))

    def seen(self) -> dict[str, str]:
        """Each folder that was read or left out, with the stamp that it had."""
        with self._faults():
            return dict(self._rows.execute("SELECT folder, stamp FROM unread UNION ALL SELECT folder, stamp FROM runs"))

    def folder_of(self, identity: str) -> str:
        """The folder from which a run was entered; empty when it was not."""
        with self._faults():
            row = self._rows.execute("SELECT folder FROM runs WHERE id = ?", (identity,)).fetchone()
            return str(row[0]) if row else ""

    def left_out(self) -> dict[str, str]:
        """Each folder that is left out, and why; no reason for a copy of a run that is there."""
        with self._faults():
            return dict(self._rows.execute("SELECT folder, reason FROM unread ORDER BY folder"))

    def forget(self, folders: Sequence[str]) -> None:
        """Take back that folders cannot be read."""
        with self._faults(), self._transaction():
            self._rows.executemany("DELETE FROM unread WHERE folder = ?", ((folder,) for folder in folders))

    def entries(self, since_s: float = 0.0) -> list[Entry]:
        """The runs that began at or after a time, or were entered behind one that did, in the order of entering."""
        with self._faults():
            results: dict[int, list[Result]] = {}
            first = self._rows.execute("SELECT min(seq) FROM runs WHERE began_s >= ?", (since_s,)).fetchone()[0] or 0
            which = "(runs.began_s >= ? OR runs.live AND runs.seq > ?)"
            for seq, *row in self._rows.execute(
                "SELECT run, name, results.verdict, results.seconds, exercised, reason, oracle, cause, summary, "  # noqa: S608
                f"loop_ms FROM results JOIN runs ON runs.seq = run WHERE {which} ORDER BY run, place",
                (since_s, first),
            ):
                results.setdefault(seq, []).append(_result(row))
            rows = self._rows.execute(
                f"SELECT seq, {_COLUMNS} FROM runs WHERE {which} ORDER BY seq",  # noqa: S608
                (since_s, first),
            )
            return [_entry(row, results.get(row[0], ())) for row in rows.fetchall()]

    def first_seen(self) -> dict[tuple[str, str], float]:
        """Each cause, with the time at which it was first seen, however long ago."""
        with self._faults():
            rows = self._rows.execute(
                "SELECT oracle, cause, min(began_s) FROM results JOIN runs ON seq = run WHERE oracle <> '' "
                "GROUP BY 1, 2"
            )
            return {(oracle, cause): began_s for oracle, cause, began_s in rows}

    def _demand_folder(self) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{folder}: is not a folder", f"mv {shlex.quote(str(folder))} elsewhere") from None

    def _demand_file(self) -> None:
        """Raise UsageError for what is no file, Damaged for what is no store, before SQLite writes beside it."""
        try:
            # A pipe without a writer would be waited for.
            with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise UsageError(f"{self.path}: is not a file", f"mv {shlex.quote(str(self.path))} elsewhere")
                head = stream.read(100)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            raise UsageError(f"{self.path}: is a folder", f"mv {shlex.quote(str(self.path))} elsewhere") from None
        if head and (len(head) < 100 or not head.startswith(b"SQLite format 3\0")):
            raise Damaged(f"{self.path}: is no SQLite file", _HINT)
        self._demand_version(int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big"))

    def _demand_version(self, version: int, application: int) -> None:
        if application not in (0, _APPLICATION):
            raise Damaged(f"{self.path}: another program's SQLite file", _HINT)
        if application and version > VERSION:
            raise UsageError(
                f"{self.path}: its schema is {version}, and this harness reads up to {VERSION}: "
                "a newer harness wrote it",
                "use the newer harness, or another cache: HARNESS_CACHE=DIR",
            )

    def _open(self, *, thorough: bool) -> None:
        rows = self._rows
        rows.text_factory = lambda raw: raw.decode(errors="replace")
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = ON"):
            rows.execute(f"PRAGMA {pragma}")
        (version,), (application,) = (rows.execute(f"PRAGMA {name}").fetchone() for name in _HEAD)
        self._demand_version(version, application)
        # Readers and a writer do not wait for each other. Where the file system cannot, they do.
        with contextlib.suppress(sqlite3.OperationalError):
            if rows.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                rows.execute("PRAGMA journal_mode = WAL")
        # A machine that loses power may lose what was entered last, which is taken from the runs again.
        rows.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            self._migrate()
        elif _schema(rows) != _wanted():
            raise Damaged(f"{self.path}: its tables are not those of a history", _HINT)
        if thorough:
            found = rows.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise Damaged(f"{self.path}: {found}", _HINT)

    def _migrate(self) -> None:
        with self._transaction():
            (version,) = self._rows.execute("PRAGMA user_version").fetchone()
            if version == 0 and _schema(self._rows):
                raise Damaged(f"{self.path}: its tables are not those of a history", _HINT)
            for statement in (line for step in _MIGRATIONS[version:] for line in step):
                self._rows.execute(statement)
            self._rows.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._rows.execute(f"PRAGMA user_version = {VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block, or nothing of it."""
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._rows.execute("COMMIT")
        except BaseException:
            # Where the disk is full, SQLite may have rolled back already.
            with contextlib.suppress(sqlite3.Error):
                self._rows.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What SQLite or the system refuses in the block, as an error of ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._fault(error) from error
        except UnicodeDecodeError as error:
            # What SQLite complains of is quoted from the file, byte for byte.
            raise Damaged(f"{self.path}: is damaged", _HINT) from error
        except OSError as error:
            raise workspace.fault(error) from error

    def _fault(self, error: sqlite3.Error) -> HarnessError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return Damaged(f"{self.path}: {error}", _HINT)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            waited = f"{self._wait_s:g} s"
            return MachineError(
                f"{self.path}: another harness has been writing to it for {waited} (limit {waited})",
                "harness history, once it has ended",
            )
        if code == sqlite3.SQLITE_FULL:
            return workspace.no_space(self.path)
        return MachineError(f"{self.path}: {error}", "harness history tries it again")


_HEAD = ("user_version", "application_id")


def place(cache: Path) -> Path:
    """Where the store of a cache is."""
    return cache / "history" / NAME


def set_aside(cache: Path) -> Path | None:
    """Give a damaged store another name, which is returned; None when another process has done so meanwhile."""
    path = place(cache)
    with workspace.lock(path.with_suffix(".lock")):
        try:
            with Store(cache, thorough=True):
                return None
        except Damaged:
            pass
        stamp = time.strftime("%Y%m%d-%H%M%S")
        names = (f"{NAME}.damaged-{stamp}{suffix}" for suffix in ("", *(f"-{number}" for number in range(1, 1000))))
        aside = next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
        for suffix in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH104 - as os.replace elsewhere
        return aside


def _schema(rows: sqlite3.Connection) -> list[tuple[str, ...]]:
    """All that a file has beside rows. A view or a trigger that is not ours would be run."""
    found = rows.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY name")
    return [tuple(row) for row in found]


@cache
def _wanted() -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as rows:
        for statement in (line for step in _MIGRATIONS for line in step):
            rows.execute(statement)
        return _schema(rows)


def _result(row: Sequence[Any]) -> Result:
    name, verdict, seconds, exercised, reason, oracle, cause, summary, loop_ms = row
    return Result(name, verdict, seconds, _counts(exercised), reason, oracle, cause, summary, loop_ms)


def _counts(text: str) -> Mapping[str, int]:
    found = _parsed(text, {})
    return {name: count for name, count in found.items() if isinstance(count, int)} if isinstance(found, dict) else {}


def _texts(text: str) -> Sequence[str]:
    found = _parsed(text, [])
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _parsed(text: str, otherwise: object) -> object:
    """JSON in a column. Whoever may write to the file may have written anything."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def _entry(row: Sequence[Any], results: Sequence[Result]) -> Entry:
    seq, identity, folder, _stamp, live, began_s, job, source, patches, configs, *facts, seconds = row
    contract, accel, release, build_id, commit, verdict, error = facts
    return Entry(
        id=identity,
        folder=folder,
        began_s=began_s,
        job=job,
        source=source,
        patches=_texts(patches),
        configs=_texts(configs),
        contract=contract,
        accel=accel,
        release=release,
        build_id=build_id,
        commit=commit,
        verdict=verdict,
        error=error,
        seconds=seconds,
        results=tuple(results),
        seq=seq,
        live=bool(live),
    )
