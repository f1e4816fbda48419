"""The synchronous door, models and health (DESIGN 3.3)."""

import asyncio
import hashlib
import re
from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from scaledreamer.export.presets import PRESETS, Target, asset_settings
from scaledreamer.server.body import read_object
from scaledreamer.server.context import ContextOf, OwnerOf, accepted_answer, guarded, json_answer
from scaledreamer.server.documents import ACCEPTED, MADE, body_of, problems
from scaledreamer.server.downloads import serve_file
from scaledreamer.server.negotiation import accepted, preferred_wait
from scaledreamer.server.problems import FieldFault, ProblemError
from scaledreamer.server.resolve import resolve
from scaledreamer.server.schemas import (
    ASSET_FIELDS,
    FORMATS,
    Bounds,
    GenerateRequest,
    Health,
    Job,
    Model,
    Models,
    Readiness,
    parse_request,
)

router = APIRouter()
IDEMPOTENCY_KEY = re.compile(r'"?([!#-~]{1,255})"?')


@router.post(
    "/generate",
    summary="One prompt in, one asset out",
    response_model=Job,
    responses={
        200: MADE,
        202: ACCEPTED,
        **problems(400, 401, 403, 406, 408, 409, 413, 422, 429, 500, 503, 504, 507),
    },
    openapi_extra=body_of(GenerateRequest, "Prefer", "Idempotency-Key"),
)
async def generate(request: Request, context: ContextOf, owner: OwnerOf) -> Response:
    """Waits for the job (`Prefer: wait=N` bounds it, `respond-async` does not wait) and answers it.

    With `Accept: model/gltf-binary` (or model/obj, model/stl, application/zip) it answers the file.
    """
    wanted_format = accepted(request.headers.get("accept", ""))
    settings = context.settings
    body = await read_object(request, settings.max_body, settings.body_limit)
    asked = with_format(parse_request(body, GenerateRequest), wanted_format)
    wanted = resolve(asked, context.flow.model)
    record, _ = await context.submit(wanted, owner, idempotency=idempotency_of(request, body))
    seconds = preferred_wait(request.headers.getlist("prefer"), settings.wait_limit)
    ended = await guarded(context.flow.ledger.wait(record.id, seconds))
    record = ended or record
    base = str(request.base_url)
    if record.status in ("queued", "running"):
        return accepted_answer(context.view(record, base))
    self = f"{base}v1/jobs/{record.id}"
    if record.failure is not None:
        raise ProblemError(record.failure.code, record.failure.detail, job=record.id, links={"job": self})
    if record.status != "succeeded" or record.outcome is None:
        raise ProblemError("job-ended", f"job {record.id} is {record.status}", job=record.id, links={"job": self})
    location = {"content-location": f"/v1/jobs/{record.id}", "x-job-id": record.id}
    if wanted_format == "json":
        return json_answer(context.view(record, base), 200, location)
    role = "bundle" if wanted_format == "zip" else "mesh"
    file = next(file for file in record.outcome.files if (file.format, file.role) == (wanted_format, role))
    key = record.wanted.asset_key
    return serve_file(request, context.artifacts, key, file, {"x-job-id": record.id, "cache-control": "no-store"})


def with_format(asked: GenerateRequest, wanted: str) -> GenerateRequest:
    """The format that the Accept header wants is made, and nothing else when no other was asked for."""
    chosen = "formats" in asked.model_fields_set
    extra = [name for name in FORMATS if name == wanted and not (chosen and name in asked.formats)]
    if not extra:
        return asked
    return asked.model_copy(update={"formats": [*asked.formats, *extra] if chosen else extra})


def idempotency_of(request: Request, body: dict[str, Any]) -> tuple[str, str] | None:
    """The client's key and a digest of what it asks for (draft-ietf-httpapi-idempotency-key-header)."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    form = IDEMPOTENCY_KEY.fullmatch(key.strip())
    if form is None:
        detail = "an Idempotency-Key has 1 to 255 visible ASCII characters and no quotes inside; a UUID is a good one"
        raise ProblemError("invalid-request", detail, errors=[FieldFault(field="idempotency-key", detail=detail)])
    asked = f"{request.url.path} {sorted(body.items(), key=lambda item: item[0])!r}"
    return form[1], hashlib.sha256(asked.encode(errors="surrogatepass")).hexdigest()


@router.get("/v1/models", summary="The models this server runs", responses=problems(401, 403))
async def get_models(context: ContextOf) -> Models:
    """What may be asked of each: formats, presets with their settings, bounds."""
    file, flow = context.flow.model, context.flow
    presets = {
        name: {key: getattr(asset_settings(name), key) for key in ASSET_FIELDS if key != "formats"} for name in PRESETS
    }
    model = Model(
        id=file.id, sha256=file.sha256, default=True, ready=flow.ready, deterministic=not file.stochastic,
        text_encoder=file.text_encoder, licence=file.licence, accelerators=flow.accelerators, formats=list(FORMATS),
        presets=presets, targets=list(get_args(Target)), resolution=Bounds(minimum=32, maximum=512, default=128),
    )  # fmt: skip
    return Models(models=[model])


@router.get("/health/live", summary="The web process answers")
async def live() -> Health:
    """Always 200; restart the server when it is not."""
    return Health(status="ok")


@router.get("/health/ready", summary="A worker has generated a mesh", responses=problems(503, 507))
async def ready(context: ContextOf) -> Readiness:
    """503 until the model is loaded and its trial generation has passed; send traffic when it is 200."""
    flow = context.flow
    if flow.failure is not None:
        raise ProblemError(flow.failure.code, flow.failure.detail)
    if flow.draining:
        raise ProblemError("draining", "the server stops")
    await asyncio.to_thread(context.admission.disk.check)
    if not flow.ready:
        raise ProblemError("not-ready", "the model is being loaded", headers={"retry-after": "2"})
    return Readiness(status="ready", accelerators=flow.accelerators)
