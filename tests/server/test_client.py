"""The Python client: against a real server, and against one that fails."""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.client import AsyncClient, Client, Job, ServerError

Handler = Callable[[httpx.Request], httpx.Response]
SMALL = {"resolution": 32, "formats": ["glb", "stl"]}
JOB = "01900000-0000-7000-8000-000000000000"
GLB = b"glTF and so on"


@pytest.fixture
def server(client: httpx.Client) -> Iterator[Client]:
    """The client under test, of a real server."""
    with Client(str(client.base_url), transport=httpx.HTTPTransport()) as server:
        yield server


class TestServed:
    def test_a_prompt_becomes_files(self, server: Client, tmp_path: Path) -> None:
        job = server.generate("a ball for the client", **SMALL)
        assert job.status == "succeeded" and job.request["formats"] == ["glb", "stl"]
        assert job.raw["links"]["self"].endswith(job.id)
        paths = server.download(job, tmp_path / "ball")
        assert paths == [tmp_path / "ball" / "triangle.glb", tmp_path / "ball" / "triangle.stl"]
        assert sorted(path.name for path in (tmp_path / "ball").iterdir()) == ["triangle.glb", "triangle.stl"]
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [
            file.sha256 for file in job.files if file.role == "mesh"
        ]
        assert server.download(job.id, tmp_path, roles=["bundle"]) == [tmp_path / "triangle.zip"]
        assert server.download(job, tmp_path, formats=["stl"]) == [tmp_path / "triangle.stl"]

    def test_a_job_that_fails_is_an_error_that_names_it(self, server: Client) -> None:
        with pytest.raises(ServerError, match="no zero level") as caught:
            server.generate("nothing for the client")
        assert caught.value.code == "empty-mesh" and caught.value.job
        assert server.job(caught.value.job).status == "failed"

    def test_a_refused_request_names_the_field(self, server: Client) -> None:
        with pytest.raises(ServerError) as caught:
            server.submit("a ball", resolution=5)
        assert (caught.value.status, caught.value.code) == (422, "invalid-request")
        assert caught.value.errors[0]["pointer"] == "/resolution"

    def test_events_come_in_order_and_end_with_the_job(self, server: Client) -> None:
        events = list(server.progress(server.submit("a slow ball for the client", **SMALL)))
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert (events[0].kind, events[-1].kind, events[-1].last) == ("queued", "succeeded", True)

    def test_jobs_are_waited_for_exported_listed_canceled_and_deleted(self, server: Client) -> None:
        first = server.generate("a ball that is exported", **SMALL)
        export = server.wait(server.export(first, formats=["obj"]))
        assert export.status == "succeeded" and export.links["parent"] == first.links["self"]
        slow = server.submit("a slow ball that is canceled", **SMALL)
        with pytest.raises(TimeoutError, match="after 0 seconds"):
            server.wait(slow, 0)
        assert server.cancel(slow).status == "canceled"
        assert [job.id for job in server.jobs(limit=3)] == [slow.id, export.id, first.id]
        assert slow.id in {job.id for job in server.jobs("canceled")}
        for _ in range(2):
            server.delete(slow)
        with pytest.raises(ServerError, match="job-not-found"):
            server.job(slow)

    def test_one_idempotency_key_is_one_job(self, server: Client) -> None:
        jobs = {server.submit("a ball once", idempotency_key="client-once", **SMALL).id for _ in range(2)}
        assert len(jobs) == 1

    def test_what_the_server_runs(self, server: Client) -> None:
        (model,) = server.models()
        assert (model.id, model.resolution["maximum"]) == ("ball", 512) and "raw" in model.presets
        assert server.ready()

    @pytest.mark.anyio
    async def test_the_same_without_blocking(self, client: httpx.Client, tmp_path: Path) -> None:
        address = str(client.base_url)
        async with AsyncClient(address, transport=httpx.AsyncHTTPTransport()) as server:
            jobs = await asyncio.gather(*[server.generate(f"ball {number}", **SMALL) for number in range(2)])
            assert [path.name for path in await server.download(jobs[0], tmp_path, formats=["glb"])] == ["triangle.glb"]
            assert [event.kind async for event in server.progress(jobs[1])][-1] == "succeeded"
            assert [job.id async for job in server.jobs(limit=2)] == sorted([job.id for job in jobs], reverse=True)
            assert await server.ready() and len(await server.models()) == 1
            await server.delete(jobs[0])


