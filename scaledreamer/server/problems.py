"""Errors as RFC 9457 `application/problem+json`: one function makes them, one table names them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount

MEDIA_TYPE = "application/problem+json"

# code -> (status, title). The code is the last part of `type` and never changes its meaning.
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed-json": (400, "The request is not well-formed JSON"),
    "bad-request": (400, "The request cannot be read"),
    "host-not-allowed": (403, "This host name is not served"),
    "origin-not-allowed": (403, "Pages of other sites may not post here"),
    "unauthenticated": (401, "A key is needed"),
    "forbidden": (403, "This key may not do that"),
    "not-found": (404, "There is nothing here"),
    "job-not-found": (404, "There is no such job"),
    "file-not-found": (404, "The job has no such file"),
    "method-not-allowed": (405, "This address does not take this method"),
    "not-acceptable": (406, "None of the accepted media types can be sent"),
    "request-timeout": (408, "The request did not arrive in time"),
    "job-ended": (409, "The job ended without files"),
    "expired": (410, "The files of this job have been removed"),
    "body-too-large": (413, "The request is too large"),
    "range-not-satisfiable": (416, "The range lies outside the file"),
    "invalid-request": (422, "The request is not valid"),
    "cost-too-high": (422, "The asset would take too long"),
    "idempotency-key-reused": (422, "The idempotency key belongs to another request"),
    "invalid-prompt": (422, "The prompt cannot be used"),
    "empty-mesh": (422, "The model made no surface for this prompt"),
    "rate-limited": (429, "Too many requests with this key"),
    "too-many-in-flight": (429, "Too many jobs or streams of this key have not ended"),
    "model-changed": (409, "The model that this needs is not loaded any more"),
    "internal-error": (500, "The server failed"),
    "generation-failed": (500, "The generation failed"),
    "worker-crashed": (500, "The worker process died during the job"),
    "out-of-memory": (500, "The job needs more memory than there is"),
    "not-ready": (503, "The server is not ready"),
    "model-unavailable": (503, "The model could not be loaded"),
    "draining": (503, "The server stops"),
    "storage-busy": (503, "The job store cannot be used now"),
    "queue-full": (503, "Too many jobs wait already"),
    "deadline-exceeded": (504, "The job took longer than a job may take"),
    "storage-full": (507, "The disk is full"),
}


class FieldFault(BaseModel):
    """One broken field or limit; `pointer` is a JSON pointer into the request body."""

    pointer: str | None = None
    field: str | None = None
    detail: str


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldFault] = []


class ProblemError(Exception):
    """Raised anywhere in a request; answered as problem+json."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, list(errors)
        self.headers, self.status, self.members = dict(headers or {}), status, members

    def response(self, instance: str) -> Response:
        """The answer; pure ASCII, so that half a surrogate pair in a key cannot break it."""
        status, title = PROBLEMS[self.code]
        problem = Problem(
            type=f"/problems/{self.code}",
            title=title,
            status=self.status or status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            errors=self.errors,
            **self.members,
        )
        members = problem.model_dump(mode="python")
        members["errors"] = [fault.model_dump(exclude_none=True) for fault in self.errors]
        return Response(json.dumps(members), problem.status, self.headers, MEDIA_TYPE)


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def shorten(value: object, length: int = 80) -> str:
    """How a value that was met is quoted: its repr, cut."""
    text = repr(value[: 2 * length] if isinstance(value, str | list) else value)
    return text if len(text) <= length else text[: length - 1] + "…"


def methods_of(request: Request) -> list[str]:
    """What the address of a request takes. The router itself names the methods of one route among several."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(
            route.matches(scope)[0] is Match.FULL for route in request.app.routes if not isinstance(route, Mount)
        )

    return [method for method in ("GET", "HEAD", "POST", "DELETE") if takes(method)] or ["GET", "HEAD"]  # of files


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""

    async def raised(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response(request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, headers = request.url.path, dict(error.headers or {})
        match error.status_code:
            case 404:
                problem = ProblemError("not-found", f"no such address: {path}; /docs lists all", headers=headers)
            case 405:
                allowed = ", ".join(methods_of(request))
                detail = f"{path} does not take {request.method}; use {allowed}"
                problem = ProblemError("method-not-allowed", detail, headers={"allow": allowed})
            case status:
                code = "bad-request" if status < 500 else "internal-error"
                problem = ProblemError(code, str(error.detail), status=status, headers=headers)
        return problem.response(path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            FieldFault(field=".".join(map(str, fault["loc"])), detail=f"{fault['msg']} (got {shorten(fault['input'])})")
            for fault in error.errors()
        ]
        return ProblemError("invalid-request", faults[0].detail, errors=faults).response(request.url.path)

    async def unexpected(request: Request, error: Exception) -> Response:
        detail = "an unexpected error; the server's log has the trace"  # written by uvicorn
        return ProblemError("internal-error", detail).response(request.url.path)

    app.add_exception_handler(ProblemError, raised)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
