"""How often a key may start jobs, and how many may be on their way."""

from pathlib import Path

import httpx
import pytest

from scaledreamer.server.limits import STARTS, Bucket
from tests.server.fakes import SLOW
from tests.server.running import finished, running
from tests.server.test_keys import new_key
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


def start(client: httpx.Client, prompt: str, **headers: str) -> httpx.Response:
    return client.post("/v1/jobs", json={"prompt": prompt, **SMALL}, headers=headers)


class TestBucket:
    def test_a_burst_then_the_rate(self) -> None:
        bucket = Bucket(rate=2, burst=3, now=0)
        assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
        assert bucket.take(0.5) and not bucket.take(0.5)
        assert [bucket.take(100) for _ in range(4)] == [True, True, True, False], "it holds no more than a burst"

    def test_a_clock_that_goes_back_gives_nothing(self) -> None:
        bucket = Bucket(rate=1, burst=1, now=10)
        assert bucket.take(10) and not bucket.take(5) and not bucket.take(5.9) and bucket.take(6.1)

    def test_fields_say_what_is_left_and_when_it_is_full(self) -> None:
        bucket = Bucket(rate=0.5, burst=4, now=0)
        assert bucket.fields() == {"ratelimit-policy": '"start";q=4;w=8', "ratelimit": '"start";r=4;t=0'}
        bucket.take(0)
        assert bucket.fields()["ratelimit"] == '"start";r=3;t=2'

    def test_the_pause_is_as_long_as_it_takes(self) -> None:
        bucket = Bucket(rate=0.25, burst=1, now=0)
        bucket.take(0)
        assert not bucket.take(1) and bucket.pause == 3
        assert bucket.take(1 + bucket.pause)


@pytest.mark.parametrize("path", ["/generate", "/v1/jobs", "/v1/jobs/x/exports"])
def test_what_starts_jobs_is_counted(path: str) -> None:
    assert STARTS.fullmatch(path)


@pytest.mark.parametrize("path", ["/v1/jobs/x/cancel", "/v1/jobs/x", "/generate/", "/v1/jobs/x/y/exports"])
def test_nothing_else_is(path: str) -> None:
    assert not STARTS.fullmatch(path)


def test_each_key_has_its_own_rate(tmp_path: Path) -> None:
    ann, bob = new_key(tmp_path, "ann"), new_key(tmp_path, "bob")
    with running(tmp_path, rate=0.01, burst=3) as client:
        first = start(client, "ball", **ann)
        assert first.status_code == 202
        assert (first.headers["ratelimit-policy"], first.headers["ratelimit"]) == (
            '"start";q=3;w=300', '"start";r=2;t=100',
        )  # fmt: skip
        assert client.post("/generate", content=b"{", headers=ann).status_code == 400, "what is refused counts too"
        job = first.json()["links"]["self"]
        assert finished(client, job, headers=ann)["status"] == "succeeded"
        assert client.post(f"{job}/exports", json={"formats": ["stl"]}, headers=ann).status_code == 202
        for path in ("/generate", "/v1/jobs", f"{job}/exports"):
            answer = client.post(path, json={"prompt": "ball"}, headers=ann)
            check_problem(answer, 429, "rate-limited")
            assert 90 < int(answer.headers["retry-after"]) <= 100
            assert answer.headers["ratelimit"].startswith('"start";r=0;')
        looked = client.get(job, headers=ann)
        assert looked.status_code == 200 and "ratelimit" not in looked.headers
        assert client.post(f"{job}/cancel", headers=ann).status_code == 200
        assert start(client, "ball", **bob).status_code == 202


def test_without_keys_the_server_has_one_rate(tmp_path: Path) -> None:
    with running(tmp_path, rate=0.01, burst=1) as client:
        assert start(client, "ball").status_code == 202
        assert start(client, "ball", **{"x-api-key": "of nobody"}).status_code == 429


def test_unfinished_jobs_of_a_key_are_bounded(tmp_path: Path) -> None:
    ann, bob = new_key(tmp_path, "ann"), new_key(tmp_path, "bob")
    with running(tmp_path, max_unfinished=2) as client:
        kept = start(client, "ball", **ann)
        finished(client, kept.headers["location"], headers=ann)
        slow = [start(client, f"slow ball {number}", **ann, **{"idempotency-key": str(number)}) for number in "ab"]
        assert [answer.status_code for answer in slow] == [202, 202]
        full = start(client, "another ball", **ann)
        assert "2 is the limit" in check_problem(full, 429, "too-many-in-flight")["detail"]
        assert full.headers["retry-after"] and slow[1].elapsed.total_seconds() < SLOW
        assert start(client, "slow ball a", **ann).status_code == 429, "a job is a job, also of work that runs"
        assert start(client, "slow ball a", **ann, **{"idempotency-key": "a"}).json()["id"] == slow[0].json()["id"]
        assert start(client, "ball", **ann).json()["status"] == "succeeded", "what is kept is answered"
        assert start(client, "another ball", **bob).status_code == 202
        assert client.post(f"{slow[1].headers['location']}/cancel", headers=ann).status_code == 200
        assert start(client, "another ball", **ann).status_code == 202
