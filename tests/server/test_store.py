"""The job store: order, limits, retention."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from scaledreamer.server.jobs import JOB_ID, Failure, JobStore, Outcome, QueueFull, Record, StoredFile, new_id
from scaledreamer.server.schemas import GenerateRequest, Report
from scaledreamer.server.worker import slug

REQUEST = GenerateRequest(prompt="a barrel")
REPORT = Report(vertices=3, faces=1, bounds=((0, 0, 0), (1, 1, 1)))
DONE = Outcome("props", (StoredFile("a.glb", "mesh", "glb", 1, "00"),), REPORT, (), {"generate": 5, "export": 1})


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> JobStore:
    return JobStore(tmp_path, max_queued=3, keep_jobs=2, keep_days=1.0, clock=clock)


def run(store: JobStore) -> Record:
    job = store.create(REQUEST, "props").id
    store.start(job)
    (store.folder / job).mkdir()
    return store.finish(job, DONE)


def test_ids_are_uuids_that_sort_by_age() -> None:
    ids = [new_id(1_800_000_000_000 + k) for k in range(100)]
    assert ids == sorted(ids)
    assert all(JOB_ID.fullmatch(each) and UUID(each).version == 7 for each in ids)


def test_jobs_of_one_moment_sort_by_age(tmp_path: Path) -> None:
    store = JobStore(tmp_path, max_queued=100, keep_jobs=1, keep_days=1.0, clock=lambda: 1_800_000_000.0)
    ids = [store.create(REQUEST, "props").id for _ in range(100)]
    assert ids == sorted(ids)


def test_positions_count_from_one_and_the_queue_is_bounded(store: JobStore) -> None:
    jobs = [store.create(REQUEST, "props").id for _ in range(3)]
    assert [store.position(job) for job in jobs] == [1, 2, 3]
    with pytest.raises(QueueFull):
        store.create(REQUEST, "props")
    store.start(jobs[0])
    assert [store.position(job) for job in jobs] == [None, 1, 2]
    store.create(REQUEST, "props")


def test_progress_never_goes_back(store: JobStore) -> None:
    job = store.create(REQUEST, "props").id
    store.start(job)
    store.advance(job, "export", 0.8)
    store.advance(job, "generate", 0.1)
    record = store.get(job)
    assert record is not None and (record.stage, record.progress) == ("export", 0.8)
    store.finish(job, Failure("empty-mesh", "no surface"))
    store.advance(job, "export", 0.9)
    assert store.get(job) != record and store.get(job).status == "failed"  # type: ignore[union-attr]


def test_surplus_files_expire_then_the_job_is_forgotten(store: JobStore) -> None:
    jobs = [run(store).id for _ in range(5)]
    store.sweep()
    states = [record.status if (record := store.get(job)) else None for job in jobs]
    assert states == [None, "expired", "expired", "succeeded", "succeeded"]
    assert sorted(path.name for path in store.folder.iterdir()) == jobs[3:]


def test_old_files_expire_and_so_do_those_of_an_earlier_process(store: JobStore, clock: Clock) -> None:
    job = run(store).id
    left = store.folder / new_id(int(1000 * clock.now))
    left.mkdir()
    other = store.folder / "not-a-job"
    other.mkdir()
    for folder in (left, other):
        os.utime(folder, (clock.now, clock.now))
    store.sweep()
    assert left.exists() and (store.folder / job).exists()
    clock.now += 86_401
    waiting = store.create(REQUEST, "props").id
    store.sweep()
    assert store.get(job).status == "expired" and store.get(waiting).status == "queued"  # type: ignore[union-attr]
    assert [path.name for path in store.folder.iterdir()] == ["not-a-job"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("A red, wooden barrel!", "a-red-wooden-barrel"), ("樽", "mesh"), ("../..", "mesh"), ("a" * 60, "a" * 48)],
)
def test_slugs(prompt: str, name: str) -> None:
    assert slug(prompt) == name
