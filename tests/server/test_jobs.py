"""Jobs as clients live with them: lists, waiting, cancel, delete, events, exports, retries, restarts, deaths."""

import asyncio
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server import job_routes
from scaledreamer.server.database import FILE
from scaledreamer.server.ledger import Ledger
from tests.server.fakes import SLOW, Diary, FakeFinishing, FakeGenerating
from tests.server.running import finished, running, wait_ready
from tests.server.test_requests import check_problem
from tests.server.test_serve import program
from tests.server.test_store import WANTED

SMALL = {"resolution": 32, "formats": ["glb"]}
Body = dict[str, Any]


@dataclass
class Served:
    """A server, what its processes were asked for, and where it keeps things."""

    client: httpx.Client
    fields: Diary
    meshes: Diary
    folder: Path

    def start(self, prompt: str, **fields: Any) -> Body:
        answer = self.client.post("/v1/jobs", json={"prompt": prompt, **SMALL, **fields})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def done(self, job: Body) -> Body:
        ended = finished(self.client, job["links"]["self"])
        assert ended["status"] == "succeeded", ended["error"]
        return ended

    def make(self, prompt: str, **fields: Any) -> Body:
        return self.done(self.start(prompt, **fields))

    def kinds(self, job: Body) -> list[str]:
        return [event["event"] for event in parse(self.client.get(job["links"]["events"]).text)]


@contextmanager
def served(folder: Path, **changes: Any) -> Iterator[Served]:
    fields, meshes = Diary(folder / "fields.txt", FakeGenerating), Diary(folder / "meshes.txt", FakeFinishing)
    with running(folder / "data", fields, finishing=meshes, **changes) as client:
        yield Served(client, fields, meshes, folder / "data")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("jobs")) as server:
        yield server


