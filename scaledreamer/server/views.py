"""A record as the job that a client sees, with absolute addresses."""

from datetime import UTC, datetime
from urllib.parse import quote

from scaledreamer.server.problems import PROBLEMS
from scaledreamer.server.records import Record
from scaledreamer.server.schemas import File, Job, JobError, Links


def job_view(
    record: Record, base: str, *, stage: str, progress: float, position: int | None = None,
    eta: float | None = None, keep_seconds: float | None = None,
) -> Job:  # fmt: skip
    """`base` ends in a slash, as in 'http://localhost:8000/'."""
    self = f"{base}v1/jobs/{record.id}"
    outcome = record.outcome
    files = [
        File(
            name=file.name, role=file.role, format=file.format, media_type=file.media_type, bytes=file.bytes,
            sha256=file.sha256, url=f"{self}/files/{quote(file.name)}",
        )
        for file in (outcome.files if outcome else ())
    ]  # fmt: skip
    error = None
    if record.failure is not None:
        code = record.failure.code
        error = JobError(code=code, type=f"/problems/{code}", title=PROBLEMS[code][1], detail=record.failure.detail)
    ends = record.finished + keep_seconds if record.status == "succeeded" and keep_seconds else 0.0
    url = {file.role: file.url for file in files}
    return Job(
        id=record.id, status=record.status, stage=stage, progress=progress, queue_position=position,
        eta_seconds=None if eta is None else round(eta, 1), created=datetime.fromtimestamp(record.created, UTC),
        started=time(record.started), finished=time(record.finished), expires=time(ends),
        prompt=record.wanted.prompt, model=record.wanted.model, request=record.wanted.resolved, files=files,
        report=outcome.report if outcome else None, timings_ms=outcome.timings_ms if outcome else {},
        warnings=list(outcome.warnings) if outcome else [], error=error,
        links=Links(
            self=self, events=f"{self}/events", cancel=f"{self}/cancel", exports=f"{self}/exports",
            bundle=url.get("bundle"), thumbnail=url.get("thumbnail"),
            parent=f"{base}v1/jobs/{record.parent}" if record.parent else None,
        ),
    )  # fmt: skip


def time(seconds: float) -> datetime | None:
    """A moment, or None for one that has not come."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
