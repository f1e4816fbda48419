"""Bad input is refused by name, as problem+json, whatever it is."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server.app import create_app
from scaledreamer.server.problems import PROBLEMS, ProblemError
from scaledreamer.server.schemas import GenerateRequest, parse_request
from scaledreamer.server.settings import Settings
from tests.server.fakes import MODEL

DEEP = "[" * 60_000
BAD: list[tuple[str, bytes, int, str]] = [
    ("an empty prompt", b'{"prompt": ""}', 422, "prompt"),
    ("a blank prompt", b'{"prompt": "  \\n "}', 422, "prompt"),
    ("no prompt", b"{}", 422, "prompt"),
    ("a number as prompt", b'{"prompt": 7}', 422, "prompt"),
    ("null as prompt", b'{"prompt": null}', 422, "prompt"),
    ("a long prompt", json.dumps({"prompt": "x" * 1001}).encode(), 422, "1000"),
    ("a control character", b'{"prompt": "a\\u0000b"}', 422, "control"),
    ("half a surrogate pair", b'{"prompt": "\\ud800"}', 422, "prompt"),
    ("half a surrogate pair as key", b'{"prompt": "x", "\\ud800": 1}', 400, "surrogate"),
    ("a misspelt key", b'{"promt": "x"}', 422, "did you mean 'prompt'"),
    ("an unknown key", b'{"prompt": "x", "zzz": 1}', 422, "'zzz'"),
    ("an array", b"[]", 422, "array"),
    ("a string", b'"x"', 422, "string"),
    ("null", b"null", 422, "null"),
    ("an open brace", b"{", 400, "line 1"),
    ("nothing", b"", 400, "empty"),
    ("a form", b"prompt=x", 400, "JSON"),
    ("invalid UTF-8", b'{"prompt": "\xff"}', 400, "UTF-8"),
    ("a deep nest", DEEP.encode(), 400, "16 levels"),
    ("a deep value", b'{"prompt": ' + b"[" * 30 + b"]" * 30 + b"}", 400, "16 levels"),
    ("a key twice", b'{"prompt": "a", "prompt": "b"}', 400, "'prompt' appears twice"),
    ("NaN", b'{"prompt": "x", "resolution": NaN}', 400, "NaN"),
    ("Infinity", b'{"prompt": "x", "resolution": -Infinity}', 400, "Infinity"),
    ("a float beyond doubles", b'{"prompt": "x", "resolution": 1e999}', 400, "too large"),
    ("a giant integer", b'{"prompt": "x", "resolution": ' + b"9" * 5000 + b"}", 400, "digits"),
    ("a large float", b'{"prompt":"x","resolution":1e9}', 422, "resolution"),
    ("a large integer", b'{"prompt":"x","resolution":1000000000}', 422, "512"),
    ("a small integer", b'{"prompt":"x","resolution":31}', 422, "32"),
    ("half a point", b'{"prompt":"x","resolution":128.5}', 422, "integer"),
    ("a text as number", b'{"prompt":"x","resolution":"128"}', 422, "integer"),
    ("true as number", b'{"prompt":"x","resolution":true}', 422, "integer"),
    ("an unknown format", b'{"prompt":"x","formats":["glb","fbx"]}', 422, "/formats/1"),
    ("no formats", b'{"prompt":"x","formats":[]}', 422, "formats"),
    ("a text as formats", b'{"prompt":"x","formats":"glb"}', 422, "formats"),
    ("an unknown model", b'{"prompt":"x","model":"../../etc/passwd"}', 422, "'ball'"),
    ("an unknown preset", b'{"prompt":"x","preset":"cinema"}', 422, "mobile"),
    ("a texture between sizes", b'{"prompt":"x","texture":1000}', 422, "1024"),
    ("too few faces", b'{"prompt":"x","faces":3}', 422, "20"),
    ("a seed without use", b'{"prompt":"x","seed":1}', 422, "deterministic"),
    ("a negative seed", b'{"prompt":"x","seed":-1}', 422, "seed"),
    ("a size of nothing", b'{"prompt":"x","size":0}', 422, "metres"),
    ("a size in words", b'{"prompt":"x","size":"large"}', 422, "auto"),
    ("half a blend", b'{"prompt":"x","blend":{"weight":0.5}}', 422, "/blend/prompt"),
    ("a heavy blend", b'{"prompt":"x","blend":{"prompt":"y","weight":2}}', 422, "/blend/weight"),
    ("a misspelt key in a blend", b'{"prompt":"x","blend":{"promt":"y"}}', 422, "did you mean 'prompt'"),
    ("a large body", json.dumps({"prompt": "x" * 1_000_000}).encode(), 413, "65536 bytes"),
]


def check_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "instance", "errors"} <= set(problem)
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{problem['code']}" and problem["code"] in PROBLEMS
    assert code is None or problem["code"] == code
    return problem


@pytest.mark.parametrize("door", ["/generate", "/v1/jobs"])
@pytest.mark.parametrize(("body", "status", "word"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_named(client: httpx.Client, door: str, body: bytes, status: int, word: str) -> None:
    answer = client.post(door, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    problem = check_problem(answer, status)
    assert word in json.dumps(problem["errors"]) + problem["detail"]
    assert problem["errors"], "the field or the limit is named"
    assert problem["instance"] == door


def test_a_large_body_is_refused_while_it_streams(client: httpx.Client) -> None:
    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 4096

    check_problem(client.post("/generate", content=chunks()), 413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/web/nowhere.js", 404),
        ("GET", "/web/../app.py", 404),
        ("GET", "/generate", 405),
        ("PUT", "/v1/jobs", 405),
        ("GET", "/v1/jobs/nonsense", 404),
        ("GET", "/v1/jobs/01900000-0000-7000-8000-000000000000", 404),
        ("GET", "/v1/jobs/01900000-0000-7000-8000-000000000000/files/mesh.glb", 404),
        ("GET", "/v1/jobs/..%2f..%2fetc/files/passwd", 404),
        ("DELETE", "/health/live", 405),
    ],
)
def test_unknown_addresses_are_problems(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    check_problem(answer, status)
    assert status != 405 or answer.headers["allow"]


def test_an_accept_header_that_cannot_be_met_is_refused_before_any_work(client: httpx.Client) -> None:
    answer = client.post("/generate", json={"prompt": "x"}, headers={"accept": "image/png"})
    assert "model/gltf-binary" in check_problem(answer, 406)["detail"]


def test_defaults_are_filled_in() -> None:
    request = parse_request({"prompt": "  a barrel "}, GenerateRequest)
    assert (request.prompt, request.preset, request.formats) == ("a barrel", "prop", ["glb", "obj"])
    assert request.resolution is request.faces is request.size is None
    nothing = dict.fromkeys(["resolution", "texture", "faces", "lods", "collision", "size", "pivot", "seed", "blend"])
    assert parse_request({"prompt": "a barrel", **nothing}, GenerateRequest) == request


def test_a_number_is_whole_however_it_is_written() -> None:
    request = parse_request({"prompt": "a barrel", "resolution": 128.0, "texture": 512.0, "lods": 0.0}, GenerateRequest)
    assert repr((request.resolution, request.texture, request.lods)) == "(128, 512, 0)"


def test_every_fault_is_listed() -> None:
    with pytest.raises(ProblemError) as caught:
        parse_request({"promt": "x", "resolution": 5}, GenerateRequest)
    assert [fault.pointer for fault in caught.value.errors] == ["/promt", "/prompt", "/resolution"]


@pytest.mark.anyio
async def test_a_fault_of_the_server_is_a_problem_too(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path), MODEL)

    @app.get("/fault")
    def fault() -> None:
        raise RuntimeError("secret")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        problem = check_problem(await client.get("/fault"), 500, "internal-error")
    assert "secret" not in json.dumps(problem)
