"""The job store: order, idempotency, sharing, retention, and what a new process finds."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from scaledreamer.errors import ConfigError
from scaledreamer.server.database import MIGRATIONS, connect, transaction
from scaledreamer.server.records import JOB_ID, Failure, Outcome, Record, StoredFile, Wanted, new_id
from scaledreamer.server.store import JobStore, KeyReused

WANTED = Wanted({"prompt": "a barrel"}, {"prompt": "a barrel"}, "a barrel", "props", "field", "asset")
DONE = Outcome((StoredFile("a.glb", "mesh", "model/gltf-binary", 10, "00"),), {"faces": 1}, (), {"extract": 5})
GONE = Failure("empty-mesh", "no surface")


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
    return JobStore(tmp_path / "jobs.db", clock)


def other(name: str) -> Wanted:
    return replace(WANTED, asset_key=name, field_key=name)


def made(store: JobStore, wanted: Wanted = WANTED) -> Record:
    job = store.create(wanted)[0].id
    store.begin([job])
    store.succeed(wanted.asset_key, [job], DONE)
    record = store.get(job)
    assert record is not None
    return record


def kinds(store: JobStore, job: str) -> list[str]:
    return [event.kind for event in store.events(job)]


def test_ids_are_uuids_that_sort_by_age() -> None:
    ids = [new_id(1_800_000_000_000 + k) for k in range(100)]
    assert ids == sorted(ids)
    assert all(JOB_ID.fullmatch(each) and UUID(each).version == 7 for each in ids)


def test_jobs_of_one_moment_and_of_a_clock_set_back_sort_by_age(tmp_path: Path) -> None:
    times = iter([1_800_000_000.0] * 50 + [1_700_000_000.0] * 50)
    store = JobStore(tmp_path / "jobs.db", lambda: next(times))
    ids = [store.create(other(str(number)))[0].id for number in range(50)]
    store.close()
    again = JobStore(tmp_path / "jobs.db", lambda: next(times))
    ids += [again.create(other(str(number)))[0].id for number in range(50, 100)]
    assert ids == sorted(ids) and len(set(ids)) == 100


def test_a_job_goes_its_way_once(store: JobStore) -> None:
    record = made(store)
    assert (record.status, record.stage, record.progress, record.attempts) == ("succeeded", "done", 1, 1)
    assert record.outcome is not None and record.outcome.files == DONE.files
    assert set(record.outcome.timings_ms) == {"queue", "extract", "total"}
    assert kinds(store, record.id) == ["queued", "running", "succeeded"]
    store.fail([record.id], GONE)
    store.cancel(record.id)
    store.reach([record.id], "texture", 0.5)
    assert store.get(record.id) == record and len(store.events(record.id)) == 3


def test_progress_never_goes_back_even_over_a_crash(store: JobStore) -> None:
    job = store.create(WANTED)[0].id
    store.begin([job])
    store.reach([job], "texture", 0.8)
    assert store.requeue([job], crashed=True) == 1
    store.begin([job])
    store.reach([job], "extract", 0.2)
    record = store.get(job)
    assert record is not None and (record.status, record.progress, record.attempts) == ("running", 0.8, 2)
    assert store.requeue([job], crashed=True) == 2 and store.requeue([job]) == 2


def test_events_go_on_after_the_last_one_seen(store: JobStore) -> None:
    job = store.create(WANTED)[0].id
    store.begin([job])
    store.reach([job], "texture", 0.8)
    store.fail([job], GONE)
    assert [(event.number, event.kind) for event in store.events(job, after=2)] == [(3, "stage"), (4, "failed")]
    assert store.events(job)[2].data == {"stage": "texture", "progress": 0.8}
    assert store.events(job)[3].data == {"code": "empty-mesh", "detail": "no surface"}


def test_a_kept_artifact_answers_at_once(store: JobStore) -> None:
    made(store)
    record, new = store.create(WANTED)
    assert new and record.status == "succeeded" and record.outcome is not None and record.attempts == 0
    assert record.outcome.files == DONE.files and "extract" not in record.outcome.timings_ms
    assert kinds(store, record.id) == ["queued", "succeeded"]


def test_an_idempotency_key_gives_the_same_job_for_a_day(store: JobStore, clock: Clock) -> None:
    first, new = store.create(WANTED, "ann", idempotency=("key", "digest"))
    assert new
    assert store.create(WANTED, "ann", idempotency=("key", "digest")) == (first, False)
    with pytest.raises(KeyReused, match=first.id):
        store.create(WANTED, "ann", idempotency=("key", "another"))
    assert store.create(WANTED, "bob", idempotency=("key", "digest"))[1], "keys of others are theirs"
    clock.now += 86_500
    assert store.create(WANTED, "ann", idempotency=("key", "another"))[1]


def test_lists_are_pages_of_ones_own(store: JobStore) -> None:
    ids = [store.create(other(str(number)), "ann")[0].id for number in range(5)]
    store.create(other("b"), "bob")
    store.cancel(ids[1])
    page = [record.id for record in store.find("ann", limit=2)]
    rest = [record.id for record in store.find("ann", before=page[-1])]
    assert page + rest == ids[::-1]
    assert [record.id for record in store.find("ann", status="canceled")] == [ids[1]]
    assert len(store.find(None)) == 6


def test_a_new_process_finds_what_was_accepted(tmp_path: Path, clock: Clock) -> None:
    store = JobStore(tmp_path / "jobs.db", clock)
    jobs = [store.create(other(str(number)))[0].id for number in range(4)]
    store.begin(jobs[:2])
    store.succeed("0", jobs[:1], DONE)
    store.cancel(jobs[3])
    del store  # killed: nothing was closed
    again = JobStore(tmp_path / "jobs.db", clock)
    assert [record.id for record in again.recover()] == [jobs[1], jobs[2]]
    assert kinds(again, jobs[1]) == ["queued", "running", "queued"]
    assert [record.status for record in map(again.get, jobs) if record] == ["succeeded", "queued", "queued", "canceled"]


def test_deleting_forgets_the_prompt_and_the_events(store: JobStore, tmp_path: Path) -> None:
    first, second = made(store), store.create(WANTED)[0]
    store.delete(first.id)
    assert store.get(first.id) is None and not store.events(first.id)
    assert not store.drop_artifact("asset"), "another job shows it"
    store.delete(second.id)
    assert store.drop_artifact("asset") and not store.artifacts()


def test_old_jobs_expire_and_are_forgotten_later(store: JobStore, clock: Clock) -> None:
    record = made(store)
    assert store.sweep(100, 10**9) == []
    clock.now += 101
    assert store.sweep(100, 10**9) == ["asset"]
    expired = store.get(record.id)
    assert expired is not None and expired.status == "expired" and expired.outcome is not None
    assert kinds(store, record.id)[-1] == "expired"
    clock.now += 101
    store.sweep(100, 10**9)
    assert store.get(record.id) is None


def test_an_artifact_lives_as_long_as_the_newest_job_that_shows_it(store: JobStore, clock: Clock) -> None:
    first = made(store)
    clock.now += 60
    second = store.create(WANTED)[0]
    clock.now += 60
    assert store.sweep(100, 10**9) == []
    assert [record.status for record in map(store.get, (first.id, second.id)) if record] == ["expired", "succeeded"]


def test_the_longest_unused_artifacts_go_first_when_there_are_too_many(store: JobStore) -> None:
    jobs = {name: made(store, other(name)) for name in "abc"}
    store.create(other("a"))  # used again
    assert store.sweep(10**6, 2 * DONE.bytes) == ["b"]
    statuses = {name: store.get(record.id).status for name, record in jobs.items()}  # type: ignore[union-attr]
    assert statuses == {"a": "succeeded", "b": "expired", "c": "succeeded"}


def test_a_lost_artifact_is_made_again(store: JobStore) -> None:
    record = made(store)
    store.lost("asset")
    assert store.get(record.id).status == "expired"  # type: ignore[union-attr]
    assert store.create(WANTED)[0].status == "queued"


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    connection = connect(tmp_path / "jobs.db")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="update scaledreamer"):
        connect(tmp_path / "jobs.db")


def test_a_migration_runs_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(tmp_path / "jobs.db").close()
    broken = "CREATE TABLE extra (a); CREATE TABLE extra (a)"
    monkeypatch.setattr("scaledreamer.server.database.MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        connect(tmp_path / "jobs.db")
    monkeypatch.setattr("scaledreamer.server.database.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE extra (a)"))
    connection = connect(tmp_path / "jobs.db")
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1


def test_a_transaction_that_fails_leaves_nothing(store: JobStore) -> None:
    def interrupted() -> None:
        with transaction(store.connection):
            store.connection.execute("INSERT INTO artifacts VALUES ('x', '{}', 1, 0)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert not store.artifacts()
