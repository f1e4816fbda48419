"""Pieces of the OpenAPI document that no type tells FastAPI."""

from typing import Any

from pydantic import BaseModel

from scaledreamer.server.problems import MEDIA_TYPE, Problem
from scaledreamer.server.schemas import Job

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ACCEPTED: dict[str, Any] = {"model": Job, "description": "not finished yet; poll the address in Location"}
PROBLEM_SCHEMA = Problem.model_json_schema(ref_template="#/components/schemas/{model}")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the errors of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "a problem (RFC 9457)", "content": content} for status in statuses}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Documentation of a body that is read by hand."""
    return {
        "requestBody": {
            "required": True,
            "description": "JSON; the content type is not asked, so `curl -d` works as it is",
            "content": {"application/json": {"schema": kind.model_json_schema()}},
        }
    }
