"""A disk that is nearly full: nothing more is accepted, until there is room again."""

import time
from pathlib import Path

import pytest

from scaledreamer.server import disk
from scaledreamer.server.disk import Disk, free_bytes
from scaledreamer.server.problems import ProblemError
from tests.server.running import finished, running
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


def test_the_fullest_disk_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    room = {Path("/a"): 100 * 2**20, Path("/b"): 10 * 2**20}
    monkeypatch.setattr(disk, "free_bytes", room.__getitem__)
    Disk([Path("/a")], 50 * 2**20).check()
    with pytest.raises(ProblemError, match="10 MiB are free, and 50 must stay so"):
        Disk([Path("/a"), Path("/b")], 50 * 2**20).check()


def test_it_is_looked_at_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    now = [0.0]

    def free(folder: Path) -> int:
        looks.append(folder)
        return 10

    monkeypatch.setattr(disk, "free_bytes", free)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = Disk([Path("/a")], 5)
    for moment in (0.0, 0.5, 0.99, 1.0, 1.5, 2.1):
        now[0] = moment
        one.check()
    assert len(looks) == 3


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path) < 2**60


def test_a_server_says_so_and_comes_back_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [2**40]
    monkeypatch.setattr(disk, "free_bytes", lambda _: room[0])
    monkeypatch.setattr(disk, "EVERY", 0.0)
    with running(tmp_path) as client:
        job = client.post("/generate", json={"prompt": "ball", **SMALL}).json()
        waits = client.post("/v1/jobs", json={"prompt": "slow ball", **SMALL}).headers["location"]
        room[0] = 2**20
        for path in ("/generate", "/v1/jobs", job["links"]["exports"]):
            body = {"formats": ["stl"]} if "exports" in path else {"prompt": "another", **SMALL}
            answer = client.post(path, json=body)
            assert "1 MiB are free" in check_problem(answer, 507, "storage-full")["detail"]
            assert answer.headers["retry-after"]
        check_problem(client.get("/health/ready"), 507, "storage-full")
        assert client.get("/health/live").status_code == 200
        assert client.get(job["files"][0]["url"]).status_code == 200, "what is there is served"
        assert finished(client, waits)["status"] == "succeeded", "what was accepted is done"
        assert client.delete(job["links"]["self"]).status_code == 204, "which makes room"
        room[0] = 2**40
        assert client.get("/health/ready").status_code == 200
        assert client.post("/generate", json={"prompt": "another", **SMALL}).status_code == 200
