"""A finished file as an answer: strong ETag, 304, one byte range, a file name."""

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from scaledreamer.server.jobs import StoredFile
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.schemas import MEDIA_TYPES


def serve_file(request: Request, path: Path, file: StoredFile, headers: dict[str, str] | None = None) -> Response:
    """The content never changes under its name, so the sha256 is the ETag and caches may keep it."""
    etag = f'"{file.sha256}"'
    headers = {"etag": etag, "cache-control": "private, max-age=31536000, immutable", **(headers or {})}
    if request.method != "POST" and _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise ProblemError("expired", f"{file.name} has been removed from the disk; generate it again") from error
    if request.method == "POST":
        _drop_range(request)
    else:
        check_range(request, file.bytes, etag)
    return FileResponse(
        path, headers=headers, media_type=MEDIA_TYPES[file.format], filename=file.name, stat_result=stat
    )


def check_range(request: Request, size: int, etag: str) -> None:
    """One satisfiable range passes; one outside the file is a problem; anything else is ignored (RFC 9110, 14.2)."""
    header = request.headers.get("range")
    if header is None:
        return
    form = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header, re.ASCII | re.IGNORECASE)
    first, last = form.groups() if form else ("", "")
    backwards = first and last and int(first) > int(last)
    if not (first or last) or backwards or request.headers.get("if-range", etag) != etag:
        _drop_range(request)
    elif (first and int(first) >= size) or (not first and int(last) == 0):
        detail = f"{header!r:.60} lies outside the file of {size} bytes"
        raise ProblemError("range-not-satisfiable", detail, headers={"content-range": f"bytes */{size}"})


def _drop_range(request: Request) -> None:
    request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]


def _matches(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
