"""The job list of a workspace: one row per job in SQLite, shared by any number of servers and command lines.

Every change is a compare-and-set in one transaction, so the second of two concurrent changes has no effect.
"""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError, disk_trouble
from lightreasoner.storage.mounts import disk_is_full, is_local

ACTIVE = ("running", "stopping")  # has a process, or should have
FINISHED = ("succeeded", "failed", "cancelled", "interrupted")
STATES = ("queued", *ACTIVE, *FINISHED)
LOCKED = 15  # seconds a transaction waits for others


@dataclass(frozen=True)
class Job:
    """One job. Times are unix seconds; `pid` and `mark` are the backend's handle of the current attempt's process."""

    id: str
    verb: str
    title: str
    argv: tuple[str, ...]  # after `python -m lightreasoner`
    run_dir: Path
    state: str = "queued"
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    position: int = 0  # the smallest is next
    backend: str = "local"
    pid: int | None = None
    mark: str | None = None
    attempt: int = 0  # 1 while it runs for the first time
    message: str = ""
    kept: bool = False  # stopped early with its results saved
    retry_of: str | None = None
    claimed_by: str | None = None  # the scheduler that started this attempt

    @property
    def token(self) -> str:
        """Identifies the current attempt, e.g. in its events."""
        return f"{self.id}/{self.attempt}"


COLUMNS = tuple(field.name for field in fields(Job))
SCHEMA = f"CREATE TABLE IF NOT EXISTS jobs ({', '.join(COLUMNS).replace('id,', 'id TEXT PRIMARY KEY,', 1)})"


TEXTS = ("id", "verb", "title", "argv", "run_dir", "state", "backend")
NUMBERS = ("created", "started", "ended", "position", "pid", "attempt")


def _row(job: Job) -> dict[str, Any]:
    return {name: _cell(name, getattr(job, name)) for name in COLUMNS}


def _cell(name: str, value: Any) -> Any:
    return json.dumps(value) if name == "argv" else str(value) if name == "run_dir" else value


def _job(row: tuple) -> Job:
    values = dict(zip(COLUMNS, row, strict=True))
    texts, numbers = [values[name] for name in TEXTS], [values[name] for name in NUMBERS if values[name] is not None]
    if not all(isinstance(value, str) for value in texts) or not all(isinstance(n, int | float) for n in numbers):
        raise ValueError("a row of it is no job")
    argv = json.loads(values["argv"])
    if not isinstance(argv, list):
        raise ValueError("a row of it is no job")
    argv, run_dir, kept = tuple(argv), Path(values["run_dir"]), bool(values["kept"])
    return Job(**values | {"argv": argv, "run_dir": run_dir, "kept": kept})


