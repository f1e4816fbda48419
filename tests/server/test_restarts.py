"""Servers that stop or are killed, and processes that die: no job is lost or made twice."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.server.running import finished, wait_ready
from tests.server.served import SMALL, Body, Served, parse, served, until
from tests.server.test_serve import program


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
