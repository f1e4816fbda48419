"""Full and read-only disks, a locked store, a clock that jumps: a clear error, and afterwards all goes on by itself."""

import errno
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server import database, ledger, store
from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.database import FILE
from scaledreamer.server.store import JobStore
from tests.server.running import finished, running
from tests.server.served import parse, until
from tests.server.test_requests import check_problem
from tests.server.test_serve import command, environment

SMALL = {"resolution": 32, "formats": ["glb"]}
DAY = 86400.0
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection of a job store, as it is opened; a lock is waited for only shortly."""
    opened: list[sqlite3.Connection] = []

    def connect(path: Path) -> sqlite3.Connection:
        opened.append(database.connect(path))
        return opened[-1]

    monkeypatch.setattr(store, "connect", connect)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    return opened


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own, in memory."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """The file that takes all the room a disk has."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


def start(client: httpx.Client, prompt: str) -> str:
    answer = client.post("/v1/jobs", json={"prompt": prompt, **SMALL})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def make(client: httpx.Client, prompt: str) -> dict[str, Any]:
    job = finished(client, start(client, prompt))
    assert job["status"] == "succeeded", job["error"]
    return job


def check_store_fails(client: httpx.Client, waiting: str, status: int, code: str) -> None:
    """While nothing can be noted: what needs that says so at once, and what needs it not goes on."""
    for path in ("/generate", "/v1/jobs", f"{waiting}/cancel"):
        began = time.monotonic()
        check_problem(client.post(path, json={"prompt": "another ball", **SMALL}), status, code)
        assert time.monotonic() - began < 10
    check_problem(client.delete(waiting), status, code)
    assert client.get("/health/live").status_code == client.get("/metrics").status_code == 200
    assert client.get("/v1/jobs").json()["jobs"][0]["id"] in waiting
    assert client.get(waiting).json()["status"] in ("queued", "running")


def check_goes_on(client: httpx.Client, waiting: str) -> None:
    """Afterwards, without a restart: what was accepted ends, what was refused is taken."""
    assert finished(client, waiting)["status"] == "succeeded"
    kinds = [event["event"] for event in parse(client.get(f"{waiting}/events").text)]
    assert kinds[0] == "queued" and kinds.count("running") == kinds.count("succeeded") == 1
    job = make(client, "another ball")
    assert client.get(job["files"][0]["url"]).content.startswith(b"glTF")
    assert len(client.get("/v1/jobs").json()["jobs"]) == 2


class TestFullDisk:
    def test_a_store_that_cannot_grow_is_a_507(self, tmp_path: Path, connections: list[sqlite3.Connection]) -> None:
        with running(tmp_path) as client:
            waiting = start(client, "a slow ball")
            pages = connections[0].execute("PRAGMA page_count").fetchone()[0]
            connections[0].execute(f"PRAGMA max_page_count = {pages}")
            long = "a ball " * 100
            refused = [client.post("/v1/jobs", json={"prompt": f"{long}{k}", **SMALL}) for k in range(50)][-1]
            assert "free some" in check_problem(refused, 507, "storage-full")["detail"]
            assert client.get("/health/live").status_code == 200
            connections[0].execute("PRAGMA max_page_count = 1000000")
            assert finished(client, waiting)["status"] == "succeeded"
            make(client, "another ball")

    def test_a_disk_without_any_room(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "small", "4m") as disk, running(disk, min_free_bytes=0) as client:
            made = make(client, "a ball from before")
            client.delete(made["links"]["self"])
            waiting = start(client, "a slow ball")
            filler = fill(disk)
            for number in range(40):  # the room that the store's files have already is used up
                answer = client.post("/v1/jobs", json={"prompt": f"a ball {number}", **SMALL})
                if answer.status_code != 202:
                    break
            check_problem(answer, 507, "storage-full")
            assert client.get("/health/live").status_code == client.get("/v1/jobs").status_code == 200
            time.sleep(2)  # what has been accepted cannot be done now
            filler.unlink()
            jobs = client.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
            ended = [finished(client, job["links"]["self"]) for job in jobs]
            assert waiting.rpartition("/")[2] in {job["id"] for job in ended}
            for job in ended:
                assert job["status"] == "succeeded" or job["error"]["code"] == "storage-full", job["error"]
            make(client, "a ball from afterwards")
            until(lambda: not list((disk / "work").iterdir()))
            assert not list((disk / "fields").glob(".*"))

    def test_another_disk_for_the_files(self, tmp_path: Path) -> None:
        with (
            small_disk(tmp_path / "files", "64k") as disk,
            running(tmp_path / "data", artifacts=str(disk), min_free_bytes=0) as client,
        ):
            make(client, "a ball from before")
            filler = fill(disk)
            job = finished(client, start(client, "a ball"))
            assert job["status"] == "failed" and job["error"]["code"] == "storage-full"
            assert len(list(disk.iterdir())) == 2 and not list((tmp_path / "data" / "work").iterdir())
            filler.unlink()
            again = make(client, "a ball")
            assert client.get(again["files"][0]["url"]).content == b"glTFa ball32"

    @pytest.mark.parametrize("error", [FULL, OSError(errno.EDQUOT, "quota")])
    def test_files_that_find_no_room_fail_their_job_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
    ) -> None:
        def put(*_: object) -> None:
            raise error

        with running(tmp_path) as client:
            with monkeypatch.context() as patch:
                patch.setattr(Artifacts, "put", put)
                check_problem(client.post("/generate", json={"prompt": "ball", **SMALL}), 507, "storage-full")
            assert not list((tmp_path / "work").iterdir()), "nothing is left of it"
            make(client, "ball")


