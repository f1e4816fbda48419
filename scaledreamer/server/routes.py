"""The HTTP interface (DESIGN 3.3): the synchronous door, jobs, files, models, health."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from scaledreamer.server.body import read_object
from scaledreamer.server.downloads import serve_file
from scaledreamer.server.jobs import JOB_ID, JobStore, QueueFull, Record
from scaledreamer.server.negotiation import OFFERED, accepted, preferred_wait
from scaledreamer.server.pool import Pool
from scaledreamer.server.problems import MEDIA_TYPE, FieldFault, Problem, ProblemError
from scaledreamer.server.schemas import (
    FORMATS,
    MEDIA_TYPES,
    GenerateRequest,
    Health,
    Job,
    Model,
    Models,
    Resolution,
    parse_request,
)
from scaledreamer.server.settings import Settings
from scaledreamer.server.views import job_view

router = APIRouter()

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON; the content type is not asked, so `curl -d` works as it is",
        "content": {"application/json": {"schema": GenerateRequest.model_json_schema()}},
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the errors of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "a problem (RFC 9457)", "content": content} for status in statuses}


def get_settings(request: Request) -> Settings:
    """The settings of this app."""
    settings: Settings = request.app.state.settings
    return settings


def get_pool(request: Request) -> Pool:
    """The workers of this app."""
    pool: Pool = request.app.state.pool
    return pool


def get_store(request: Request) -> JobStore:
    """The jobs of this app."""
    store: JobStore = request.app.state.store
    return store


SettingsOf = Annotated[Settings, Depends(get_settings)]
PoolOf = Annotated[Pool, Depends(get_pool)]
StoreOf = Annotated[JobStore, Depends(get_store)]
ACCEPTED: dict[str, Any] = {"model": Job, "description": "not finished yet; poll the address in Location"}


@router.post(
    "/generate",
    summary="One prompt in, one mesh out",
    response_model=Job,
    responses={
        200: {"content": {media_type: BINARY for media_type in OFFERED if media_type != "application/json"}},
        202: ACCEPTED,
        **problems(400, 403, 406, 408, 413, 422, 500, 503, 504, 507),
    },
    openapi_extra=REQUEST_BODY,
)
async def generate(request: Request, settings: SettingsOf, pool: PoolOf, store: StoreOf) -> Response:
    """Waits for the job (`Prefer: wait=N` bounds it, `respond-async` does not wait) and answers it.

    With `Accept: model/gltf-binary` (or model/obj, model/stl, application/zip) it answers the file.
    """
    wanted = accepted(request.headers.get("accept", ""))
    asked = parse_request(await read_object(request, settings.max_body, settings.body_limit))
    record = accept(with_format(asked, wanted), pool, store)
    await pool.wait(record.id, preferred_wait(request.headers.getlist("prefer"), settings.wait_limit))
    record = store.get(record.id) or record
    if record.status in ("queued", "running"):
        return accepted_answer(request, record, pool, store)
    if record.failure is not None:
        url = str(request.url_for("get_job", job=record.id))
        raise ProblemError(record.failure.code, record.failure.detail, job=record.id, links={"job": url})
    location = {"content-location": request.url_for("get_job", job=record.id).path, "x-job-id": record.id}
    if wanted == "json":
        return json_answer(job_view(record, None, str(request.base_url)), 200, location)
    file = next(file for file in record.files if file.format == wanted)
    return serve_file(
        request, store.path(record.id, file.name), file, {"x-job-id": record.id, "cache-control": "no-store"}
    )


@router.post(
    "/v1/jobs",
    summary="Start a job",
    status_code=202,
    response_model=Job,
    responses={202: ACCEPTED, **problems(400, 403, 408, 413, 422, 503)},
    openapi_extra=REQUEST_BODY,
)
async def create_job(request: Request, settings: SettingsOf, pool: PoolOf, store: StoreOf) -> Response:
    """Does not wait: 202 with the job's address in `Location`."""
    asked = parse_request(await read_object(request, settings.max_body, settings.body_limit))
    return accepted_answer(request, accept(asked, pool, store), pool, store)


@router.get("/v1/jobs/{job}", summary="A job", responses=problems(404))
async def get_job(request: Request, job: str, pool: PoolOf, store: StoreOf) -> Job:
    """Its status, progress, place in the queue, files, and error."""
    pool.observe(find(store, job).id)
    return job_view(find(store, job), store.position(job), str(request.base_url))