def test_the_client_loads_neither_torch_nor_the_server() -> None:
    program = "import sys, scaledreamer.client; sys.exit(bool({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def job(**changes: Any) -> dict[str, Any]:
    """What a server says of a job that has succeeded."""
    file = {
        "name": "a.glb", "role": "mesh", "format": "glb", "media_type": "model/gltf-binary", "bytes": len(GLB),
        "sha256": hashlib.sha256(GLB).hexdigest(),
    }  # fmt: skip
    return {
        "id": JOB, "status": "succeeded", "stage": "done", "progress": 1, "created": "2026-01-01T00:00:00Z",
        "prompt": "a ball", "model": "ball", "request": {}, "files": [file],
    } | changes  # fmt: skip


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "as told"}, headers=headers)


def do(kind: type[Client] | type[AsyncClient], handler: Handler, call: str, *args: Any, **given: Any) -> Any:
    """What a call of a client comes to whose server is a function and whose clock is its own, and its pauses."""
    clock = [0.0]
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    client = kind("http://flaky", transport=httpx.MockTransport(handler))
    calls = client.calls if isinstance(client, Client) else client
    calls.wire.pause, calls.now = pause, lambda: clock[0]  # type: ignore[method-assign]
    done = getattr(client, call)(*args, **given)
    if isinstance(client, Client):
        return (list(done) if hasattr(done, "__next__") else done), pauses

    async def all_of() -> Any:
        return [value async for value in done] if hasattr(done, "__anext__") else await done

    return asyncio.run(all_of()), pauses


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


class Script:
    """Answers in their order, the last one again and again; an exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks."""

    def __init__(self, *chunks: bytes) -> None:
        self.some = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.some
        raise httpx.ReadError("reset by peer")

    async def __aiter__(self) -> Any:
        for chunk in self.some:
            yield chunk
        raise httpx.ReadError("reset by peer")


def event(number: int, kind: str) -> bytes:
    return f'id: {number}\nevent: {kind}\ndata: {{"job": "{JOB}"}}\n\n'.encode()


