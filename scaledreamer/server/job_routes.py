"""Jobs: start, list, look, follow, cancel, delete; their files and exports (DESIGN 3.3)."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from scaledreamer.server.body import read_object
from scaledreamer.server.context import Context, ContextOf, OwnerOf, accepted_answer, guarded
from scaledreamer.server.documents import ACCEPTED, EVENTS, FILE, TO_JOB, TO_NEXT, body_of, headers_of, problems
from scaledreamer.server.downloads import serve_file
from scaledreamer.server.negotiation import preferred_wait
from scaledreamer.server.problems import FieldFault, ProblemError
from scaledreamer.server.records import JOB_ID, Event, Record, Status
from scaledreamer.server.resolve import resolve, resolve_export
from scaledreamer.server.routes import idempotency_of
from scaledreamer.server.schemas import ExportRequest, GenerateRequest, Job, Jobs, parse_request

router = APIRouter(prefix="/v1/jobs")
HEARTBEAT = 15.0  # seconds between comments on a silent stream, so that proxies keep it
ENDED = ("succeeded", "failed", "canceled", "expired")
CREATE = problems(400, 401, 403, 408, 413, 422, 429, 503, 507)
JobId = Annotated[str, Path(description="the `id` of a job", examples=["019a9d6f-2b60-7c1e-8f1d-3b5c7d9e1f20"])]
FileName = Annotated[str, Path(description="the `name` of a file of the job", examples=["a-red-wooden-barrel.glb"])]


@router.post("", summary="Start a job", status_code=202, response_model=Job, responses={202: ACCEPTED, **CREATE},
             openapi_extra=body_of(GenerateRequest, "Idempotency-Key"))  # fmt: skip
async def create_job(request: Request, context: ContextOf, owner: OwnerOf) -> Response:
    """Does not wait: 202 with the job's address in `Location`."""
    body = await read_object(request, context.settings.max_body, context.settings.body_limit)
    wanted = resolve(parse_request(body, GenerateRequest), context.flow.model)
    record, _ = await context.submit(wanted, owner, idempotency=idempotency_of(request, body))
    return accepted_answer(context.view(record, str(request.base_url)))


@router.get("", summary="Your jobs, the newest first", responses={200: TO_NEXT, **problems(401, 403, 422, 503)})
async def list_jobs(
    request: Request, context: ContextOf, owner: OwnerOf,
    status: Annotated[Status | None, Query(description="only jobs in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="at most so many in one page")] = 20,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"})
    ] = None,
) -> Jobs:  # fmt: skip
    """A page of at most `limit`; `next` is the cursor of the following one."""
    if cursor is not None and not JOB_ID.fullmatch(cursor):
        detail = f"no cursor {cursor!r:.60}; take `next` of the page before"
        raise ProblemError("invalid-request", detail, errors=[FieldFault(field="cursor", detail=detail)])
    flow = context.flow
    found = await guarded(flow.ledger.ask(flow.ledger.store.find, owner, status, cursor, limit + 1))
    page = [context.view(record, str(request.base_url)) for record in found[:limit]]
    return Jobs(jobs=page, next=page[-1].id if len(found) > limit else None)


@router.get("/{job}", summary="A job", responses={200: TO_JOB, **problems(401, 403, 404, 503)},
            openapi_extra=headers_of("Prefer"))  # fmt: skip
async def get_job(request: Request, job: JobId, context: ContextOf, owner: OwnerOf) -> Job:
    """Its status, progress, place in the queue, files, and error. `Prefer: wait=N` answers when it has ended."""
    record = await context.find(job, owner)
    if request.headers.get("prefer"):
        seconds = preferred_wait(request.headers.getlist("prefer"), context.settings.wait_limit)
        ended = await guarded(context.flow.ledger.wait(job, seconds))
        record = ended or record
    return context.view(record, str(request.base_url))


@router.post("/{job}/cancel", summary="Cancel a job", response_model=Job,
             responses={200: TO_JOB, **problems(401, 403, 404, 503, 507)})  # fmt: skip
async def cancel_job(request: Request, job: JobId, context: ContextOf, owner: OwnerOf) -> Job:
    """Also while it runs; a job that has ended stays as it is."""
    record = await context.find(job, owner)
    ended = await guarded(context.flow.cancel(job))
    return context.view(ended or record, str(request.base_url))


@router.delete("/{job}", summary="Delete a job", status_code=204, response_class=Response,
               responses=problems(401, 403, 404, 503, 507))  # fmt: skip
