"""Jobs as clients live with them: lists, waiting, cancel, retries."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server.ledger import Ledger
from tests.server.fakes import SLOW
from tests.server.served import SMALL, Body, Served, until
from tests.server.test_requests import check_problem
from tests.server.test_store import WANTED


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
