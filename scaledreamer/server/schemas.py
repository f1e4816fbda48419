"""What goes in and comes out: the request, the job, the list of models."""

import difflib
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from scaledreamer.export.presets import PresetName, Target, TextureSize
from scaledreamer.prompt import check_prompt
from scaledreamer.server.problems import FieldFault, ProblemError, pointer, shorten
from scaledreamer.server.records import Status

Format = Literal["glb", "gltf", "obj", "ply", "stl"]
FORMATS: tuple[Format, ...] = get_args(Format)
ASSET_FIELDS = ("preset", "target", "resolution", "formats", "texture", "faces", "lods", "collision", "size", "pivot")
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
# What `check_prompt` takes: no control characters but tab and line ends, and something between the spaces.
PLAIN = r"[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*"
VISIBLE = r"[^\u0000-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def checked(value: object) -> object:
    """A prompt by the rule that all doors share; what is no text is left to the type."""
    return check_prompt(value) if isinstance(value, str) else value


Prompt = Annotated[
    str,
    BeforeValidator(checked),
    Field(
        min_length=1, max_length=1000, description="one object in words, 1 to 1000 characters",
        json_schema_extra={"pattern": f"^{PLAIN}{VISIBLE}{PLAIN}$"},
    ),
]  # fmt: skip


def whole(value: object) -> object:
    """128.0 as 128: JSON knows one kind of number, and JSON Schema calls both integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(whole)  # the last of the annotations, so that bounds stay with the integer


class Blend(BaseModel):
    """A second prompt; the answer lies between both, and is one part."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Prompt
    weight: Annotated[float, Field(ge=0, le=1, description="0 is the first prompt alone, 1 the second")] = 0.5


class Prompted(BaseModel):
    """What a field is made from."""

    prompt: Prompt
    blend: Annotated[Blend | None, Field(description="an object with a prompt and a weight from 0 to 1")] = None
    model: Annotated[str | None, Field(description="a name from /v1/models; null takes the server's own")] = None
    seed: Annotated[
        int | None,
        # Up to what every reader of JSON keeps (RFC 7493, 2.2).
        Field(ge=0, le=2**53 - 1, description="an integer from 0, where the model is not deterministic"),
        Whole,
    ] = None


class ExportRequest(BaseModel):
    """What to make of a field. Null takes the preset's value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    preset: Annotated[PresetName, Field(description="raw, prop, hero, mobile or print")] = "prop"
    target: Annotated[Target, Field(description="the engine whose names and layout the files follow")] = "generic"
    resolution: Annotated[
        int | None, Field(ge=32, le=512, description="lattice points a side, an integer from 32 to 512"), Whole
    ] = None
    formats: Annotated[
        list[Format], Field(min_length=1, max_length=16, description="one or more of glb, gltf, obj, ply, stl")
    ] = ["glb", "obj"]
    texture: Annotated[
        TextureSize | None,
        Field(description="pixels a side: 256, 512, 1024, 2048 or 4096; 0 colours vertices"),
        Whole,
    ] = None
    faces: Annotated[int | None, Field(ge=20, le=500_000, description="at most so many triangles, from 20"), Whole] = (
        None
    )
    lods: Annotated[int | None, Field(ge=0, le=5, description="coarser levels beside the asset, 0 to 5"), Whole] = None
    collision: Annotated[
        Literal["none", "box", "hull", "convex"] | None, Field(description="none, box, hull or convex")
    ] = None
    size: Annotated[
        Annotated[float, Field(gt=0, le=10_000)] | Literal["auto", "unit"] | None,
        Field(description='metres along the longest side, "auto" or "unit"'),
    ] = None
    pivot: Annotated[Literal["base", "center", "origin"] | None, Field(description="base, center or origin")] = None


class GenerateRequest(ExportRequest, Prompted):
    """One prompt, one asset."""

    model_config = STRICT


Request = TypeVar("Request", bound=ExportRequest)


def parse_request(body: dict[str, Any], kind: type[Request]) -> Request:
    """Validate; every broken field is named with what was met, what fits, and for a key the nearest known one."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        faults = [_fault(kind, fault["loc"], fault["type"], fault["msg"], fault["input"]) for fault in error.errors()]
    # An unknown key explains a missing one, so it comes first.
    faults.sort(key=lambda fault: "unknown key" not in fault.detail)
    raise ProblemError("invalid-request", "; ".join(fault.detail for fault in faults[:3]), errors=faults)