class JobStore:
    """The table in the file `path`; a folder next to it holds each job's output. Safe for threads and processes."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @cached_property
    def _local(self) -> bool:
        return is_local(self.path.parent)

    def folder(self, job_id: str) -> Path:
        """The folder of a job's output.log."""
        return self.path.parent / job_id

    def _open(self, begin: str) -> sqlite3.Connection:
        """A connection with an open transaction. Retries, since SQLite's own timeout does not cover the moments in
        which another connection opens the file first or closes it last."""
        deadline = time.monotonic() + LOCKED
        while True:
            connection = sqlite3.connect(self.path, timeout=LOCKED, isolation_level=None)
            try:
                self._set_journal(connection)
                connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut
                connection.execute(begin)
                connection.execute(SCHEMA)
                return connection
            except BaseException as error:
                connection.close()
                busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
                if not busy or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _set_journal(self, connection: sqlite3.Connection) -> None:
        """A write-ahead log on this machine's own disks. Its readers share memory, which machines cannot: elsewhere it
        is a rollback journal, and a list that has one keeps it, since another machine may need it.

        The file itself is not opened: closing it would end the locks that SQLite holds on it for the whole process.
        """
        if self._local:
            if self.path.stat().st_size == 0:  # a new list
                connection.execute("PRAGMA journal_mode=WAL")
            return
        try:
            ahead = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            ahead = True  # a write-ahead log that cannot be opened without shared memory
        if ahead:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # needs none
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA locking_mode=NORMAL")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One transaction. Raises UserError for a damaged, busy or unwritable file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open(begin)) as connection:  # closing rolls back without a commit
                yield connection
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:  # locked, full, unreadable: the data is intact
            kind = error.sqlite_errorcode & 0xFF
            if kind == sqlite3.SQLITE_ERROR:  # a column or the table is missing
                raise self._damaged(error) from error
            if kind == sqlite3.SQLITE_FULL or (kind == sqlite3.SQLITE_IOERR and disk_is_full(self.path.parent)):
                full = f"The job list {self.path} could not be written: {os.strerror(errno.ENOSPC)}."
                raise UserError(f"{full} Free some space and try again.") from error
            if not self._local and kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL):
                raise UserError(
                    f"The job list {self.path} cannot be used ({error}): it lies on a network file system that does "
                    "not lock files. Set LIGHTREASONER_WORKSPACE to a folder elsewhere, or mount this one with locks."
                ) from error
            advice = "Try again in a moment."
            if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                advice = "Make its folder writable for this user, or set LIGHTREASONER_WORKSPACE to another."
            raise UserError(f"The job list {self.path} cannot be used: {error}. {advice}") from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._damaged(error) from error
        except OSError as error:
            trouble = disk_trouble(error, "Free some space.", writing=True)
            raise UserError(f"{self.path.parent} is not writable: {trouble}") from error

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"The job list {self.path} is damaged ({error}). Move it away and restart; the run folders are intact and "
            "can be resumed from the command line."
        )

    def _select(self, connection: sqlite3.Connection, where: str = "", values: tuple = ()) -> list[Job]:
        return [_job(row) for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs {where}", values)]

    def add(self, job: Job, max_queued: int) -> Job:
        """Append a job to the queue. Raises UserError when `max_queued` jobs are queued already."""
        with self._transaction() as connection:
            job = replace(job, created=time.time(), position=self._next_position(connection, max_queued))
            marks = ", ".join(f":{name}" for name in COLUMNS)
            connection.execute(f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({marks})", _row(job))
        return job

    def requeue(self, job_id: str, from_states: tuple[str, ...], max_queued: int) -> bool:
        """Append an existing job to the queue again; whether it was in one of `from_states`."""
        with self._transaction() as connection:
            position = self._next_position(connection, max_queued)
            return self._change(connection, job_id, from_states, {}, {"state": "queued", "position": position} | FRESH)

    def _next_position(self, connection: sqlite3.Connection, max_queued: int) -> int:
        waiting, last = connection.execute(
            "SELECT COALESCE(SUM(state = 'queued'), 0), COALESCE(MAX(position), 0) FROM jobs"
        ).fetchone()
        if waiting >= max_queued:
            raise UserError(f"{waiting} jobs are queued already; wait for one to finish or cancel one.")
        return last + 1

    def get(self, job_id: str) -> Job:
        """The job with this id. Raises UserError for an unknown one."""
        with self._transaction("BEGIN") as connection:
            rows = self._select(connection, "WHERE id = ?", (str(job_id),))
        if not rows:
            raise UserError(
                f"There is no job {str(job_id)[:40]!r} in this workspace; it was deleted or belongs to another one."
            )
        return rows[0]

    def jobs(self, active: bool | None = None, limit: int = 200) -> list[Job]:
        """The running job, the queue in order, then finished jobs, newest first. active: True leaves out the finished
        ones, False the others."""
        with self._transaction("BEGIN") as connection:
            rows = []
            if active in (None, True):
                rows += self._select(connection, f"WHERE state IN {ACTIVE} ORDER BY started")
                rows += self._select(connection, "WHERE state = 'queued' ORDER BY position")
            if active in (None, False):
                order = "ORDER BY COALESCE(ended, created) DESC, rowid DESC LIMIT ?"
                rows += self._select(connection, f"WHERE state IN {FINISHED} {order}", (limit,))
        return rows[:limit]

    def claim(self, claimed_by: str, at_once: int = 1) -> Job | None:
        """Mark the first queued job as running, unless `at_once` jobs run already; None when there is none to start."""
        with self._transaction() as connection:
            if len(self._select(connection, f"WHERE state IN {ACTIVE}")) >= at_once:
                return None
            first = self._select(connection, "WHERE state = 'queued' ORDER BY position LIMIT 1")
            if not first:
                return None
            now = {"state": "running", "started": time.time(), "attempt": first[0].attempt + 1}
            self._change(connection, first[0].id, ("queued",), {}, FRESH | now | {"claimed_by": claimed_by})
            return self._select(connection, "WHERE id = ?", (first[0].id,))[0]

    def change(self, job_id: str, from_states: tuple[str, ...], expect: Job | None = None, **values: Any) -> bool:
        """Set fields of a job if it is in one of `from_states`; whether it was. expect: also only if its attempt and
        process are those of this copy."""
        same = {"attempt": expect.attempt, "pid": expect.pid} if expect else {}
        with self._transaction() as connection:
            return self._change(connection, job_id, from_states, same, values)

    def _change(self, connection, job_id: str, from_states: tuple[str, ...], same: dict, values: dict) -> bool:
        unknown = values.keys() - set(COLUMNS)
        if unknown or values.get("state", "queued") not in STATES:
            raise TypeError(f"a job has no {unknown or values['state']}")
        sets = ", ".join(f"{name} = ?" for name in values)
        tests = "".join(f" AND {name} IS ?" for name in same)
        states = ", ".join("?" * len(from_states))
        done = connection.execute(
            f"UPDATE jobs SET {sets} WHERE id = ?{tests} AND state IN ({states})",
            (*(_cell(*item) for item in values.items()), job_id, *same.values(), *from_states),
        )
        return done.rowcount == 1

    def move(self, job_id: str, where: str) -> None:
        """Move a queued job "up", "down" or "first". Raises UserError for a job that is not queued."""
        with self._transaction() as connection:
            queue = self._select(connection, "WHERE state = 'queued' ORDER BY position")
            ids = [job.id for job in queue]
            if job_id not in ids:
                raise UserError("This job is no longer queued, so it cannot be moved.")
            at = ids.index(job_id)
            to = {"up": max(0, at - 1), "down": at + 1, "first": 0}.get(where)
            if to is None:
                raise UserError(f"A job can be moved up, down or first, not {str(where)[:20]!r}.")
            ids.insert(to, ids.pop(at))
            places = sorted(job.position for job in queue)
            connection.executemany("UPDATE jobs SET position = ? WHERE id = ?", list(zip(places, ids, strict=True)))

    def delete(self, job_id: str) -> bool:
        """Delete a finished job; whether there was one. Its run folder stays."""
        with self._transaction() as connection:
            done = connection.execute(f"DELETE FROM jobs WHERE id = ? AND state IN {FINISHED}", (job_id,))
            return done.rowcount == 1


#: The fields that a new attempt resets.
FRESH = {"started": None, "ended": None, "pid": None, "mark": None, "message": "", "kept": False, "claimed_by": None}