class TestReadOnly:
    def test_a_store_that_cannot_be_written_is_a_503(
        self, tmp_path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        with running(tmp_path) as client:
            waiting = start(client, "a slow ball")
            until(lambda: client.get(waiting).json()["status"] == "running")
            connections[0].execute("PRAGMA query_only = ON")
            check_store_fails(client, waiting, 503, "storage-busy")
            connections[0].execute("PRAGMA query_only = OFF")
            check_goes_on(client, waiting)

    def test_a_disk_for_files_that_becomes_read_only_fails_jobs_until_it_is_not(self, tmp_path: Path) -> None:
        with (
            small_disk(tmp_path / "files", "1m") as disk,
            running(tmp_path / "data", artifacts=str(disk), min_free_bytes=0) as client,
        ):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            job = finished(client, start(client, "a ball"))
            assert job["error"] == job["error"] | {
                "code": "generation-failed",
                "detail": "cannot write the files: Read-only file system",
            }
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            make(client, "a ball")

    def test_a_store_that_is_none_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text("this is no database" * 100)
        said = refusal(tmp_path)
        assert "cannot use the job store" in said and "file is not a database" in said

    def test_a_read_only_store_is_one_line(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "data", "1m") as disk:
            database.connect(disk / FILE).close()
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            said = refusal(disk)
            assert "cannot write to" in said and "SCALEDREAMER_DATA" in said

    def test_a_store_of_a_newer_version_is_one_line(self, tmp_path: Path) -> None:
        with closing(database.connect(tmp_path / FILE)) as connection:
            connection.execute("PRAGMA user_version = 1000")
        assert "update scaledreamer" in refusal(tmp_path)


def refusal(data: Path) -> str:
    """The line with which `serve` does not start."""
    done = subprocess.run(
        command("FakeGenerating", data, 0), env=environment(), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


class TestLock:
    def test_a_locked_store_is_a_503_until_it_is_free(
        self, tmp_path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        with running(tmp_path) as client, closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            waiting = start(client, "a slow ball")
            until(lambda: client.get(waiting).json()["status"] == "running")
            other.execute("BEGIN EXCLUSIVE")
            check_store_fails(client, waiting, 503, "storage-busy")
            answer = client.post("/v1/jobs", json={"prompt": "another ball", **SMALL})
            assert answer.headers["retry-after"] and "locked" in answer.json()["detail"]
            other.execute("ROLLBACK")
            check_goes_on(client, waiting)

    def test_a_lock_at_the_start_is_one_line(self, tmp_path: Path) -> None:
        database.connect(tmp_path / FILE).close()
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert "database is locked" in refusal(tmp_path)


class TestClock:
    @pytest.mark.parametrize("jump", [DAY, -DAY, -30 * DAY])
    def test_a_clock_that_jumps_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
    ) -> None:
        late = [0.0]

        def clock() -> float:
            return time.time() + late[0]

        monkeypatch.setattr(ledger, "JobStore", partial(JobStore, clock=clock))
        with running(tmp_path, sweep_seconds=0.1) as client:
            made = make(client, "a ball from before")
            jobs = [start(client, f"a slow ball {number}") for number in range(2)]
            until(lambda: client.get(jobs[0]).json()["status"] == "running")
            late[0] = jump
            jobs.append(start(client, "a ball from afterwards"))
            for job in map(partial(finished, client), jobs):
                assert job["status"] == "succeeded"
                assert all(milliseconds >= 0 for milliseconds in job["timings_ms"].values())  # type: ignore[attr-defined]
            listed = [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]
            assert listed == [*(job.rpartition("/")[2] for job in reversed(jobs)), made["id"]], "still the newest first"
            assert client.get(made["files"][0]["url"]).status_code == 200
            body, headers = {"prompt": "a ball with a key", **SMALL}, {"idempotency-key": "one"}
            first = client.post("/v1/jobs", json=body, headers=headers).json()["id"]
            late[0] = 0.0
            if jump > 0:  # set right again
                assert client.post("/v1/jobs", json=body, headers=headers).json()["id"] == first
            make(client, "a ball when the clock is right")

    def test_a_server_that_starts_in_the_past_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with running(tmp_path) as client:
            made, waiting = make(client, "a ball from before"), start(client, "a slow ball")
        monkeypatch.setattr(ledger, "JobStore", partial(JobStore, clock=lambda: time.time() - DAY))
        with running(tmp_path) as client:
            assert finished(client, waiting_at(client, waiting))["status"] == "succeeded"
            assert client.get(f"/v1/jobs/{made['id']}").json()["status"] == "succeeded"
            assert make(client, "a ball from afterwards")["id"] > made["id"]


def waiting_at(client: httpx.Client, address: str) -> str:
    """A job of an earlier server at this one."""
    return f"/v1/jobs/{address.rpartition('/')[2]}"


@pytest.mark.parametrize("where", ["", " while meshing"])
def test_running_jobs_are_canceled_promptly(tmp_path: Path, where: str) -> None:
    seconds = []
    with running(tmp_path, mesh_processes=2) as client:
        for number in range(6):
            job = start(client, f"a slow ball {number}{where}")
            until(lambda job=job: client.get(job).json()["status"] == "running")  # type: ignore[misc]
            began = time.monotonic()
            assert client.post(f"{job}/cancel").json()["status"] == "canceled"
            seconds.append(time.monotonic() - began)
        make(client, "a ball after them")
    assert sorted(seconds)[-2] < 2