def _fault(
    kind: type[ExportRequest], loc: tuple[int | str, ...], fault: str, message: str, value: object
) -> FieldFault:
    inside = loc[0] == "blend" and len(loc) > 1
    fields = Blend.model_fields if inside else kind.model_fields
    name = str(loc[1] if inside else loc[0])
    shown = f"blend.{name}" if inside else name
    if fault == "extra_forbidden":
        near = difflib.get_close_matches(name.lower(), list(fields), n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(fields)}"
        detail = f"unknown key {shorten(shown)}; {remedy}"
        return FieldFault(pointer=pointer(*(str(part)[:80] for part in loc)), field=shown[:80], detail=detail)
    expected = fields[name].description
    if fault == "missing":
        detail = f"{shown} is missing: {expected}"
    elif fault == "value_error":
        detail = message.removeprefix("Value error, ")
    else:
        detail = f"{shown}: {message} (got {shorten(value)}): {expected}"
    # The branch of a union that was tried is no part of the body.
    parts = [part for part in loc if isinstance(part, int) or not part.startswith(("constrained-", "literal["))]
    return FieldFault(
        pointer=pointer(*parts[: 2 if inside or isinstance(parts[-1], int) else 1]), field=shown, detail=detail
    )


class File(BaseModel):
    """One file of a job; `url` takes GET, HEAD and Range."""

    name: str
    role: str  # mesh, lod, collision, texture, material, buffer, thumbnail, turntable, report, manifest, bundle
    format: str
    media_type: str
    bytes: int
    sha256: str
    url: str


class JobError(BaseModel):
    """Why a job failed; `code` is stable."""

    code: str
    type: str
    title: str
    detail: str


class Links(BaseModel):
    """Where to go from a job."""

    self: str
    events: str
    cancel: str
    exports: str
    bundle: str | None = None  # all files in one zip
    thumbnail: str | None = None
    parent: str | None = None  # the job whose field an export reads


class Job(BaseModel):
    """One accepted request and what became of it. Times are UTC (RFC 3339)."""

    id: str
    status: Status
    stage: str
    progress: Annotated[float, Field(ge=0, le=1)]  # never goes back
    queue_position: int | None  # 1 is next; null once it runs
    eta_seconds: float | None  # until it ends, as far as earlier jobs tell
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None  # when its files may go
    prompt: str
    model: str
    request: dict[str, Any]  # with every default filled in
    files: list[File]
    report: dict[str, Any] | None  # report.json: sizes, levels, what is less than asked for
    timings_ms: dict[str, int]
    warnings: list[str]
    error: JobError | None
    links: Links


class Jobs(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[Job]
    next: str | None  # the `cursor` of the next page


class Bounds(BaseModel):
    """Of a number in a request."""

    minimum: int
    maximum: int
    default: int


class Model(BaseModel):
    """One model and what may be asked of it."""

    id: str
    sha256: str
    default: bool
    ready: bool
    deterministic: bool  # the same prompt gives the same mesh, and a seed is refused
    text_encoder: str
    licence: str | None
    accelerators: dict[str, str]  # part of the model: what runs it
    formats: list[Format]
    presets: dict[str, dict[str, Any]]  # the settings of each
    targets: list[str]
    resolution: Bounds


class Models(BaseModel):
    """All models of this server."""

    models: list[Model]


class Health(BaseModel):
    """An answer to a probe."""

    status: Literal["ok", "ready"]


class Readiness(Health):
    """An answer to the probe of a server that can generate."""

    accelerators: dict[str, str]  # part of the model: what runs it
