"""A stored record as the job that a client sees, with absolute addresses."""

from typing import Literal, cast
from urllib.parse import quote

from scaledreamer.server.jobs import Record
from scaledreamer.server.problems import PROBLEMS
from scaledreamer.server.schemas import MEDIA_TYPES, File, Job, JobError, Links


def job_view(record: Record, position: int | None, base: str) -> Job:
    """`base` ends in a slash, as in 'http://localhost:8000/'."""
    self = f"{base}v1/jobs/{record.id}"
    files = [
        File(
            name=file.name,
            role=cast(Literal["mesh", "material", "bundle"], file.role),
            format=file.format,
            media_type=MEDIA_TYPES[file.format],
            bytes=file.bytes,
            sha256=file.sha256,
            url=f"{self}/files/{quote(file.name)}",
        )
        for file in record.files
    ]
    error = None
    if record.failure is not None:
        code = record.failure.code
        error = JobError(code=code, type=f"/problems/{code}", title=PROBLEMS[code][1], detail=record.failure.detail)
    return Job(
        id=record.id,
        status=record.status,
        stage=record.stage,
        progress=record.progress,
        queue_position=position,
        prompt=record.request.prompt,
        model=record.model,
        request=record.request.model_dump() | {"model": record.model},
        files=files,
        report=record.report,
        timings_ms=record.timings_ms,
        warnings=list(record.warnings),
        error=error,
        links=Links(self=self, bundle=next((file.url for file in files if file.role == "bundle"), None)),
    )
