"""What a server says, as values. Members that this version does not know are left out, and stay in `raw`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import httpx

from scaledreamer.errors import ScaleDreamerError

Value = TypeVar("Value")


class ServerError(ScaleDreamerError):
    """A request that was refused, a job that failed, or no answer at all (code `unreachable`)."""

    def __init__(
        self, code: str, detail: str, status: int | None = None, errors: tuple[Mapping[str, Any], ...] = (),
        retry_after: float | None = None, job: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.code, self.detail, self.status = code, detail, status  # no status: there was no answer, or a job failed
        self.errors = errors  # one a field: `pointer` into the body, `field`, `detail`
        self.retry_after = retry_after  # seconds; only what passes has them
        self.job = job  # the id of the one that failed

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @classmethod
    def read(cls, answer: httpx.Response, body: bytes) -> "ServerError":
        """From a problem+json answer, or from whatever a proxy says in its place."""
        header = answer.headers.get("retry-after", "")
        retry_after = float(header) if header.isascii() and header.isdigit() else None
        try:
            said = json.loads(body)
            code, detail = str(said["code"]), str(said["detail"])
        except (ValueError, LookupError, TypeError):
            said, code, detail = {}, f"http-{answer.status_code}", body.decode(errors="replace")[:200]
        return cls(code, detail, answer.status_code, tuple(said.get("errors") or ()), retry_after, said.get("job"))


def known(kind: type[Value], members: Mapping[str, Any], **own: Any) -> Value:
    """A value from the members that its class has."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in members.items() if name in names} | own)


@dataclass(frozen=True)
class File:
    """One file of a job."""

    name: str
    role: str  # mesh, lod, collision, texture, material, buffer, thumbnail, turntable, report, manifest, bundle
    format: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Job:
    """One accepted request and what became of it. Times are RFC 3339, in UTC."""

    id: str
    status: str  # queued, running, succeeded, failed, canceled, expired
    stage: str
    progress: float  # from 0 to 1
    created: str
    prompt: str
    model: str
    request: Mapping[str, Any]  # with every default filled in
    files: tuple[File, ...]
    queue_position: int | None = None  # 1 is next
    eta_seconds: float | None = None
    started: str | None = None
    finished: str | None = None
    expires: str | None = None
    report: Mapping[str, Any] | None = None
    timings_ms: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: Mapping[str, str] | None = None  # code, type, title, detail
    links: Mapping[str, str | None] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, members: Mapping[str, Any]) -> "Job":
        """From the JSON of an answer."""
        files = tuple(known(File, file) for file in members["files"])
        return known(cls, members, files=files, warnings=tuple(members.get("warnings", ())), raw=members)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in ("queued", "running")

    def check(self) -> "Job":
        """Itself, if it has files; otherwise a ServerError that says why not."""
        if self.status == "succeeded":
            return self
        error = self.error or {"code": "job-ended", "detail": f"job {self.id} is {self.status}"}
        raise ServerError(error["code"], error["detail"], job=self.id)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `number` counts from 1 within it."""

    number: int
    kind: str  # queued, running, stage, succeeded, failed, canceled, expired
    data: Mapping[str, Any]  # job and time; stage and progress; code and detail of a failure

    @classmethod
    def read(cls, block: bytes) -> "Event | None":
        """From the lines of a server-sent event; None for a comment."""
        lines = dict(line.partition(": ")[::2] for line in block.decode().split("\n"))
        return cls(int(lines["id"]), lines["event"], json.loads(lines["data"])) if "id" in lines else None

    @property
    def last(self) -> bool:
        """Whether the job has ended with it."""
        return self.kind not in ("queued", "running", "stage")


@dataclass(frozen=True)
class Model:
    """A model and what may be asked of it."""

    id: str
    sha256: str
    ready: bool
    deterministic: bool  # then a seed is refused
    formats: list[str]
    presets: Mapping[str, Mapping[str, Any]]
    resolution: Mapping[str, int]  # minimum, maximum, default
    licence: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
