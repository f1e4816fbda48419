"""Prompt in, mesh out: the synchronous door, jobs, downloads."""

import hashlib
import io
import json
import zipfile

import httpx
import pytest

from tests.server.fakes import SLOW
from tests.server.running import finished
from tests.server.test_requests import check_problem

KEYS = [
    "id",
    "status",
    "stage",
    "progress",
    "queue_position",
    "eta_seconds",
    "created",
    "started",
    "finished",
    "expires",
]
KEYS += ["prompt", "model", "request", "files", "report", "timings_ms", "warnings", "error", "links"]


@pytest.fixture(scope="module")
def job(client: httpx.Client) -> dict[str, object]:
    """A finished job with every format."""
    every = ["glb", "obj", "ply", "stl"]
    answer = client.post("/generate", json={"prompt": "A Red ball!", "resolution": 32, "formats": every})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def file(job: dict[str, object], suffix: str) -> dict[str, object]:
    files = job["files"]
    assert isinstance(files, list)
    return dict(next(file for file in files if file["format"] == suffix))


class TestGenerate:
    def test_the_headline_command_sends_a_form_and_gets_a_job(self, client: httpx.Client) -> None:
        form = {"content-type": "application/x-www-form-urlencoded", "accept": "*/*"}
        answer = client.post("/generate", content=b'{"prompt": "a red wooden barrel"}', headers=form)
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        job = answer.json()
        assert list(job) == KEYS
        assert (job["status"], job["stage"], job["progress"], job["queue_position"]) == ("succeeded", "done", 1, None)
        assert [(f["name"], f["role"]) for f in job["files"]] == [
            ("triangle.glb", "mesh"),
            ("triangle.obj", "mesh"),
            ("triangle.zip", "bundle"),
        ]
        assert job["request"] == {
            "prompt": "a red wooden barrel", "model": "ball", "seed": None, "blend": None, "preset": "prop",
            "target": "generic", "resolution": 128, "texture": 1024, "faces": 10_000, "lods": 3, "collision": "hull",
            "size": "auto", "pivot": "base", "formats": ["glb", "obj"],
        }  # fmt: skip
        assert set(job["timings_ms"]) == {"queue", "extract", "total"}
        assert job["links"]["self"] == f"{client.base_url}/v1/jobs/{job['id']}"
        assert client.get(job["links"]["self"]).json() == job

    @pytest.mark.parametrize(
        ("accept", "media_type", "start"),
        [
            ("model/gltf-binary", "model/gltf-binary", b"glTF"),
            ("model/obj", "model/obj", b""),
            ("application/zip", "application/zip", b"PK"),
            ("text/html, model/gltf-binary;q=0.9, */*;q=0.1", "model/gltf-binary", b"glTF"),
            ("application/json;q=0.5, model/stl", "model/stl", b""),
        ],
    )
    def test_accept_answers_the_file(self, client: httpx.Client, accept: str, media_type: str, start: bytes) -> None:
        answer = client.post("/generate", json={"prompt": "ball", "resolution": 32}, headers={"accept": accept})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == media_type and answer.content.startswith(start)
        assert answer.headers["content-disposition"].startswith('attachment; filename="triangle.')
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert client.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()["status"] == "succeeded"

    def test_accept_adds_its_format_to_the_chosen_ones(self, client: httpx.Client) -> None:
        body = {"prompt": "ball", "resolution": 32, "formats": ["stl"]}
        answer = client.post("/generate", json=body, headers={"accept": "model/gltf-binary"})
        job = client.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
        assert [f["format"] for f in job["files"]] == ["stl", "glb", "zip"]

    @pytest.mark.parametrize("prefer", ["respond-async", "wait=0", "wait=0.1, respond-async"])
    def test_prefer_bounds_the_wait(self, client: httpx.Client, prefer: str) -> None:
        answer = client.post(
            "/generate", json={"prompt": f"slow ball {prefer}", "resolution": 32}, headers={"prefer": prefer}
        )
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["links"]["self"]
        assert answer.json()["status"] in ("queued", "running")
        assert finished(client, answer.headers["location"])["status"] == "succeeded"

    def test_a_wait_that_suffices_is_a_200(self, client: httpx.Client) -> None:
        answer = client.post("/generate", json={"prompt": "ball", "resolution": 32}, headers={"prefer": "wait=30"})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("prompt", "status", "code"),
        [
            ("nothing", 422, "empty-mesh"),
            ("refused", 422, "invalid-prompt"),
            ("broken", 500, "generation-failed"),
            ("disk", 507, "storage-full"),
        ],
    )
    def test_a_failed_job_is_a_problem_that_names_it(
        self, client: httpx.Client, prompt: str, status: int, code: str
    ) -> None:
        problem = check_problem(client.post("/generate", json={"prompt": prompt}), status, code)
        job = client.get(f"/v1/jobs/{problem['job']}").json()
        assert (job["status"], job["error"]["code"], job["files"]) == ("failed", code, [])

    def test_warnings_reach_the_job(self, client: httpx.Client) -> None:
        answer = client.post("/generate", json={"prompt": "very " * 30 + "round ball", "resolution": 32})
        assert answer.json()["warnings"] == ["the last words were not read"]

    def test_the_same_prompt_gives_the_same_bytes(self, client: httpx.Client) -> None:
        sums = [
            {f["sha256"] for f in client.post("/generate", json={"prompt": "b", "resolution": 32}).json()["files"]}
            for _ in range(2)
        ]
        assert sums[0] == sums[1]


