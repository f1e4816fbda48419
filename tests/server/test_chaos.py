"""Three hundred jobs while processes are killed at random: none lost, none doubled, none half there; their memory."""

import hashlib
import json
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scaledreamer.client import Client, Job
from scaledreamer.server.database import FILE
from tests.server.chaos import Killer, Program, command_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here"),
]
CLIENTS, EACH, PROMPTS = 6, 50, 120
JOBS = CLIENTS * EACH
SMALL = {"resolution": 32, "formats": ["glb"], "preset": "raw"}
LEAVES = {"queued", "running", "stage"}  # events after which something else happens


class Caller(threading.Thread):
    """A client that sends its jobs a few at a time, takes some of them back, and fetches what the others made."""

    def __init__(self, address: str, number: int, prompts: list[str], folder: Path) -> None:
        super().__init__()
        self.client = Client(address, timeout=30, patience=600)
        self.number, self.folder, self.rng = number, folder, random.Random(number)
        self.sent = {f"{number}-{turn}": prompt for turn, prompt in enumerate(prompts)}
        self.jobs: dict[str, Job] = {}  # by idempotency key: as accepted, then as ended
        self.canceled: set[str] = set()
        self.ended = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            keys = list(self.sent)
            while keys:
                few = [keys.pop() for _ in range(min(self.rng.randint(1, 8), len(keys)))]
                for key in few:
                    self.send(key)
                for key in few:
                    self.follow(key)
        except BaseException as error:
            self.error = error
        finally:
            self.client.close()

    def send(self, key: str) -> None:
        self.jobs[key] = self.client.submit(self.sent[key], idempotency_key=key, **SMALL)
        if self.rng.random() < 0.1:
            time.sleep(self.rng.uniform(0, 0.1))
            self.canceled.add(self.client.cancel(self.jobs[key]).id)

    def follow(self, key: str) -> None:
        job = self.jobs[key] = self.client.wait(self.jobs[key], 600)
        self.ended += 1
        if job.status == "succeeded":
            self.client.download(job, self.folder / job.id)  # compares the sha256


