"""Workers die, hang and fail to load; the server stays."""

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from scaledreamer.server import child, works
from scaledreamer.server.generating import FieldTask, Load, Loaded, Made
from scaledreamer.server.records import Failure
from tests.server.chaos import HalfFinishing
from tests.server.fakes import SLOW, DiesOnce, FakeGenerating, MissingModel, Say
from tests.server.running import finished, running, wait_ready
from tests.server.test_requests import check_problem

SMALL = {"resolution": 32, "formats": ["glb"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of its own, whose worker starts quickly."""
    with running(tmp_path_factory.mktemp("crashed")) as client:
        yield client


@pytest.mark.parametrize("crash", ["crash", "crash while meshing"])
def test_a_job_that_crashes_two_processes_fails_and_the_next_one_works(client: httpx.Client, crash: str) -> None:
    crash = client.post("/v1/jobs", json={"prompt": crash, **SMALL})
    after = client.post("/v1/jobs", json={"prompt": "ball", **SMALL})
    job = finished(client, crash.headers["location"])
    assert job["status"] == "failed" and job["error"]["code"] == "worker-crashed"  # type: ignore[index]
    assert finished(client, after.headers["location"])["status"] == "succeeded"
    wait_ready(client)


class HalfField(FakeGenerating):
    """Every field leaves what a process that was killed in the middle of a file leaves."""

    def __call__(self, task: Load | Sequence[FieldTask], say: Say) -> Loaded | list[Made | Failure]:
        for one in () if isinstance(task, Load) else task:
            one.path.with_name(f".{one.path.name}.half.partial").touch()
        return super().__call__(task, say)


def test_processes_that_die_leave_nothing_half_made(tmp_path: Path) -> None:
    with running(tmp_path, HalfField, finishing=HalfFinishing) as client:
        for crash in ("crash", "crash while meshing"):
            job = client.post("/v1/jobs", json={"prompt": crash, **SMALL}).headers["location"]
            assert finished(client, job)["error"]["code"] == "worker-crashed"  # type: ignore[index]
        fields = [path.name for path in (tmp_path / "fields").iterdir()]
        assert len(fields) == 2 and sorted(fields)[0].endswith(".half.partial"), "only of the one that did not die"
        assert not list((tmp_path / "work").iterdir()) and not list((tmp_path / "artifacts").iterdir())
    with running(tmp_path) as client:
        assert len(list((tmp_path / "fields").iterdir())) == 1, "the next start removes the rest"


def test_a_process_ends_quietly_when_its_parent_is_killed_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send("task")

    def killed(task: object, say: Say) -> None:
        say("half")
        ours.close()  # with something unread in it

    monkeypatch.setattr(child, "prepare", lambda threads: None)
    child.run(theirs, lambda: killed, 1)


def test_a_job_canceled_on_its_way_into_a_mesh_process_does_not_occupy_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, looks, canceled = works.used, threading.Event(), threading.Event()

    def slowly(field: Path) -> bool:
        found = used(field)
        if found and not canceled.is_set():  # the field is there: the work is about to be told to the process
            looks.set()
            assert canceled.wait(30)
        return found

    monkeypatch.setattr(works, "used", slowly)
    with running(tmp_path) as client:
        hangs = client.post("/v1/jobs", json={"prompt": "hang meshing", **SMALL}).headers["location"]
        assert looks.wait(30)
        assert client.post(f"{hangs}/cancel").json()["status"] == "canceled"
        canceled.set()
        after = client.post("/v1/jobs", json={"prompt": "ball", **SMALL}).headers["location"]
        assert finished(client, after, seconds=30)["status"] == "succeeded"
        assert client.get(hangs).json()["status"] == "canceled"


def test_a_crash_is_a_500_at_the_synchronous_door(client: httpx.Client) -> None:
    problem = check_problem(client.post("/generate", json={"prompt": "crash again", **SMALL}), 500, "worker-crashed")
    assert problem["links"]["job"].endswith(problem["job"])
    wait_ready(client)


def test_probes_answer_while_the_model_works(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json={"prompt": "slow probe", **SMALL}).headers["location"]
    delays = []
    while client.get(job).json()["status"] in ("queued", "running"):
        begin = time.perf_counter()
        assert client.get("/health/live").json() == {"status": "ok"}
        delays.append(time.perf_counter() - begin)
        time.sleep(0.02)
    assert len(delays) > 5 and sorted(delays)[len(delays) // 2] < SLOW / 5


def test_a_full_queue_is_a_503_and_a_job_that_hangs_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, max_queue_seconds=0.01, job_limit=SLOW / 2) as client:
        started = [client.post("/v1/jobs", json={"prompt": f"{word} ball", **SMALL}) for word in ("slow", "next")]
        for job in started:  # one in the generator's process, one before it: so many begin at once
            while client.get(job.headers["location"]).json()["status"] == "queued":
                time.sleep(0.01)
        waits = client.post("/v1/jobs", json={"prompt": "ball", **SMALL})
        assert waits.status_code == 202 and waits.json()["queue_position"] == 1
        full = client.post("/generate", json={"prompt": "another ball", **SMALL})
        assert "1 works wait" in check_problem(full, 503, "queue-full")["detail"] and full.headers["retry-after"]
        hung = finished(client, started[0].headers["location"])
        assert hung["error"]["code"] == "deadline-exceeded"  # type: ignore[index]
        for job in (started[1], waits):
            assert finished(client, job.headers["location"])["status"] == "succeeded"
        assert len(list((tmp_path / "artifacts").iterdir())) == 2 and not list((tmp_path / "work").iterdir())


def test_a_model_that_is_missing_makes_every_door_say_so(tmp_path: Path) -> None:
    with running(tmp_path, MissingModel, ready=False) as client:
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


def test_mesh_processes_share_the_queue(tmp_path: Path) -> None:
    with running(tmp_path, mesh_processes=2) as client:
        deadline = time.monotonic() + 60
        for turn in range(100):  # until both have started
            words = [f"slow meshing {turn} {each}" for each in "ab"]
            jobs = [client.post("/v1/jobs", json={"prompt": word, **SMALL}).headers["location"] for word in words]
            began = time.monotonic()
            for job in jobs:
                assert finished(client, job)["status"] == "succeeded"
            if time.monotonic() - began < 1.7 * SLOW:
                return
            assert time.monotonic() < deadline
