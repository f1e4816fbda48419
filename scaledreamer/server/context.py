"""What every route needs: the settings, the flow, and how a job is shown."""

import sqlite3
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response

from scaledreamer.server.admission import Admission
from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.flow import Draining, Flow
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.records import JOB_ID, Record, Wanted
from scaledreamer.server.schemas import Job
from scaledreamer.server.settings import Settings
from scaledreamer.server.store import KeyReused
from scaledreamer.server.views import job_view

Answer = TypeVar("Answer")


@dataclass
class Context:
    """Of one app."""

    settings: Settings
    flow: Flow
    artifacts: Artifacts
    admission: Admission
    streams: Counter[str] = field(default_factory=Counter)  # of events that are open, of each key

    def view(self, record: Record, base: str) -> Job:
        """The job as a client sees it."""
        stage, progress = self.flow.progress(record)
        eta = None if record.finished else self.admission.eta(record.id)
        return job_view(
            record, base, stage=stage, progress=progress, position=self.flow.book.position(record.id),
            eta=eta, keep_seconds=self.settings.keep_days * 86400,
        )  # fmt: skip

    async def find(self, job: str, owner: str) -> Record:
        """The job of this id and key, or a 404."""
        record = await guarded(self.flow.ledger.get(job)) if JOB_ID.fullmatch(job) else None
        if record is None or record.owner != owner:
            raise ProblemError("job-not-found", f"no job {job!r:.80}; it never was, or it has been forgotten")
        return record

    async def submit(
        self, wanted: Wanted, owner: str, parent: str | None = None, idempotency: tuple[str, str] | None = None
    ) -> tuple[Record, bool]:
        """Into the queue, or a problem that says why not."""
        if self.flow.failure is not None:
            raise ProblemError(self.flow.failure.code, self.flow.failure.detail)
        try:
            async with self.admission.turn:
                await guarded(self.admission.check(wanted, owner, idempotency))
                return await guarded(self.flow.submit(wanted, owner, parent, idempotency))
        except Draining as error:
            raise ProblemError(
                "draining", "the server stops; send it again in a moment", headers={"retry-after": "5"}
            ) from error
        except KeyReused as error:
            detail = f"the Idempotency-Key was used for another request, of job {error.args[0]}; choose a new one"
            raise ProblemError("idempotency-key-reused", detail) from error


async def guarded(call: Awaitable[Answer]) -> Answer:
    """A call of the store; one that cannot be written is a problem that passes."""
    try:
        return await call
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise ProblemError(
                "storage-full", "the disk of the job store is full; free some and send it again"
            ) from error
        detail = f"the job store cannot be used now ({error}); try again"
        raise ProblemError("storage-busy", detail, headers={"retry-after": "2"}) from error


async def get_context(request: Request) -> Context:  # no thread for it
    """Of this app."""
    context: Context = request.app.state.context
    return context


async def get_owner(request: Request) -> str:
    """The key of this request; "" where no keys are used."""
    return str(getattr(request.state, "owner", ""))


ContextOf = Annotated[Context, Depends(get_context)]
OwnerOf = Annotated[str, Depends(get_owner)]


def json_answer(job: Job, status: int, headers: dict[str, str]) -> Response:
    """The job as the body."""
    return Response(job.model_dump_json(), status, headers, "application/json")


def accepted_answer(job: Job) -> Response:
    """202: where the job can be followed."""
    return json_answer(job, 202, {"location": job.links.self, "retry-after": "1"})