@pytest.mark.timeout(1700)
@pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
def test_jobs_outlive_whatever_is_killed(tmp_path: Path, real: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(7)
    words = ["a ball", "a barrel" if real else "nothing"]  # nothing: no surface
    pool = [f"{rng.choices(words, [9, 1])[0]} {number}" for number in range(PROMPTS)]
    with Program(tmp_path, real) as program:
        callers = [
            Caller(program.address, number, rng.choices(pool, k=EACH), tmp_path / "got") for number in range(CLIENTS)
        ]
        killer = Killer(program, lambda: sum(each.ended for each in callers), JOBS, workers=20, webs=5, seed=3)
        for thread in (*callers, killer):
            thread.start()
        for thread in (*callers, killer):
            thread.join()
        assert [each.error for each in (*callers, killer)] == [None] * (CLIENTS + 1), program.log.read_text()[-4000:]
        check_jobs(program, callers, killer)
        check_folder(program.data)
        workers = program.workers()
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(60) in (0, -signal.SIGTERM)
        assert not any(map(command_of, workers))
    check_database(program.data)
    log = "\n".join(line for line in program.log.read_text().splitlines() if "/health/ready" not in line)
    assert "kind=generator" in log and "kind=mesh" in log and "Traceback" not in log, log[-4000:]
    with capsys.disabled():
        shown = ", ".join(f"{seconds:.1f}" for seconds in killer.recoveries)
        print(f"\n{JOBS} jobs, {killer.killed} workers killed; {program.first:.1f} s to start, {shown} after a kill")
    assert max(killer.recoveries) <= max(10.0, 3 * program.first), "10 s; more where the first start took long as well"


def check_jobs(program: Program, callers: list[Caller], killer: Killer) -> None:
    """Every accepted job is there once, has ended once and as it should, and equal prompts have equal files."""
    with Client(program.address) as client:
        found = {job.id: job for job in client.jobs()}
        accepted = {job.id: key for caller in callers for key, job in caller.jobs.items()}
        assert len(accepted) == JOBS and found.keys() == accepted.keys()
        unlucky, files = 0, {}
        for caller in callers:
            for key, job in caller.jobs.items():
                last = found[job.id]
                assert last.raw == job.raw, "what has ended stays as it was"
                assert last.prompt == caller.sent[key]
                assert client.submit(last.prompt, idempotency_key=key, **SMALL).id == job.id
                kinds = [event.kind for event in client.progress(job)]
                assert kinds[0] == "queued" and kinds[-1] == last.status and set(kinds[:-1]) <= LEAVES, kinds
                code = last.error["code"] if last.error else None
                if job.id in caller.canceled and last.status == "canceled":
                    continue
                if code == "worker-crashed":
                    unlucky += 1
                    continue
                expected = ("failed", "empty-mesh") if "nothing" in last.prompt else ("succeeded", None)
                assert (last.status, code) == expected
                sums = {file.name: file.sha256 for file in last.files}
                assert files.setdefault(last.prompt, sums) == sums
        assert 2 * unlucky <= killer.killed * CLIENTS, (
            "a work, which several jobs may want, fails with its second process"
        )
        assert len(list(client.jobs())) == JOBS


def check_folder(data: Path) -> None:
    """Nothing is half there, and nothing is there that nobody knows."""
    deadline = time.monotonic() + 30
    while (left := list(leftovers(data))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def leftovers(data: Path) -> Iterator[str]:
    """What should not be in the data folder, or not as it is."""
    with closing(sqlite3.connect(data / FILE)) as store:
        kept = {key: json.loads(outcome) for key, outcome in store.execute("SELECT asset_key, outcome FROM artifacts")}
        fields = {key for (key,) in store.execute("SELECT field_key FROM jobs")}
    known = {FILE, f"{FILE}-wal", f"{FILE}-shm", ".claim", "work", "fields", "artifacts"}
    yield from {path.name for path in data.iterdir()} - known
    yield from (str(path) for path in (data / "work").iterdir())
    yield from {path.name for path in (data / "fields").iterdir()} - {f"{key}.safetensors" for key in fields}
    yield from {path.name for path in (data / "artifacts").iterdir()} ^ kept.keys()
    for key, outcome in kept.items():
        there = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (data / "artifacts" / key).iterdir()
        }
        if there != {file["name"]: file["sha256"] for file in outcome["files"]}:
            yield f"{key} holds {sorted(there)}"


def check_database(data: Path) -> None:
    with closing(sqlite3.connect(data / FILE)) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert store.execute("PRAGMA foreign_key_check").fetchall() == []
        ends = "SELECT count(*) FROM events WHERE kind IN ('succeeded', 'failed', 'canceled') GROUP BY job"
        assert store.execute(ends).fetchall() == [(1,)] * JOBS


@pytest.mark.timeout(1700)
def test_memory_comes_back_to_where_it_was(tmp_path: Path) -> None:
    with Program(tmp_path, real=True, rate=1000) as program, Client(program.address, patience=600) as client:

        def make(first: int, count: int) -> None:
            jobs = [client.submit(f"a red barrel {number}", **SMALL) for number in range(first, first + count)]
            assert {client.wait(job).status for job in jobs} == {"succeeded"}

        make(0, 60)  # everything has been loaded, and every cache has begun to fill
        pids, before = program.workers(), settled(program)
        make(60, JOBS)
        after = settled(program)
        assert program.workers() == pids, "none was replaced"
        assert abs(after - before) <= 0.05 * before, f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} after"


def settled(program: Program) -> int:
    """The least memory within a few seconds of rest."""
    sizes = []
    for _ in range(20):
        sizes.append(program.resident())
        time.sleep(0.1)
    return min(sizes)
