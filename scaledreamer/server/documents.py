"""Pieces of the OpenAPI document that no type tells FastAPI."""

from typing import Any

from pydantic import BaseModel

from scaledreamer.server.negotiation import OFFERED
from scaledreamer.server.problems import MEDIA_TYPE, PROBLEMS, Problem
from scaledreamer.server.records import STATUSES
from scaledreamer.server.schemas import ExportRequest, GenerateRequest, Job

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[str, Any] = {"content": {"*/*": BINARY}}
REF = "#/components/schemas/{model}"
BY_HAND: tuple[type[BaseModel], ...] = (Problem, GenerateRequest, ExportRequest)  # that no signature mentions
SECURITY: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key of `scaledreamer keys create`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
EVENTS: dict[str, Any] = {
    "schema": {
        "type": "object",
        "description": "each event; comments keep a silent stream open",
        "properties": {
            "id": {"type": "string", "description": "its number, which `Last-Event-ID` takes"},
            "event": {"enum": [*STATUSES, "stage"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "`job` and `time`; `stage` and `progress`; `code` and `detail` of a failure",
            },
        },
        "required": ["id", "event", "data"],
    }
}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Prefer": (
        "`wait=N` waits up to N seconds for the job to end, `respond-async` not at all",
        {"type": "string", "examples": ["wait=30", "respond-async"]},
    ),
    "Idempotency-Key": (
        "the same key and body give the same job for a day, so a request may be sent again",
        {"type": "string", "pattern": '^"?[!#-~]{1,255}"?$', "examples": ["5a5d4f7e-6c0f-4b8e-9a55-3f6d0a1c2b3d"]},
    ),
    "Last-Event-ID": ("go on after the event of this number", {"type": "string", "pattern": "^[0-9]{1,9}$"}),
    "If-None-Match": ("304 if it holds the ETag", {"type": "string", "examples": ['"6b86b273ff34fce1"']}),
    "Range": ("one range of bytes", {"type": "string", "examples": ["bytes=0-1023"]}),
}


def link(operation: str, description: str, **parameters: str) -> dict[str, Any]:
    """Where to go from an answer."""
    return {"operationId": operation, "description": description, "parameters": parameters}


def links_of(job: str) -> dict[str, Any]:
    """Where to go from a job."""
    return {
        "job": link("get_job", "the job as it is later", job=job),
        "events": link("get_events", "what happens to it", job=job),
        "cancel": link("cancel_job", "end it", job=job),
        "delete": link("delete_job", "erase it", job=job),
        "exports": link("export_job", "other files from its field", job=job),
    }


FROM_JOB = links_of("$response.body#/id")
TO_JOB: dict[str, Any] = {"description": "the job", "links": FROM_JOB}
TO_NEXT: dict[str, Any] = {"links": {"next": link("list_jobs", "the page after", cursor="$response.body#/next")}}
MADE: dict[str, Any] = {
    "description": "the job, or the file that `Accept` asks for",
    "content": {kind: BINARY for kind in OFFERED if kind != "application/json"},
    "headers": {"X-Job-Id": {"required": True, "description": "the job's `id`", "schema": {"type": "string"}}},
    "links": links_of("$response.header.X-Job-Id"),
}
ACCEPTED: dict[str, Any] = {
    "model": Job,
    "description": "not finished yet; poll the address in Location",
    "headers": {
        "Location": {"required": True, "description": "the job", "schema": {"type": "string"}},
        "Retry-After": {"required": True, "description": "seconds", "schema": {"type": "integer"}},
    },
    "links": FROM_JOB,
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the errors of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}
    return {status: {"description": codes(status), "content": content} for status in statuses}


def codes(status: int) -> str:
    """The codes of a status, with their titles."""
    told = [f"`{code}`: {title[0].lower()}{title[1:]}" for code, (of, title) in PROBLEMS.items() if of == status]
    return "; ".join(told)


def headers_of(*names: str) -> dict[str, Any]:
    """Documentation of headers that are read by hand."""
    parameters = [
        {"name": name, "in": "header", "required": False, "description": HEADERS[name][0], "schema": HEADERS[name][1]}
        for name in names
    ]
    return {"parameters": parameters}


def body_of(kind: type[BaseModel], *headers: str) -> dict[str, Any]:
    """Documentation of a body that is read by hand, and of headers."""
    examples = {value["summary"]: value for value in EXAMPLES[kind]}
    content = {"schema": {"$ref": REF.format(model=kind.__name__)}, "examples": examples}
    return headers_of(*headers) | {
        "requestBody": {
            "required": True,
            "description": "JSON; the content type is not asked, so `curl -d` works as it is",
            "content": {"application/json": content},
        }
    }


EXAMPLES: dict[type[BaseModel], list[dict[str, Any]]] = {
    GenerateRequest: [
        {"summary": "a prompt", "value": {"prompt": "a red wooden barrel"}},
        {
            "summary": "an asset for a phone",
            "value": {"prompt": "a blue mug", "preset": "mobile", "target": "unity", "formats": ["glb"], "size": 0.12},
        },
        {
            "summary": "half of each",
            "value": {"prompt": "a red mushroom", "blend": {"prompt": "a green house", "weight": 0.5}},
        },
    ],
    ExportRequest: [
        {"summary": "another format", "value": {"formats": ["stl"]}},
        {"summary": "fewer faces", "value": {"faces": 2000, "lods": 0, "collision": "box"}},
    ],
}


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the schemas that are read or answered by hand, and with its keys."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for kind in BY_HAND:
        schema = kind.model_json_schema(ref_template=REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = SECURITY
    document["security"] = [{}, *({name: []} for name in SECURITY)]  # a server without keys asks for none
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if set(operation["responses"]).isdisjoint({"401", "403"}):
                operation["security"] = []
    return document