def parse(stream: str) -> list[dict[str, str]]:
    """Server-sent events; comments have no id."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in stream.strip().split("\n\n")]
    return [block for block in blocks if "id" in block]


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestLists:
    def test_pages_hold_every_job_once_newest_first(self, server: Served) -> None:
        jobs = [server.make(f"a listed ball {number}")["id"] for number in range(5)]
        jobs += [server.client.post("/generate", json={"prompt": "nothing listed"}).json()["job"]]
        seen, cursor, pages = [], None, 0
        while pages < 3:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = server.client.get("/v1/jobs", params=params).json()
            seen += [job["id"] for job in page["jobs"]]
            cursor, pages = page["next"], pages + 1
        assert seen == jobs[::-1]
        failed = server.client.get("/v1/jobs", params={"status": "failed"}).json()["jobs"]
        assert failed[0]["id"] == jobs[-1] and {job["status"] for job in failed} == {"failed"}
        assert server.client.get("/v1/jobs", params={"limit": 100}).json()["next"] is None

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"cursor": "x"}, "cursor"),
            ({"limit": 0}, "limit"),
            ({"limit": 101}, "limit"),
            ({"status": "odd"}, "status"),
        ],
    )
    def test_a_page_that_cannot_be_is_refused_by_name(self, server: Served, params: Body, field: str) -> None:
        problem = check_problem(server.client.get("/v1/jobs", params=params), 422, "invalid-request")
        assert field in problem["errors"][0]["field"]


class TestWaiting:
    def test_prefer_waits_for_the_end_and_no_longer_than_asked(self, server: Served) -> None:
        job = server.start("a slow ball to wait for")["links"]["self"]
        early = server.client.get(job, headers={"prefer": "wait=0.2"})
        assert early.json()["status"] in ("queued", "running") and early.elapsed.total_seconds() >= 0.2
        late = server.client.get(job, headers={"prefer": "wait=30"})
        assert late.json()["status"] == "succeeded" and late.elapsed.total_seconds() < 2 * SLOW + 5

    def test_nobody_who_has_waited_is_remembered(self, tmp_path: Path) -> None:
        async def wait() -> int:
            ledger = Ledger()
            await ledger.open(tmp_path / "jobs.db")
            jobs = [(await ledger.ask(ledger.store.create, WANTED))[0].id for _ in range(5)]
            waiting = [asyncio.create_task(ledger.wait(job, 30)) for job in jobs]
            await asyncio.sleep(0.05)
            for job in jobs:
                await ledger.ask(ledger.store.cancel, job)
                ledger.notify([job])
            assert {record.status for record in await asyncio.gather(*waiting) if record} == {"canceled"}
            assert len(await ledger.events(jobs[0], 1, 30)) == 1 and not await ledger.events(jobs[0], 2, 0.01)
            await ledger.close()
            del waiting
            return len(ledger.changed)

        assert asyncio.run(wait()) == 0


class TestCancel:
    def test_a_queued_job_never_runs(self, server: Served) -> None:
        ahead = [server.start(f"a slow ball ahead {number}") for number in range(3)]
        job = server.start("a ball that must not be made")
        began = time.monotonic()
        canceled = server.client.post(job["links"]["cancel"]).json()
        assert canceled["status"] == "canceled" and time.monotonic() - began < 2
        for each in ahead:
            server.client.post(each["links"]["cancel"])
        server.make("a ball after the canceled")
        assert not server.fields.read("must not be made")
        assert server.kinds(job) == ["queued", "canceled"]

    def test_a_running_job_ends_at_once_and_its_mesh_process_is_free_again(self, server: Served) -> None:
        job = server.start("hang while meshing")
        until(lambda: server.meshes.read("hang while meshing"))
        began = time.monotonic()
        assert server.client.post(job["links"]["cancel"]).json()["status"] == "canceled"
        assert time.monotonic() - began < 2
        server.make("a ball after the stuck one")
        assert server.kinds(job)[-1] == "canceled"
        until(lambda: not list((server.folder / "work").iterdir()))

    def test_others_who_want_the_same_still_get_it(self, server: Served) -> None:
        first, second = server.start("a slow ball of two"), server.start("a slow ball of two")
        assert server.client.post(first["links"]["cancel"]).json()["status"] == "canceled"
        server.done(second)

    def test_the_same_request_after_a_cancel_is_made_anew(self, server: Served) -> None:
        for _ in range(3):
            job = server.start("a slow ball again and again while meshing")
            until(lambda job=job: server.client.get(job["links"]["self"]).json()["status"] == "running")
            server.client.post(job["links"]["cancel"])
        server.make("a slow ball again and again while meshing")

    def test_a_job_that_has_ended_stays_as_it_is(self, server: Served) -> None:
        job = server.make("a ball that is done")
        for _ in range(2):
            assert server.client.post(job["links"]["cancel"]).json() == job


class TestDelete:
    def test_nothing_is_left_of_a_prompt(self, tmp_path: Path) -> None:
        with served(tmp_path) as server:
            words = ["a secret ball", "nothing secret", "slow secret while meshing", "hang secret while meshing"]
            jobs = [server.start(word) for word in words]
            for job in jobs[:3]:
                finished(server.client, job["links"]["self"])
            until(lambda: server.meshes.read("hang secret"))
            url = server.client.get(jobs[0]["links"]["self"]).json()["files"][0]["url"]
            for job in jobs:
                assert server.client.delete(job["links"]["self"]).status_code == 204
                check_problem(server.client.get(job["links"]["self"]), 404, "job-not-found")
                check_problem(server.client.delete(job["links"]["self"]), 404, "job-not-found")
            check_problem(server.client.get(url), 404, "job-not-found")
            rows = sqlite3.connect(server.folder / FILE)
            for table in ("jobs", "events", "artifacts", "idempotency"):
                assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            rows.close()
            until(lambda: not [*files_with(server.folder / "work"), *files_with(server.folder / "fields")])
            assert not list((server.folder / "artifacts").iterdir())
        assert not list(files_with(tmp_path / "data", b"secret")), "not even in free pages of the database"

    def test_what_another_job_shows_stays(self, server: Served) -> None:
        first, second = server.make("a shared ball"), server.make("a shared ball")
        server.client.delete(first["links"]["self"])
        assert server.client.get(second["files"][0]["url"]).status_code == 200
        export = server.client.post(second["links"]["exports"], json={"formats": ["stl"]}).json()
        server.done(export)
        assert len(server.fields.read("a shared ball")) == 1

    def test_a_job_deleted_while_its_field_is_made_leaves_none(self, server: Served) -> None:
        before = set(files_with(server.folder / "fields"))
        job = server.start("a slow ball deleted on the way")
        until(lambda: server.fields.read("deleted on the way"))
        assert server.client.delete(job["links"]["self"]).status_code == 204
        server.make("a ball after the deleted one")
        until(lambda: len(set(files_with(server.folder / "fields")) - before) == 1)
        assert not list(files_with(server.folder / "fields", b"deleted on the way"))


def files_with(folder: Path, word: bytes = b"") -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes())


class TestEvents:
    def test_they_tell_the_story_and_end(self, server: Served) -> None:
        job = server.start("a slow ball with events while meshing")
        answer = server.client.get(job["links"]["events"])
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: 1000\n\n")
        events = parse(answer.text)
        assert [event["id"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
        kinds = [event["event"] for event in events]
        assert kinds[:2] == ["queued", "running"] and kinds[-1] == "succeeded" and set(kinds[2:-1]) == {"stage"}
        data = [json.loads(event["data"]) for event in events]
        assert {each["job"] for each in data} == {job["id"]}
        progress = [each["progress"] for each in data if "progress" in each]
        assert progress == sorted(progress) and {"extract", "export"} <= {each.get("stage") for each in data}

    def test_they_go_on_after_the_last_one_seen(self, server: Served) -> None:
        job = server.make("a ball whose stream broke")
        events = parse(server.client.get(job["links"]["events"]).text)
        rest = parse(server.client.get(job["links"]["events"], headers={"last-event-id": "2"}).text)
        assert rest == events[2:]
        assert not parse(server.client.get(job["links"]["events"], headers={"last-event-id": "99"}).text)

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 10, "²"])
    def test_a_number_that_is_none_is_refused(self, server: Served, last: str) -> None:
        job = server.make("a ball whose stream broke")
        headers = {"last-event-id": last.encode("latin-1")}
        check_problem(server.client.get(job["links"]["events"], headers=headers), 422, "invalid-request")

    def test_a_silent_stream_beats(self, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job_routes, "HEARTBEAT", SLOW / 10)
        text = server.client.get(server.start("a slow ball in silence")["links"]["events"]).text
        assert 3 <= text.count("\n: \n") <= 12 and text.rstrip().rpartition("event: ")[2].startswith("succeeded")

    def test_a_listener_that_leaves_is_no_trouble(self, server: Served) -> None:
        job = server.start("a slow ball that is left")
        with server.client.stream("GET", job["links"]["events"]) as answer:
            assert next(answer.iter_lines()) == "retry: 1000"
        server.done(job)

    def test_a_key_has_so_many_open_and_no_more(self, tmp_path: Path) -> None:
        with served(tmp_path, max_streams=1) as server:
            job = server.start("a slow ball that is watched")
            address = job["links"]["events"]
            with server.client.stream("GET", address) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "retry: 1000"
                problem = check_problem(server.client.get(address), 429, "too-many-in-flight")
                assert "1 streams" in problem["detail"]
            server.done(job)
            assert server.kinds(job)[-1] == "succeeded", "the stream that was left counts no more"


class TestExports:
    def test_another_format_comes_from_the_kept_field(self, server: Served) -> None:
        job = server.make("a ball to export", size=2.0)
        answer = server.client.post(job["links"]["exports"], json={"formats": ["stl", "obj"], "lods": 0})
        export = server.done(answer.json())
        assert [file["format"] for file in export["files"]] == ["stl", "obj", "zip"]
        assert export["links"]["parent"] == job["links"]["self"] and export["prompt"] == job["prompt"]
        assert export["request"] == job["request"] | {"formats": ["stl", "obj"], "lods": 0}
        assert len(server.fields.read("a ball to export")) == 1 and len(server.meshes.read("a ball to export")) == 2

    def test_a_preset_begins_anew_and_keeps_the_prompt(self, server: Served) -> None:
        job = server.make("a ball for a phone", faces=900)
        export = server.client.post(job["links"]["exports"], json={"preset": "mobile"}).json()
        assert export["request"]["preset"] == "mobile" and export["request"]["faces"] != 900
        assert export["request"]["formats"] == ["glb", "obj"] and server.done(export)

    def test_the_same_export_is_a_file_that_is_there(self, server: Served) -> None:
        job = server.make("a ball exported twice")
        exports = [
            server.done(server.client.post(job["links"]["exports"], json={"formats": ["ply"]}).json()) for _ in range(2)
        ]
        assert exports[0]["id"] != exports[1]["id"] and len(server.meshes.read("a ball exported twice")) == 2
        assert [file["sha256"] for file in exports[0]["files"]] == [file["sha256"] for file in exports[1]["files"]]

    def test_a_field_that_is_gone_is_made_again(self, server: Served) -> None:
        job = server.make("a ball whose field was removed")
        for path in files_with(server.folder / "fields", b"whose field was removed"):
            path.unlink()
        server.done(server.client.post(job["links"]["exports"], json={"formats": ["ply"]}).json())
        assert len(server.fields.read("whose field was removed")) == 2

    def test_a_prompt_is_no_part_of_an_export(self, server: Served) -> None:
        job = server.make("a ball to export")
        answer = server.client.post(job["links"]["exports"], json={"prompt": "another"})
        assert "prompt" in check_problem(answer, 422, "invalid-request")["detail"]

    def test_no_job_no_export(self, server: Served) -> None:
        answer = server.client.post("/v1/jobs/01900000-0000-7000-8000-000000000000/exports", json={})
        check_problem(answer, 404, "job-not-found")


class TestBlend:
    def test_two_prompts_are_one_field_and_each_weight_another(self, server: Served) -> None:
        half = {"prompt": "a blended cube", "weight": 0.5}
        jobs = [server.make("a blended ball", blend=blend) for blend in (half, half | {"weight": 0.25}, half, None)]
        assert [job["request"]["blend"] for job in jobs] == [["a blended cube", w] for w in (0.5, 0.25, 0.5)] + [None]
        asked = [entry["blend"] for entry in server.fields.read("a blended ball")]
        assert asked == [["a blended cube", 0.5], ["a blended cube", 0.25], None]

    def test_the_weight_is_half_where_nothing_is_said(self, server: Served) -> None:
        assert server.start("a ball", blend={"prompt": "a cube"})["request"]["blend"] == ["a cube", 0.5]


class TestIdempotency:
    def test_the_same_key_is_the_same_job_and_another_body_is_refused(self, server: Served) -> None:
        def post(door: str, **body: Any) -> httpx.Response:
            return server.client.post(door, json={**SMALL, **body}, headers={"idempotency-key": '"one"'})

        first = post("/v1/jobs", prompt="a ball for a key")
        server.done(first.json())
        again = post("/v1/jobs", prompt="a ball for a key")
        assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
        problem = check_problem(post("/v1/jobs", prompt="another ball"), 422, "idempotency-key-reused")
        assert first.json()["id"] in problem["detail"]
        check_problem(post("/generate", prompt="a ball for a key"), 422, "idempotency-key-reused")
        server.client.delete(first.json()["links"]["self"])
        assert post("/v1/jobs", prompt="another ball").json()["id"] != first.json()["id"], "a deleted job frees its key"

    @pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", "\xe9", 'a"b'])
    def test_a_key_that_is_none_is_refused(self, server: Served, key: str) -> None:
        headers = {"idempotency-key": key.encode("latin-1")}
        answer = server.client.post("/v1/jobs", json={"prompt": "a ball", **SMALL}, headers=headers)
        assert "UUID" in check_problem(answer, 422, "invalid-request")["detail"]

    def test_two_at_once_with_one_key_are_one_job(self, server: Served) -> None:
        def post() -> None:
            with httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=60) as client:
                body = {"prompt": "a slow ball for two posts", **SMALL}
                answer = client.post("/generate", json=body, headers={"idempotency-key": "two"})
                answers.append(answer.json()["id"])

        answers: list[str] = []
        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4 and len(set(answers)) == 1


def test_identical_requests_in_flight_are_computed_once(server: Served) -> None:
    jobs = [server.start("a slow ball for five") for _ in range(5)]
    other = server.start("a slow ball for five", formats=["stl"])
    sums = [{file["sha256"] for file in server.done(job)["files"]} for job in jobs]
    server.done(other)
    assert len({job["id"] for job in jobs}) == 5 and all(each == sums[0] for each in sums)
    assert len(server.fields.read("for five")) == 1 and len(server.meshes.read("for five")) == 2


class TestRestart:
    def test_a_server_that_stops_goes_on_where_it_was(self, tmp_path: Path) -> None:
        with served(tmp_path) as server:
            done = server.make("a ball before")
            waiting = [server.start(f"a slow ball {number}") for number in range(3)]
            gone = server.start("a ball nobody wants")
            server.client.post(gone["links"]["cancel"])
        with served(tmp_path) as server:

            def again(job: Body) -> Body:
                return dict(server.client.get(f"/v1/jobs/{job['id']}").json())

            assert server.client.get(again(done)["files"][0]["url"]).content.startswith(b"glTF")
            ended = [server.done(again(job)) for job in waiting]
            assert [job["finished"] for job in ended] == sorted(job["finished"] for job in ended)
            assert again(gone)["status"] == "canceled" and not server.fields.read("nobody wants")
            assert server.make("a ball before")["status"] == "succeeded" and len(server.fields.read("before")) == 1

    def test_a_server_that_is_killed_loses_and_doubles_nothing(self, tmp_path: Path) -> None:
        with program(tmp_path) as (process, address), httpx.Client(base_url=address, trust_env=False) as client:
            wait_ready(client)
            headers = {"idempotency-key": "before-the-kill"}
            posts = [{"prompt": f"a slow ball {number}", **SMALL} for number in range(3)]
            jobs = [client.post("/v1/jobs", json=post).json()["id"] for post in posts[:2]]
            jobs += [client.post("/v1/jobs", json=posts[2], headers=headers).json()["id"]]
            until(lambda: client.get(f"/v1/jobs/{jobs[0]}").json()["status"] == "running")
            process.send_signal(signal.SIGKILL)
            process.wait()
        with program(tmp_path) as (process, address), httpx.Client(base_url=address, trust_env=False) as client:
            assert client.post("/v1/jobs", json=posts[2], headers=headers).json()["id"] == jobs[2]
            ended = [finished(client, f"/v1/jobs/{job}") for job in jobs]
            assert [job["status"] for job in ended] == ["succeeded"] * 3
            kinds = [event["event"] for event in parse(client.get(f"/v1/jobs/{jobs[0]}/events").text)]
            assert kinds.count("running") == 2 and kinds.count("succeeded") == 1
            assert len(client.get("/v1/jobs").json()["jobs"]) == 3


class TestDeaths:
    @pytest.mark.parametrize("where", ["", " while meshing"])
    def test_a_process_that_is_killed_costs_no_job(self, server: Served, where: str) -> None:
        diary = server.meshes if where else server.fields
        job = server.start(f"a slow ball that is killed{where}")
        after = [server.start(f"a ball behind it {number}{where}") for number in range(2)]
        until(lambda: diary.read(job["prompt"]))
        os.kill(diary.read(job["prompt"])[0]["pid"], signal.SIGKILL)
        server.done(job)
        for each in after:
            server.done(each)
        kinds = server.kinds(job)
        assert kinds.count("queued") == kinds.count("running") == 2 and kinds.count("succeeded") == 1
        assert len(diary.read(job["prompt"])) == 2
        wait_ready(server.client)

    def test_a_process_that_is_killed_while_idle_costs_nothing(self, server: Served) -> None:
        server.make("a ball before the quiet death")
        for diary in (server.fields, server.meshes):
            os.kill(diary.read("quiet death")[-1]["pid"], signal.SIGKILL)
        server.make("a ball after the quiet death")
        wait_ready(server.client)
