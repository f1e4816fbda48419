"""The job store: every accepted job, what became of it, and what is kept of it, in SQLite."""

import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scaledreamer.server.database import connect, transaction
from scaledreamer.server.records import (
    Event,
    Failure,
    Outcome,
    Record,
    Status,
    StoredFile,
    Wanted,
    new_id,
)

REMEMBERED_SECONDS = 86400.0  # an idempotency key
COLUMNS = ", ".join(
    [
        "id", "owner", "parent", "prompt", "model", "request", "resolved", "field_key", "asset_key", "cost", "status",
        "stage", "progress", "created", "started", "finished", "attempts", "crashes", "outcome", "failure",
    ]
)  # fmt: skip


class KeyReused(Exception):
    """An idempotency key came again with another request."""


class JobStore:
    """One open database. Every method is one transaction; one thread at a time calls them."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.connection = connect(path)
        self.clock = clock
        newest = self.connection.execute("SELECT max(id) FROM jobs").fetchone()[0]
        self.newest = int(newest.replace("-", "")[:12], 16) if newest else 0  # milliseconds in the newest id

    def close(self) -> None:
        """Nothing is lost; a write-ahead log is folded in."""
        self.connection.close()

    # What clients do

    def create(
        self, wanted: Wanted, owner: str = "", parent: str | None = None, idempotency: tuple[str, str] | None = None
    ) -> tuple[Record, bool]:
        """A new job and True, or with an idempotency (key, digest of the body) that came before its job and False.

        Where the artifact is kept already, the new job has succeeded. Raises KeyReused for another digest.
        """
        with transaction(self.connection):
            now = self.clock()
            if idempotency is not None:
                known = self._remembered(owner, *idempotency, now)
                if known is not None:
                    return known, False
            self.newest = max(int(now * 1000), self.newest + 1)  # two jobs of one millisecond still sort by age
            job = new_id(self.newest)
            self.connection.execute(
                f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join('?' * 20)})",
                (
                    job, owner, parent, wanted.prompt, wanted.model, dump(wanted.request), dump(wanted.resolved),
                    wanted.field_key, wanted.asset_key, wanted.cost, "queued", "queued", 0.0, now, 0.0, 0.0, 0, 0,
                    None, None,
                ),
            )  # fmt: skip
            if idempotency is not None:
                row = (owner, *idempotency, job, now)
                self.connection.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)", row)
            self._tell([job], "queued", now)
            kept = self.connection.execute(
                "SELECT outcome FROM artifacts WHERE asset_key = ?", (wanted.asset_key,)
            ).fetchone()
            if kept is not None:
                self._succeed([job], load_outcome(kept["outcome"]), now)
            return self._record(job), True

    def standing(self, asset_key: str, owner: str, idempotency: tuple[str, str] | None) -> tuple[bool, int]:
        """Whether a request is answered already (an artifact, a job of its key), and an owner's unfinished jobs."""
        there = self._ids("SELECT asset_key FROM artifacts WHERE asset_key = ?", asset_key)
        if idempotency is not None:
            query = "SELECT job FROM idempotency WHERE owner = ? AND key = ? AND created >= ?"
            there += self._ids(query, owner, idempotency[0], self.clock() - REMEMBERED_SECONDS)
        # The plus keeps SQLite from reading all jobs that the owner ever had.
        query = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running') AND +owner = ?"
        return bool(there), int(self.connection.execute(query, (owner,)).fetchone()[0])

    def _remembered(self, owner: str, key: str, digest: str, now: float) -> Record | None:
        self.connection.execute("DELETE FROM idempotency WHERE created < ?", (now - REMEMBERED_SECONDS,))
        row = self.connection.execute(
            "SELECT digest, job FROM idempotency WHERE owner = ? AND key = ?", (owner, key)
        ).fetchone()
        if row is None:
            return None
        if row["digest"] != digest:
            raise KeyReused(row["job"])
        return self._record(row["job"])

    def get(self, job: str) -> Record | None:
        """The job now, or None."""
        row = self.connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job,)).fetchone()
        return None if row is None else record_of(row)

    def find(
        self, owner: str | None, status: Status | None = None, before: str | None = None, limit: int = 20
    ) -> list[Record]:
        """Jobs of a key (None: of all), the newest first, those older than the job `before`."""
        asked = {"owner = ?": owner, "status = ?": status, "id < ?": before}
        given = {clause: value for clause, value in asked.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        query = f"SELECT {COLUMNS} FROM jobs {where} ORDER BY id DESC LIMIT ?"
        return [record_of(row) for row in self.connection.execute(query, (*given.values(), limit))]

    def cancel(self, job: str) -> Record | None:
        """The job, canceled if it had not ended."""
        with transaction(self.connection):
            self._end([job], "canceled", self.clock())
        return self.get(job)

    def delete(self, job: str) -> None:
        """Forget a job, its prompt and its events."""
        with transaction(self.connection):
            self.connection.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def events(self, job: str, after: int = 0) -> Sequence[Event]:
        """What happened to a job after the event of that number."""
        rows = self.connection.execute(
            "SELECT * FROM events WHERE job = ? AND number > ? ORDER BY number", (job, after)
        )
        return [Event(row["job"], row["number"], row["time"], row["kind"], json.loads(row["data"])) for row in rows]

    # What the flow does

    def recover(self) -> Sequence[Record]:
        """At the start: all jobs that have not ended, queued again, the oldest first."""
        with transaction(self.connection):
            running = self._ids("SELECT id FROM jobs WHERE status = 'running'")
            self._requeue(running)
        rows = self.connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE status = 'queued' ORDER BY id")
        return [record_of(row) for row in rows]

    def rename(self, job: str, wanted: Wanted) -> None:
        """A queued job is resolved anew: another model makes it."""
        with transaction(self.connection):
            self.connection.execute(
                "UPDATE jobs SET resolved = ?, model = ?, field_key = ?, asset_key = ? WHERE id = ?",
                (dump(wanted.resolved), wanted.model, wanted.field_key, wanted.asset_key, job),
            )

    def begin(self, jobs: Iterable[str]) -> None:
        """Queued jobs are being worked on."""
        with transaction(self.connection):
            now = self.clock()
            for job in jobs:
                changed = self.connection.execute(
                    "UPDATE jobs SET status = 'running', started = ?, attempts = attempts + 1"
                    " WHERE id = ? AND status = 'queued'",
                    (now, job),
                )
                if changed.rowcount:
                    self._tell([job], "running", now)

    def reach(self, jobs: Iterable[str], stage: str, progress: float) -> None:
        """Running jobs have come to a stage; progress never goes back."""
        with transaction(self.connection):
            for job in jobs:
                changed = self.connection.execute(
                    "UPDATE jobs SET stage = ?, progress = ? WHERE id = ? AND status = 'running' AND progress <= ?",
                    (stage, progress, job, progress),
                )
                if changed.rowcount:
                    self._tell([job], "stage", self.clock(), stage=stage, progress=progress)

    def requeue(self, jobs: Iterable[str], crashed: bool = False) -> int:
        """Back into the queue, progress kept. The largest number of crashes that one of them has seen."""
        jobs = list(jobs)
        with transaction(self.connection):
            self._requeue(jobs)
            if crashed:
                self.connection.executemany(
                    "UPDATE jobs SET crashes = crashes + 1 WHERE id = ?", [(job,) for job in jobs]
                )
            marks = ", ".join("?" * len(jobs))
            most = self.connection.execute(f"SELECT max(crashes) FROM jobs WHERE id IN ({marks})", jobs).fetchone()[0]
            return int(most or 0)

    def succeed(self, asset_key: str, jobs: Iterable[str], outcome: Outcome) -> None:
        """The artifact is in its place: keep its outcome, and end the jobs that wanted it."""
        with transaction(self.connection):
            now = self.clock()
            row = (asset_key, dump(dataclasses.asdict(outcome)), outcome.bytes, now)
            self.connection.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?)", row)
            self._succeed(jobs, outcome, now)

    def fail(self, jobs: Iterable[str], failure: Failure) -> None:
        """End jobs that have not ended."""
        with transaction(self.connection):
            self._end(jobs, "failed", self.clock(), failure)

    def sweep(self, keep_seconds: float, keep_bytes: int) -> Sequence[str]:
        """Expire jobs by age, then the longest unused artifacts beyond a number of bytes; the artifacts to delete.

        Jobs that have ended are forgotten after twice `keep_seconds`.
        """
        with transaction(self.connection):
            now = self.clock()
            self.connection.execute(
                "DELETE FROM jobs WHERE status NOT IN ('queued', 'running') AND finished < ?", (now - 2 * keep_seconds,)
            )
            old = "SELECT id FROM jobs WHERE status = 'succeeded' AND finished < ?"
            self._expire(self._ids(old, now - keep_seconds), now)
            # An artifact lives as long as a job that shows it, and as a cache for as long after its last use.
            gone = self._ids(
                "SELECT asset_key FROM artifacts WHERE used < ? AND asset_key NOT IN"
                " (SELECT asset_key FROM jobs WHERE status = 'succeeded')",
                now - keep_seconds,
            )
            rows = self.connection.execute("SELECT asset_key, bytes FROM artifacts ORDER BY used DESC, asset_key")
            total = 0
            for row in rows.fetchall():
                total += row["bytes"]
                if total > keep_bytes and row["asset_key"] not in gone:
                    gone.append(row["asset_key"])
            for key in gone:
                shown = self._ids("SELECT id FROM jobs WHERE status = 'succeeded' AND asset_key = ?", key)
                self._expire(shown, now)
                self.connection.execute("DELETE FROM artifacts WHERE asset_key = ?", (key,))
        return gone

    def drop_artifact(self, asset_key: str) -> bool:
        """Forget an artifact that no job shows; whether it is gone."""
        with transaction(self.connection):
            changed = self.connection.execute(
                "DELETE FROM artifacts WHERE asset_key = ? AND asset_key NOT IN"
                " (SELECT asset_key FROM jobs WHERE status = 'succeeded')",
                (asset_key,),
            )
            return changed.rowcount > 0

    def has_field(self, field_key: str) -> bool:
        """Whether there is a job of this field."""
        return bool(self._ids("SELECT id FROM jobs WHERE field_key = ? LIMIT 1", field_key))

    def lost(self, asset_key: str) -> None:
        """The files of an artifact are gone: its jobs are expired, and it is made again when it is asked for."""
        with transaction(self.connection):
            self.connection.execute("DELETE FROM artifacts WHERE asset_key = ?", (asset_key,))
            shown = self._ids("SELECT id FROM jobs WHERE status = 'succeeded' AND asset_key = ?", asset_key)
            self._expire(shown, self.clock())

    def artifacts(self) -> Sequence[str]:
        """The keys of all that is kept."""
        return self._ids("SELECT asset_key FROM artifacts")

    def counts(self) -> dict[str, int]:
        """Jobs of each status."""
        rows = self.connection.execute("SELECT status, count(*) AS jobs FROM jobs GROUP BY status")
        return {row["status"]: row["jobs"] for row in rows}

    # Inside a transaction

    def _succeed(self, jobs: Iterable[str], outcome: Outcome, now: float) -> None:
        for job in jobs:
            row = self.connection.execute("SELECT status, created, started FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None or row["status"] not in ("queued", "running"):
                continue
            began = row["started"] or now
            cached = not row["started"]
            own = {} if cached else outcome.timings_ms
            whole = {"queue": milliseconds(began - row["created"]), **own, "total": milliseconds(now - row["created"])}
            kept = dataclasses.replace(outcome, timings_ms=whole)
            self.connection.execute(
                "UPDATE jobs SET status = 'succeeded', stage = 'done', progress = 1, started = ?, finished = ?,"
                " outcome = ? WHERE id = ?",
                (began, now, dump(dataclasses.asdict(kept)), job),
            )
            self.connection.execute(
                "UPDATE artifacts SET used = ? WHERE asset_key = (SELECT asset_key FROM jobs WHERE id = ?)", (now, job)
            )
            self._tell([job], "succeeded", now)

    def _end(self, jobs: Iterable[str], status: Status, now: float, failure: Failure | None = None) -> None:
        told = {} if failure is None else dataclasses.asdict(failure)
        for job in jobs:
            changed = self.connection.execute(
                "UPDATE jobs SET status = ?, finished = ?, failure = ?"
                " WHERE id = ? AND status IN ('queued', 'running')",
                (status, now, dump(told) if failure else None, job),
            )
            if changed.rowcount:
                self._tell([job], status, now, **told)

    def _expire(self, jobs: Iterable[str], now: float) -> None:
        for job in jobs:
            self.connection.execute("UPDATE jobs SET status = 'expired' WHERE id = ?", (job,))
            self._tell([job], "expired", now)

    def _requeue(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            changed = self.connection.execute(
                "UPDATE jobs SET status = 'queued' WHERE id = ? AND status = 'running'", (job,)
            )
            if changed.rowcount:
                self._tell([job], "queued", self.clock())

    def _tell(self, jobs: Iterable[str], kind: str, now: float, **data: Any) -> None:
        self.connection.executemany(
            "INSERT INTO events SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4 FROM events WHERE job = ?1",
            [(job, now, kind, dump(data)) for job in jobs],
        )

    def _record(self, job: str) -> Record:
        record = self.get(job)
        assert record is not None
        return record

    def _ids(self, query: str, *values: object) -> list[str]:
        return [row[0] for row in self.connection.execute(query, values)]


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def milliseconds(seconds: float) -> int:
    """Rounded; a clock that was set back gives 0."""
    return max(0, round(1000 * seconds))


def load_outcome(text: str) -> Outcome:
    """An outcome from its JSON."""
    value = json.loads(text)
    files = tuple(StoredFile(**file) for file in value["files"])
    return Outcome(files, value["report"], tuple(value["warnings"]), value["timings_ms"])


def record_of(row: sqlite3.Row) -> Record:
    """A row of the table as a value."""
    wanted = Wanted(
        json.loads(row["request"]), json.loads(row["resolved"]), row["prompt"], row["model"], row["field_key"],
        row["asset_key"], row["cost"],
    )  # fmt: skip
    return Record(
        id=row["id"], owner=row["owner"], wanted=wanted, status=row["status"], stage=row["stage"],
        progress=row["progress"], created=row["created"], started=row["started"], finished=row["finished"],
        attempts=row["attempts"], crashes=row["crashes"], parent=row["parent"],
        outcome=None if row["outcome"] is None else load_outcome(row["outcome"]),
        failure=None if row["failure"] is None else Failure(**json.loads(row["failure"])),
    )  # fmt: skip