class TestFlaky:
    @both
    def test_a_post_whose_answer_is_lost_is_sent_again_with_its_key(self, kind: Any) -> None:
        script = Script(
            httpx.ConnectError("refused"), httpx.Response(202, stream=Broken(b'{"id"')),
            problem(503, "storage-busy", **{"retry-after": "2"}), httpx.Response(502, text="<html>"),
            httpx.Response(202, json=job(status="queued")),
        )  # fmt: skip
        queued, pauses = do(kind, script, "submit", "a ball", preset="raw")
        assert queued.id == JOB and len(pauses) == 4 and 2 <= pauses[2] <= 4
        assert len({request.headers["idempotency-key"] for request in script.requests}) == 1
        assert {request.read() for request in script.requests} == {b'{"prompt":"a ball","preset":"raw"}'}

    @both
    def test_patience_ends(self, kind: Any) -> None:
        with pytest.raises(ServerError, match="unreachable: ConnectError: refused") as caught:
            do(kind, Script(httpx.ConnectError("refused")), "job", JOB)
        assert caught.value.status is None
        with pytest.raises(ServerError) as caught:
            do(kind, Script(problem(429, "rate-limited", **{"retry-after": "61"})), "job", JOB)
        assert (caught.value.code, caught.value.retry_after) == ("rate-limited", 61)

    def test_pauses_grow_and_stay_within_patience(self) -> None:
        script = Script(problem(503, "queue-full", **{"retry-after": "0"}))
        pauses: list[float] = []
        client = Client("http://flaky", transport=httpx.MockTransport(script))
        client.calls.now = lambda: sum(pauses)

        async def pause(seconds: float) -> None:
            pauses.append(seconds)

        client.calls.wire.pause = pause  # type: ignore[method-assign]
        with pytest.raises(ServerError, match="queue-full"):
            client.submit("a ball")
        assert 40 < sum(pauses) <= 60 and pauses[0] <= 0.25 and max(pauses) <= 8 and len(script.requests) < 20

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (problem(503, "model-unavailable"), "model-unavailable"),
            (problem(422, "invalid-request", **{"retry-after": "1"}), "invalid-request"),
            (problem(500, "internal-error"), "internal-error"),
            (httpx.Response(404, text="<h1>nginx"), "http-404"),
            (httpx.Response(307, headers={"location": "http://elsewhere"}), "http-307"),
        ],
    )
    def test_what_does_not_pass_is_raised_at_once(self, answer: httpx.Response, code: str) -> None:
        script = Script(answer)
        with pytest.raises(ServerError) as caught:
            do(Client, script, "submit", "a ball")
        assert (caught.value.code, len(script.requests)) == (code, 1)

    @both
    def test_events_go_on_after_a_broken_connection(self, kind: Any) -> None:
        first = Broken(
            b"retry: 1000\n\n" + event(1, "queued"), event(2, "running")[:9], event(2, "running")[9:] + b"id"
        )
        script = Script(
            httpx.Response(200, stream=first), httpx.ConnectError("restarting"), httpx.Response(200, content=b": \n\n"),
            httpx.Response(200, content=event(3, "stage") + event(4, "succeeded")),
        )  # fmt: skip
        events, pauses = do(kind, script, "progress", JOB)
        assert [each.number for each in events] == [1, 2, 3, 4] and len(pauses) == 3
        assert [request.headers["last-event-id"] for request in script.requests] == ["0", "2", "2", "2"]

    @both
    def test_a_stream_that_is_left_is_closed(self, kind: Any) -> None:
        answer = httpx.Response(200, stream=Broken(event(1, "queued"), event(2, "running")))
        client = kind("http://flaky", transport=httpx.MockTransport(lambda _: answer))
        if kind is Client:
            with closing(client.progress(JOB)) as events:
                assert next(events).number == 1
        else:

            async def leave() -> None:
                async with aclosing(client.progress(JOB)) as events:
                    assert (await anext(events)).number == 1

            asyncio.run(leave())
        assert answer.is_closed

    @both
    def test_a_download_is_whole_or_not_there(self, kind: Any, tmp_path: Path) -> None:
        script = Script(httpx.Response(200, stream=Broken(GLB[:5])), httpx.Response(200, content=GLB))
        (path,), _ = do(kind, script, "download", Job.read(job()), tmp_path)
        assert path.read_bytes() == GLB and list(tmp_path.iterdir()) == [path]
        script = Script(httpx.Response(200, content=b"something else"))
        with pytest.raises(ServerError, match="bad-download"):
            do(kind, script, "download", Job.read(job()), tmp_path / "other")
        assert not list((tmp_path / "other").iterdir())

    @pytest.mark.parametrize("name", ["../a.glb", "/tmp/a.glb", "..", ".bashrc", ""])
    def test_a_name_that_leads_elsewhere_is_not_written(self, name: str, tmp_path: Path) -> None:
        told = job()
        told["files"][0]["name"] = name
        with pytest.raises(ServerError, match="bad-file-name"):
            do(Client, Script(httpx.Response(200, content=GLB)), "download", Job.read(told), tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_job_without_files_is_not_downloaded(self, tmp_path: Path) -> None:
        with pytest.raises(ServerError, match=f"job {JOB} is expired"):
            do(Client, Script(httpx.ConnectError("")), "download", Job.read(job(status="expired")), tmp_path)

    @both
    def test_pages_follow_each_other(self, kind: Any) -> None:
        def pages(request: httpx.Request) -> httpx.Response:
            first = int(request.url.params.get("cursor", 250))
            ids = range(first - 1, max(-1, first - 1 - int(request.url.params["limit"])), -1)
            jobs = [job(id=str(number)) for number in ids]
            return httpx.Response(200, json={"jobs": jobs, "next": str(ids[-1]) if ids[-1] else None})

        for limit, count in ((None, 250), (130, 130), (0, 0)):
            found, _ = do(kind, pages, "jobs", "succeeded", limit)
            assert [each.id for each in found] == [str(249 - number) for number in range(count)]

    def test_members_of_a_later_version_are_left_out(self) -> None:
        later = job(news={"a": 1})
        later["files"][0]["score"] = 1
        read = Job.read(json.loads(json.dumps(later)))
        assert read.files[0].name == "a.glb" and read.raw["news"] == {"a": 1} and read.eta_seconds is None

    def test_a_server_that_does_not_hold_answers_back_is_not_flooded(self) -> None:
        script = Script(*[httpx.Response(200, json=job(status="running"))] * 5, httpx.Response(200, json=job()))
        done, pauses = do(Client, script, "wait", JOB)
        assert done.status == "succeeded" and pauses == [1.0] * 5

    def test_the_key_is_sent_and_never_shown(self) -> None:
        script = Script(httpx.Response(200, json=job()))
        with Client("http://flaky", "sdk_secret", transport=httpx.MockTransport(script)) as client:
            client.job(JOB)
            assert "secret" not in repr(client)
        assert script.requests[0].headers["authorization"] == "Bearer sdk_secret"

    @pytest.mark.parametrize(("base", "code"), [("localhost:8000", "bad-address"), ("ftp://a", "bad-address")])
    def test_an_address_that_is_none_is_named(self, base: str, code: str) -> None:
        with pytest.raises(ServerError, match=re.escape("http://127.0.0.1:8000")) as caught:
            Client(base).job(JOB)
        assert caught.value.code == code
