"""What goes in and comes out: the request, the job, the list of models."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scaledreamer.prompt import check_prompt
from scaledreamer.server.problems import FieldFault, ProblemError, pointer, shorten

Format = Literal["glb", "obj", "ply", "stl"]
FORMATS: tuple[Format, ...] = ("glb", "obj", "ply", "stl")
MEDIA_TYPES = {
    "glb": "model/gltf-binary",
    "obj": "model/obj",
    "mtl": "model/mtl",
    "ply": "application/octet-stream",  # no registered type
    "stl": "model/stl",
    "zip": "application/zip",
}
Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
Stage = Literal["queued", "generate", "export", "done"]


def strip(value: object) -> object:
    """Text without surrounding space; anything else as it is."""
    return value.strip() if isinstance(value, str) else value


class GenerateRequest(BaseModel):
    """One prompt, one mesh."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [{"prompt": "a red wooden barrel"}]}
    )

    prompt: Annotated[
        str,
        BeforeValidator(strip),
        Field(min_length=1, max_length=1000, description="one object in words, 1 to 1000 characters"),
        AfterValidator(check_prompt),
    ]
    model: Annotated[str | None, Field(description="a name from /v1/models; null takes the server's own")] = None
    resolution: Annotated[int, Field(ge=32, le=512, description="lattice points a side, an integer from 32 to 512")] = (
        128
    )
    formats: Annotated[
        list[Format], Field(min_length=1, max_length=16, description="one or more of glb, obj, ply, stl")
    ] = ["glb", "obj"]


def parse_request(body: dict[str, Any]) -> GenerateRequest:
    """Validate; every broken field is named with what was met, what fits, and for a key the nearest known one."""
    try:
        return GenerateRequest.model_validate(body)
    except ValidationError as error:
        faults = [_fault(fault["loc"], fault["type"], fault["msg"], fault["input"]) for fault in error.errors()]
    # An unknown key explains a missing one, so it comes first.
    faults.sort(key=lambda fault: "unknown key" not in fault.detail)
    raise ProblemError("invalid-request", "; ".join(fault.detail for fault in faults[:3]), errors=faults)


def _fault(loc: tuple[int | str, ...], kind: str, message: str, value: object) -> FieldFault:
    known = list(GenerateRequest.model_fields)
    name = str(loc[0])
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name.lower(), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        detail = f"unknown key {shorten(name)}; {remedy}"
        return FieldFault(pointer=pointer(name[:80]), field=name[:80], detail=detail)
    expected = GenerateRequest.model_fields[name].description
    if kind == "missing":
        detail = f"{name} is missing: {expected}"
    elif kind == "value_error":
        detail = message.removeprefix("Value error, ")
    else:
        detail = f"{name}: {message} (got {shorten(value)}): {expected}"
    return FieldFault(pointer=pointer(*loc), field=name, detail=detail)


class File(BaseModel):
    """One file of a job; `url` takes GET, HEAD and Range."""

    name: str
    role: Literal["mesh", "material", "bundle"]
    format: str
    media_type: str
    bytes: int
    sha256: str
    url: str


class Report(BaseModel):
    """Facts about the mesh; lengths in object units."""

    vertices: int
    faces: int
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]  # low and high corner, +Z up


class JobError(BaseModel):
    """Why a job failed; `code` is stable."""

    code: str
    type: str
    title: str
    detail: str


class Links(BaseModel):
    """Where to go from a job."""

    self: str
    bundle: str | None = None  # all files in one zip


class Job(BaseModel):
    """One accepted request and what became of it."""

    id: str
    status: Status
    stage: Stage
    progress: float  # 0 to 1, never goes back
    queue_position: int | None  # 1 is next; null once it runs
    prompt: str
    model: str
    request: dict[str, Any]  # with every default filled in
    files: list[File]
    report: Report | None
    timings_ms: dict[str, int]
    warnings: list[str]
    error: JobError | None
    links: Links


class Resolution(BaseModel):
    """Bounds of the lattice."""

    minimum: int = 32
    maximum: int = 512
    default: int = 128


class Model(BaseModel):
    """One model and what may be asked of it."""

    id: str
    default: bool
    ready: bool
    deterministic: bool  # the same prompt gives the same mesh
    formats: list[Format]
    resolution: Resolution


class Models(BaseModel):
    """All models of this server."""

    models: list[Model]


class Health(BaseModel):
    """An answer to a probe."""

    status: Literal["ok", "ready"]