@router.head("/v1/jobs/{job}/files/{name}", include_in_schema=False)
@router.get(
    "/v1/jobs/{job}/files/{name}",
    summary="A file of a job",
    response_class=Response,
    responses={
        200: {"content": dict.fromkeys(MEDIA_TYPES.values(), BINARY)},
        206: {"description": "the asked range"},
        304: {"description": "unchanged"},
        **problems(404, 410, 416),
    },
)
async def get_file(request: Request, job: str, name: str, store: StoreOf) -> Response:
    """Takes `If-None-Match` (the ETag is the sha256) and one `Range`."""
    record = find(store, job)
    # The name is looked up, never joined to a path as it came.
    file = next((file for file in record.files if file.name == name), None)
    if file is None:
        names = ", ".join(file.name for file in record.files) or f"none while it is {record.status}"
        raise ProblemError("file-not-found", f"job {job} has no file {name!r:.80}; it has {names}")
    if record.status == "expired":
        raise ProblemError("expired", f"the files of job {job} have been removed; generate them again")
    return serve_file(request, store.path(record.id, file.name), file)


@router.get("/v1/models", summary="The models this server runs")
async def get_models(pool: PoolOf) -> Models:
    """One in this release."""
    model = Model(
        id=pool.model_id,
        default=True,
        ready=pool.ready,
        deterministic=True,
        formats=list(FORMATS),
        resolution=Resolution(),
    )
    return Models(models=[model])


@router.get("/health/live", summary="The web process answers")
async def live() -> Health:
    """Always 200; restart the server when it is not."""
    return Health(status="ok")


@router.get("/health/ready", summary="A worker has generated a mesh", responses=problems(503))
async def ready(pool: PoolOf) -> Health:
    """503 until the model is loaded and its trial generation has passed; send traffic when it is 200."""
    if pool.failure is not None:
        raise ProblemError(pool.failure.code, pool.failure.detail)
    if not pool.ready:
        raise ProblemError("not-ready", "the model is being loaded", headers={"retry-after": "2"})
    return Health(status="ready")


def find(store: JobStore, job: str) -> Record:
    """The job of this id, or a 404."""
    record = store.get(job) if JOB_ID.fullmatch(job) else None
    if record is None:
        raise ProblemError("job-not-found", f"no job {job!r:.80}; it never was, or it has been forgotten")
    return record


def accept(asked: GenerateRequest, pool: Pool, store: JobStore) -> Record:
    """Into the queue, or a problem that says why not."""
    if pool.failure is not None:
        raise ProblemError(pool.failure.code, pool.failure.detail)
    if asked.model is not None and asked.model != pool.model_id:
        detail = f"no model {asked.model!r:.80}; this server runs {pool.model_id!r}"
        fault = FieldFault(pointer="/model", field="model", detail=detail)
        raise ProblemError("invalid-request", detail, errors=[fault])
    try:
        record = store.create(asked, pool.model_id)
    except QueueFull as error:
        detail = f"{store.max_queued} jobs wait, which is the limit; try again later"
        fault = FieldFault(field="queue", detail=detail)
        raise ProblemError("queue-full", detail, errors=[fault], headers={"retry-after": "5"}) from error
    pool.submit(record.id)
    return record


def with_format(asked: GenerateRequest, wanted: str) -> GenerateRequest:
    """The format that the Accept header wants is made, and nothing else when no other was asked for."""
    chosen = "formats" in asked.model_fields_set
    extra = [name for name in FORMATS if name == wanted and not (chosen and name in asked.formats)]
    if not extra:
        return asked
    return asked.model_copy(update={"formats": [*asked.formats, *extra] if chosen else extra})


def accepted_answer(request: Request, record: Record, pool: Pool, store: JobStore) -> Response:
    """202: where the job can be followed."""
    pool.observe(record.id)
    view = job_view(store.get(record.id) or record, store.position(record.id), str(request.base_url))
    return json_answer(view, 202, {"location": view.links.self, "retry-after": "1"})


def json_answer(job: Job, status: int, headers: dict[str, str]) -> Response:
    """The job as the body."""
    return Response(job.model_dump_json(), status, headers, "application/json")


PROBLEM_SCHEMA = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
