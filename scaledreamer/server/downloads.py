"""A finished file as an answer: strong ETag, 304, one byte range, a file name."""

import re

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.records import StoredFile

FOREVER = "private, max-age=31536000, immutable"
Range = tuple[int, int]  # first byte, and the one after the last


def serve_file(
    request: Request, artifacts: Artifacts, key: str, file: StoredFile, headers: dict[str, str] | None = None
) -> Response:
    """The content never changes under its name, so the sha256 is the ETag and caches may keep it.

    Raises FileNotFoundError when it is not where it should be.
    """
    etag = f'"{file.sha256}"'
    headers = {"etag": etag, "cache-control": FOREVER, **(headers or {})}
    if request.method == "POST":
        _drop_range(request)
    else:
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        asked = check_range(request, file.bytes, etag)
    path = artifacts.path(key, file.name)
    if path is not None:
        stat = path.stat()
        return FileResponse(path, headers=headers, media_type=file.media_type, filename=file.name, stat_result=stat)
    asked = None if request.method == "POST" else asked
    first, stop = asked or (0, file.bytes)
    headers |= {
        "content-length": str(stop - first), "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{file.name}"',
    }  # fmt: skip
    if asked:
        headers["content-range"] = f"bytes {first}-{stop - 1}/{file.bytes}"
    body = iter(()) if request.method == "HEAD" else artifacts.read(key, file.name, first, stop)
    return StreamingResponse(body, 206 if asked else 200, headers, file.media_type)


def check_range(request: Request, size: int, etag: str) -> Range | None:
    """One satisfiable range; one outside the file is a problem; anything else is ignored (RFC 9110, 14.2)."""
    header = request.headers.get("range")
    if header is None:
        return None
    form = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header, re.ASCII | re.IGNORECASE)
    first, last = form.groups() if form else ("", "")
    backwards = first and last and int(first) > int(last)
    if not (first or last) or backwards or request.headers.get("if-range", etag) != etag:
        _drop_range(request)
        return None
    if (first and int(first) >= size) or (not first and int(last) == 0):
        detail = f"{header!r:.60} lies outside the file of {size} bytes"
        raise ProblemError("range-not-satisfiable", detail, headers={"content-range": f"bytes */{size}"})
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _drop_range(request: Request) -> None:
    request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]


def _matches(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
