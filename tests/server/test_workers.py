"""Workers die, hang and fail to load; the server stays."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.fakes import SLOW, DiesOnce, missing, triangles
from tests.server.running import finished, running, wait_ready
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of its own, whose worker starts quickly."""
    with running(tmp_path_factory.mktemp("crashed"), triangles) as client:
        yield client


def test_a_crash_fails_its_own_job_and_the_next_one_works(client: httpx.Client) -> None:
    crash = client.post("/v1/jobs", json={"prompt": "crash", **SMALL})
    after = client.post("/v1/jobs", json={"prompt": "ball", **SMALL})
    job = finished(client, crash.headers["location"])
    assert job["status"] == "failed" and job["error"]["code"] == "worker-crashed"  # type: ignore[index]
    assert finished(client, after.headers["location"])["status"] == "succeeded"
    wait_ready(client)


def test_a_crash_is_a_500_at_the_synchronous_door(client: httpx.Client) -> None:
    problem = check_problem(client.post("/generate", json={"prompt": "crash", **SMALL}), 500, "worker-crashed")
    assert problem["links"]["job"].endswith(problem["job"])
    assert check_problem(client.get("/health/ready"), 503, "not-ready")
    wait_ready(client)


def test_probes_answer_while_the_model_works(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json={"prompt": "slow ball", **SMALL}).headers["location"]
    delays = []
    while client.get(job).json()["status"] in ("queued", "running"):
        begin = time.perf_counter()
        assert client.get("/health/live").json() == {"status": "ok"}
        delays.append(time.perf_counter() - begin)
        time.sleep(0.02)
    assert len(delays) > 5 and sorted(delays)[len(delays) // 2] < SLOW / 5


def test_a_full_queue_is_a_503_and_a_job_that_hangs_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, triangles, max_queued=1, job_limit=SLOW / 2) as client:
        first = client.post("/v1/jobs", json={"prompt": "slow ball", **SMALL}).headers["location"]
        while client.get(first).json()["status"] == "queued":
            time.sleep(0.01)
        second = client.post("/v1/jobs", json={"prompt": "ball", **SMALL})
        assert second.status_code == 202 and second.json()["queue_position"] == 1
        full = client.post("/generate", json={"prompt": "ball", **SMALL})
        assert "1 jobs wait" in check_problem(full, 503, "queue-full")["detail"] and full.headers["retry-after"]
        job = finished(client, first)
        assert job["error"]["code"] == "deadline-exceeded"  # type: ignore[index]
        assert finished(client, second.headers["location"])["status"] == "succeeded"
        assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == [second.json()["id"]]


def test_a_model_that_is_missing_makes_every_door_say_so(tmp_path: Path) -> None:
    with running(tmp_path, missing, ready=False) as client:
        check_problem(client.get("/health/ready"), 503, "not-ready")
        problem = check_problem(client.post("/generate", json={"prompt": "ball"}), 503, "model-unavailable")
        assert "barrel.safetensors" in problem["detail"]
        check_problem(client.get("/health/ready"), 503, "model-unavailable")
        check_problem(client.post("/v1/jobs", json={"prompt": "ball"}), 503, "model-unavailable")
        assert client.get("/health/live").status_code == 200


@pytest.mark.filterwarnings("default")
def test_a_worker_that_dies_while_it_loads_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, DiesOnce(tmp_path / "mark")) as client:
        assert client.post("/generate", json={"prompt": "ball", **SMALL}).status_code == 200


def test_two_workers_share_the_queue(tmp_path: Path) -> None:
    with running(tmp_path, triangles, workers=2) as client:
        deadline = time.monotonic() + 60
        while True:  # until both have loaded
            jobs = [client.post("/v1/jobs", json={"prompt": "slow ball", **SMALL}).headers["location"] for _ in "ab"]
            time.sleep(SLOW / 3)
            states = [client.get(job).json()["status"] for job in jobs]
            for job in jobs:
                assert finished(client, job)["status"] == "succeeded"
            if states == ["running", "running"]:
                return
            assert time.monotonic() < deadline