async def delete_job(job: JobId, context: ContextOf, owner: OwnerOf) -> Response:
    """Cancels it if it runs, and erases its prompt and what no other job shows."""
    await context.find(job, owner)
    await guarded(context.flow.delete(job))
    return Response(status_code=204)


@router.get("/{job}/events", summary="What happens to a job", response_class=StreamingResponse,
            responses={200: {"content": {"text/event-stream": EVENTS}}, **problems(401, 403, 404, 422, 429, 503)},
            openapi_extra=headers_of("Last-Event-ID"))  # fmt: skip
async def get_events(request: Request, job: JobId, context: ContextOf, owner: OwnerOf) -> Response:
    """Server-sent events until it has ended; `Last-Event-ID` goes on after that event."""
    await context.find(job, owner)
    last = request.headers.get("last-event-id", "0")
    if not (last.isascii() and last.isdigit() and len(last) < 10):
        detail = f"Last-Event-ID {last!r:.40} is no number of an event"
        raise ProblemError("invalid-request", detail, errors=[FieldFault(field="last-event-id", detail=detail)])
    if context.streams[owner] >= (most := context.settings.max_streams):
        detail = f"{most} streams of this key are open, and that is the limit; close some, or ask with Prefer: wait"
        raise ProblemError("too-many-in-flight", detail, headers={"retry-after": "5"})
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(counted(context, owner, job, int(last)), 200, headers, "text/event-stream")


async def counted(context: Context, owner: str, job: str, after: int) -> AsyncIterator[str]:
    """A stream that its key is charged with as long as it is open."""
    context.streams[owner] += 1
    try:
        async for text in stream(context, job, after):
            yield text
    finally:
        context.streams[owner] -= 1


async def stream(context: Context, job: str, after: int) -> AsyncIterator[str]:
    """Every event as the standard has it (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    yield "retry: 1000\n\n"
    ledger = context.flow.ledger
    while True:
        record = await ledger.get(job)
        ended = record is None or record.status in ENDED  # then all its events are there
        events = await ledger.events(job, after, 0 if ended else HEARTBEAT)
        for event in events:
            yield told(event)
            after = event.number
        if ended:
            return
        if not events:
            yield ": \n\n"


def told(event: Event) -> str:
    """An event as text."""
    data = {"job": event.job, "time": round(event.time, 3), **event.data}
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n"


@router.post("/{job}/exports", summary="Other files from the field of a job", status_code=202, response_model=Job,
             responses={202: ACCEPTED, **CREATE, **problems(404)},
             openapi_extra=body_of(ExportRequest, "Idempotency-Key"))  # fmt: skip
async def export_job(request: Request, job: JobId, context: ContextOf, owner: OwnerOf) -> Response:
    """A new job whose field is the earlier one's: formats, levels, sizes without a new generation.

    What is left out is as it was, unless a preset is named.
    """
    parent = await context.find(job, owner)
    body = await read_object(request, context.settings.max_body, context.settings.body_limit)
    wanted = resolve_export(parse_request(body, ExportRequest), parent)
    record, _ = await context.submit(wanted, owner, job, idempotency_of(request, body))
    return accepted_answer(context.view(record, str(request.base_url)))


@router.head("/{job}/files/{name}", include_in_schema=False)
@router.get("/{job}/files/{name}", summary="A file of a job", response_class=Response,
            responses={200: FILE, 206: FILE | {"description": "the asked range"}, 304: {"description": "unchanged"},
                       **problems(401, 403, 404, 410, 416, 503)},
            openapi_extra=headers_of("If-None-Match", "Range"))  # fmt: skip
async def get_file(request: Request, job: JobId, name: FileName, context: ContextOf, owner: OwnerOf) -> Response:
    """Takes `If-None-Match` (the ETag is the sha256) and one `Range`."""
    record = await context.find(job, owner)
    # The name is looked up, never joined to a path as it came.
    files = record.outcome.files if record.outcome else ()
    file = next((file for file in files if file.name == name), None)
    if file is None:
        names = ", ".join(file.name for file in files) or f"none while it is {record.status}"
        raise ProblemError("file-not-found", f"job {job} has no file {name!r:.80}; it has {names}")
    if record.status == "expired":
        raise gone(record)
    try:
        return serve_file(request, context.artifacts, record.wanted.asset_key, file)
    except FileNotFoundError as error:
        await guarded(context.flow.ledger.ask(context.flow.ledger.store.lost, record.wanted.asset_key))
        raise gone(record) from error


def gone(record: Record) -> ProblemError:
    """The files are not there any more."""
    return ProblemError("expired", f"the files of job {record.id} have been removed; generate them again")
