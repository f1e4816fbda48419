"""What is known of a job, as values: a change makes a new one."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
STATUSES: tuple[Status, ...] = get_args(Status)
ACTIVE = ("queued", "running")
JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_id(milliseconds: int) -> str:
    """A UUIDv7 (RFC 9562): milliseconds since the epoch, so that ids sort by age, and 74 bits that nobody can guess."""
    value = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(frozen=True)
class StoredFile:
    """One file of an artifact."""

    name: str
    role: str
    media_type: str
    bytes: int
    sha256: str

    @property
    def format(self) -> str:
        """'glb' of 'barrel.glb'."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Failure:
    """Why a job failed: a code of `problems.PROBLEMS`, and what happened."""

    code: str
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What a work made."""

    files: tuple[StoredFile, ...]
    report: dict[str, Any]  # report.json of the asset
    warnings: tuple[str, ...] = ()
    timings_ms: dict[str, int] = field(default_factory=dict)  # a stage each

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Wanted:
    """A request that has been resolved: nothing in it depends on defaults any more."""

    request: dict[str, Any]  # as it came, validated
    resolved: dict[str, Any]  # with every default filled in
    prompt: str
    model: str
    field_key: str  # names the field: model file, prompt or blend, seed
    asset_key: str  # names the work: the field, the settings, the formats
    cost: float = 0.0  # estimated CPU-seconds


@dataclass(frozen=True)
class Record:
    """A job at one moment. Times are seconds since the epoch, 0 where they have not come."""

    id: str
    owner: str  # the key that asked for it; "" where no keys are used
    wanted: Wanted
    status: Status
    stage: str
    progress: float
    created: float
    started: float
    finished: float
    attempts: int
    crashes: int
    parent: str | None  # the job whose field an export reads
    outcome: Outcome | None
    failure: Failure | None


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `number` counts from 1 within it."""

    job: str
    number: int
    time: float
    kind: str  # queued, running, stage, succeeded, failed, canceled, expired
    data: dict[str, Any]
