"""The job store: records in memory, files in data/jobs/<id>/. Safe to use from any thread."""

import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scaledreamer.server.schemas import GenerateRequest, Report, Stage, Status

JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class QueueFull(Exception):
    """As many jobs wait as may wait."""


@dataclass(frozen=True)
class StoredFile:
    """One file in the folder of its job."""

    name: str
    role: str
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Failure:
    """Why a job failed: a code of `problems.PROBLEMS`, and what happened."""

    code: str
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What a worker hands back when it has written the files."""

    model: str
    files: tuple[StoredFile, ...]
    report: Report
    warnings: tuple[str, ...]
    timings_ms: dict[str, int]


@dataclass(frozen=True)
class Record:
    """A job at one moment; a change makes a new record."""

    id: str
    request: GenerateRequest
    model: str
    created: float  # seconds since the epoch
    status: Status = "queued"
    stage: Stage = "queued"
    progress: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    files: tuple[StoredFile, ...] = ()
    report: Report | None = None
    warnings: tuple[str, ...] = ()
    timings_ms: dict[str, int] = field(default_factory=dict)
    failure: Failure | None = None


def new_id(milliseconds: int) -> str:
    """A UUIDv7 (RFC 9562): milliseconds since the epoch, so that ids sort by age, and 74 bits that nobody can guess."""
    value = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class JobStore:
    """Every job this process has accepted and not yet forgotten."""

    def __init__(
        self, folder: Path, *, max_queued: int, keep_jobs: int, keep_days: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.max_queued, self.keep_jobs, self.keep_seconds = max_queued, keep_jobs, keep_days * 86400
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}  # in order of creation
        self._queue: list[str] = []
        self._last = 0  # milliseconds of the newest id
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, request: GenerateRequest, model: str) -> Record:
        """Accept a job at the end of the queue, or raise QueueFull."""
        with self._lock:
            if len(self._queue) >= self.max_queued:
                raise QueueFull
            now = self._clock()
            self._last = max(int(now * 1000), self._last + 1)  # two jobs of one millisecond still sort by age
            record = Record(new_id(self._last), request, model, now)
            self._records[record.id] = record
            self._queue.append(record.id)
            return record

    def get(self, job: str) -> Record | None:
        """The job now, or None."""
        with self._lock:
            return self._records.get(job)

    def position(self, job: str) -> int | None:
        """1 for the next job to run; None when it does not wait."""
        with self._lock:
            return self._queue.index(job) + 1 if job in self._queue else None

    def start(self, job: str) -> Record:
        """Out of the queue, into work."""
        with self._lock:
            self._queue.remove(job)
            return self._replace(job, status="running", stage="generate", progress=0.05, started=self._clock())

    def advance(self, job: str, stage: Stage, progress: float) -> None:
        """Note how far a running job is; progress never goes back."""
        with self._lock:
            record = self._records[job]
            if record.status == "running" and progress > record.progress:
                self._replace(job, stage=stage, progress=progress)

    def finish(self, job: str, result: Outcome | Failure) -> Record:
        """Succeeded or failed, for good."""
        with self._lock:
            record, now = self._records[job], self._clock()
            if job in self._queue:
                self._queue.remove(job)
            started = record.started or now
            timings = {"queue": round(1000 * (started - record.created)), "total": round(1000 * (now - record.created))}
            if isinstance(result, Failure):
                return self._replace(job, status="failed", failure=result, timings_ms=timings, finished=now)
            return self._replace(
                job,
                status="succeeded",
                stage="done",
                progress=1.0,
                model=result.model,
                files=result.files,
                report=result.report,
                warnings=result.warnings,
                timings_ms={"queue": timings["queue"], **result.timings_ms, "total": timings["total"]},
                finished=now,
            )

    def path(self, job: str, name: str) -> Path:
        """Where a file of a job lies; both names come from a record, never from a client."""
        return self.folder / job / name

    def sweep(self) -> None:
        """Remove files that are too old or too many; forget jobs that have been without files for as long again."""
        with self._lock:
            now = self._clock()
            done = [r for r in self._records.values() if r.status in ("succeeded", "failed", "canceled", "expired")]
            surplus = {r.id for r in done[: -self.keep_jobs]}
            stale = {r.id for r in done if now - r.finished > self.keep_seconds} | surplus
            forgotten = {r.id for r in done[: -2 * self.keep_jobs]}
            forgotten |= {r.id for r in done if now - r.finished > 2 * self.keep_seconds}
            for job in stale - forgotten:
                if self._records[job].status == "succeeded":
                    self._replace(job, status="expired")
            known = set(self._records)
            for job in forgotten:
                del self._records[job]
        for job in stale | forgotten | self._orphans(known, now):
            shutil.rmtree(self.folder / job, ignore_errors=True)

    def _orphans(self, known: set[str], now: float) -> set[str]:
        """Old folders that an earlier process left, finished or not."""
        with os.scandir(self.folder) as entries:
            return {
                entry.name
                for entry in entries
                if (job := JOB_ID.match(entry.name.lstrip(".")))
                and job[0] not in known
                and entry.is_dir(follow_symlinks=False)
                and now - entry.stat(follow_symlinks=False).st_mtime > self.keep_seconds
            }

    def _replace(self, job: str, **changes: object) -> Record:
        record = replace(self._records[job], **changes)  # type: ignore[arg-type]  # the callers above are few and typed
        self._records[job] = record
        return record
