"""The OpenAPI document: kept in docs/openapi.json, whole, with examples that work and links that lead somewhere."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server.app import create_app
from scaledreamer.server.problems import PROBLEMS
from scaledreamer.server.schemas import ExportRequest, GenerateRequest, parse_request
from scaledreamer.server.settings import Settings
from tests.server.fakes import MODEL

KEPT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
REFRESH = "to keep the new one: python -m tests.server.test_contract, and say why in CHANGELOG.md"
WORDS = {"summary", "description", "title", "examples", "example", "default"}
OPEN = {"/health/live", "/health/ready"}
Leaves = dict[tuple[str, ...], object]


def leaves(value: object, path: tuple[str, ...] = ()) -> Leaves:
    """The plain values in a document by where they are; members of a list by their name or value, not their place."""
    if isinstance(value, dict):
        return {key: leaf for name, each in value.items() for key, leaf in leaves(each, (*path, name)).items()}
    if isinstance(value, list):
        named = [
            (each.get("name", json.dumps(each, sort_keys=True)) if isinstance(each, dict) else str(each), each)
            for each in value
        ]
        return {key: leaf for name, each in named for key, leaf in leaves(each, (*path, name)).items()}
    return {path: value}


def differences(before: object, after: object) -> tuple[list[str], list[str]]:
    """What breaks clients of the document before, and what only adds to it."""
    old, new = leaves(before), leaves(after)
    gone = [path for path in old if path not in new or old[path] != new[path]]
    added = [path for path in new if path not in old]
    breaks = [path for path in gone if not WORDS & set(path)] + [path for path in added if "required" in path]
    adds = [path for path in dict.fromkeys(gone + added) if path not in breaks]
    return ["/".join(path) for path in breaks], ["/".join(path) for path in adds]


def served() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data=Path(folder)), MODEL).openapi()


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_served_document_is_the_kept_one(document: dict[str, Any]) -> None:
    breaks, adds = differences(json.loads(KEPT.read_text()), document)
    assert not breaks, f"clients of /v1 break: {breaks}; adds {adds}; undo it. Only before the first release, {REFRESH}"
    assert not adds, f"the document has grown or changed its words: {adds}; {REFRESH}"


def test_a_breaking_difference_is_told_from_an_addition() -> None:
    before = {"paths": {"/a": {"get": {"summary": "A", "parameters": [{"name": "n", "schema": {"type": "integer"}}]}}}}
    operation = before["paths"]["/a"]["get"]
    assert differences(before, before) == ([], [])
    worded = {"paths": {"/a": {"get": {**operation, "summary": "An a"}}, "/b": {"get": {"summary": "B"}}}}
    assert differences(before, worded) == ([], ["paths//a/get/summary", "paths//b/get/summary"])
    retyped = {"paths": {"/a": {"get": {"summary": "A", "parameters": [{"name": "n", "schema": {"type": "string"}}]}}}}
    assert differences(before, retyped)[0] == ["paths//a/get/parameters/n/schema/type"]
    stricter = {"paths": {"/a": {"get": {**operation, "required": ["n"]}}}}
    assert differences(before, stricter)[0] == ["paths//a/get/required/n"]
    assert differences(before, {"paths": {}})[0]


def test_every_operation_is_described_with_its_problems(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert operation["summary"] and operation["description"], path
        assert all(each["description"] for each in operation.get("parameters", [])), path
        answers = {int(status): answer for status, answer in operation["responses"].items()}
        assert path in OPEN or {401, 403} <= answers.keys(), f"{method} {path} may need a key"
        assert "{" not in path or 404 in answers, f"{method} {path} may find nothing"
        for status, answer in answers.items():
            if status >= 400:
                codes = [code for code, (of, _) in PROBLEMS.items() if of == status]
                assert codes and all(f"`{code}`" in answer["description"] for code in codes)
                assert list(answer["content"]) == ["application/problem+json"]


def test_every_body_has_examples_that_are_accepted(document: dict[str, Any]) -> None:
    kinds = {"GenerateRequest": GenerateRequest, "ExportRequest": ExportRequest}
    bodies = [
        op["requestBody"]["content"]["application/json"] for _, _, op in operations(document) if "requestBody" in op
    ]
    assert len(bodies) == 3
    for body in bodies:
        kind = kinds[body["schema"]["$ref"].rpartition("/")[2]]
        assert len(body["examples"]) >= 2
        for example in body["examples"].values():
            parse_request(example["value"], kind)


def test_every_reference_and_every_link_leads_somewhere(document: dict[str, Any]) -> None:
    known = {
        op["operationId"]: {each["name"] for each in op.get("parameters", [])} for _, _, op in operations(document)
    }
    for path, value in leaves(document).items():
        if path[-1] == "$ref":
            target: Any = document
            for part in str(value).removeprefix("#/").split("/"):
                target = target[part]
    links = [
        link for _, _, op in operations(document) for answer in op["responses"].values()
        for link in answer.get("links", {}).values()
    ]  # fmt: skip
    assert len(links) > 20
    assert all(link["parameters"].keys() <= known[link["operationId"]] for link in links)


def test_an_address_names_all_its_methods(client: httpx.Client, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        answer = client.request("PATCH", path)
        allowed = set(answer.headers["allow"].split(", "))
        assert answer.status_code == 405 and allowed - {"HEAD"} == {method.upper() for method in methods}, path


if __name__ == "__main__":
    KEPT.write_text(json.dumps(served(), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{KEPT}\n")