class TestJobs:
    def test_create_answers_at_once(self, client: httpx.Client) -> None:
        answer = client.post("/v1/jobs", json={"prompt": "slow ball again", "resolution": 32})
        assert answer.status_code == 202 and answer.elapsed.total_seconds() < SLOW
        waiting = client.post("/v1/jobs", json={"prompt": "slow ball to wait", "resolution": 32}).json()
        assert waiting["status"] == "queued" and waiting["queue_position"] >= 1
        job = finished(client, answer.headers["location"])
        assert job["status"] == "succeeded" and job["id"] < waiting["id"]
        assert finished(client, waiting["links"]["self"])["queue_position"] is None


class TestFiles:
    @pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl", "zip"])
    def test_headers_describe_the_content(self, client: httpx.Client, job: dict[str, object], suffix: str) -> None:
        entry = file(job, suffix)
        answer = client.get(str(entry["url"]))
        assert answer.headers["etag"] == f'"{entry["sha256"]}"'
        assert hashlib.sha256(answer.content).hexdigest() == entry["sha256"]
        assert len(answer.content) == entry["bytes"] == int(answer.headers["content-length"])
        assert answer.headers["content-type"] == entry["media_type"]
        assert answer.headers["content-disposition"] == f'attachment; filename="{entry["name"]}"'
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_head_has_no_body(self, client: httpx.Client, job: dict[str, object]) -> None:
        entry = file(job, "glb")
        answer = client.head(str(entry["url"]))
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) == entry["bytes"]

    def test_an_unchanged_file_is_not_sent_again(self, client: httpx.Client, job: dict[str, object]) -> None:
        entry = file(job, "glb")
        for tag in (f'"{entry["sha256"]}"', f'"other", W/"{entry["sha256"]}"', "*"):
            answer = client.get(str(entry["url"]), headers={"if-none-match": tag})
            assert (answer.status_code, answer.content) == (304, b"")
        assert client.get(str(entry["url"]), headers={"if-none-match": '"other"'}).status_code == 200

    @pytest.mark.parametrize(
        ("header", "part"),
        [("bytes=0-3", slice(0, 4)), ("bytes=4-", slice(4, None)), ("bytes=-5", slice(-5, None))],
    )
    def test_a_range_is_that_part(self, client: httpx.Client, job: dict[str, object], header: str, part: slice) -> None:
        url = str(file(job, "glb")["url"])
        answer = client.get(url, headers={"range": header})
        assert answer.status_code == 206 and answer.content == client.get(url).content[part]
        assert answer.headers["content-range"].endswith(f"/{file(job, 'glb')['bytes']}")

    @pytest.mark.parametrize("header", ["bytes=9-3", "bytes=x", "lines=0-1", "bytes=0-1,3-4", "bytes=-"])
    def test_a_range_that_makes_no_sense_is_ignored(
        self, client: httpx.Client, job: dict[str, object], header: str
    ) -> None:
        assert client.get(str(file(job, "glb")["url"]), headers={"range": header}).status_code == 200

    def test_a_range_of_another_version_is_ignored(self, client: httpx.Client, job: dict[str, object]) -> None:
        headers = {"range": "bytes=0-3", "if-range": '"other"'}
        assert client.get(str(file(job, "glb")["url"]), headers=headers).status_code == 200

    @pytest.mark.parametrize("header", ["bytes=999999999-", "bytes=-0"])
    def test_a_range_outside_is_a_416(self, client: httpx.Client, job: dict[str, object], header: str) -> None:
        answer = client.get(str(file(job, "glb")["url"]), headers={"range": header})
        check_problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{file(job, 'glb')['bytes']}"

    @pytest.mark.parametrize("name", ["other.glb", "..%2f..%2fetc%2fpasswd", "%2e%2e", "triangle.glb%00", ""])
    def test_only_listed_names_are_served(self, client: httpx.Client, job: dict[str, object], name: str) -> None:
        check_problem(client.get(f"/v1/jobs/{job['id']}/files/{name}"), 404)

    def test_the_zip_holds_the_other_files(self, client: httpx.Client, job: dict[str, object]) -> None:
        links = job["links"]
        assert isinstance(links, dict) and links["bundle"] == file(job, "zip")["url"]
        archive = zipfile.ZipFile(io.BytesIO(client.get(links["bundle"]).content))
        names = [f["name"] for f in job["files"] if f["format"] != "zip"]  # type: ignore[attr-defined]
        assert archive.namelist() == names and archive.testzip() is None


class TestAbout:
    def test_models_lists_the_one(self, client: httpx.Client) -> None:
        (model,) = client.get("/v1/models").json()["models"]
        assert model["id"] == "ball" and model["ready"]
        assert model["resolution"] == {"minimum": 32, "maximum": 512, "default": 128}
        assert client.post("/generate", json={"prompt": "b", "model": "ball", "resolution": 32}).status_code == 200

    def test_openapi_lists_these_addresses_and_no_others(self, client: httpx.Client) -> None:
        document = client.get("/openapi.json").json()
        assert set(document["paths"]) == {
            "/generate", "/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/cancel", "/v1/jobs/{job}/events",
            "/v1/jobs/{job}/exports", "/v1/jobs/{job}/files/{name}", "/v1/models", "/health/live", "/health/ready",
        }  # fmt: skip
        assert "HTTPValidationError" not in json.dumps(document)
        assert set(document["components"]["schemas"]["Job"]["properties"]) == set(KEYS)
