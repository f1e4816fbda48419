"""The same contract on Ray: a cluster with a token on this machine, and the tests of the local executor against it."""

import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from scaledreamer.errors import ConfigError
from scaledreamer.server.ray_rules import check_cluster
from tests.server.running import finished, running, wait_ready
from tests.server.served import SMALL, Served, served, until
from tests.server.test_deletes import TestDelete  # noqa: F401
from tests.server.test_events import TestEvents  # noqa: F401
from tests.server.test_exports import TestBlend, TestExports  # noqa: F401
from tests.server.test_generate import TestFiles, TestGenerate, job  # noqa: F401
from tests.server.test_jobs import (  # noqa: F401
    TestCancel,
    TestIdempotency,
    TestLists,
    TestWaiting,
    test_identical_requests_in_flight_are_computed_once,
)
from tests.server.test_recycling import test_a_process_that_grows_is_replaced  # noqa: F401
from tests.server.test_restarts import TestDeaths, TestRestart  # noqa: F401
from tests.server.test_serve import program
from tests.server.test_workers import (  # noqa: F401
    test_a_crash_is_a_500_at_the_synchronous_door,
    test_a_full_queue_is_a_503_and_a_job_that_hangs_is_stopped,
    test_a_job_that_crashes_two_processes_fails_and_the_next_one_works,
    test_a_model_that_is_missing_makes_every_door_say_so,
    test_a_worker_that_dies_while_it_loads_is_started_again,
    test_mesh_processes_share_the_queue,
    test_probes_answer_while_the_model_works,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="needs scaledreamer[ray]"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory, only_loopback: None) -> Iterator[str]:
    """The address of a cluster of one machine, whose every server from here on uses it."""
    address = free_address()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": address, "SCALEDREAMER_EXECUTOR": "ray", "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        }.items():  # fmt: skip
            patch.setenv(name, value)
        with started(address):
            import ray  # which reads its environment now

            yield address
            ray.shutdown()  # before its cluster ends, which Ray would otherwise take for a reason to end this process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """As for the local executor; its replicas have begun, which takes Ray seconds."""
    with served(tmp_path_factory.mktemp("jobs")) as server:
        server.make("a ball to begin with")
        yield server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running(tmp_path_factory.mktemp("served")) as client:
        assert client.post("/generate", json={"prompt": "a ball to begin with", **SMALL}).status_code == 200
        yield client


@contextmanager
def started(address: str, **environment: str) -> Iterator[None]:
    """A cluster with room for sixteen processes, however many cores there are."""
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port", address.rpartition(":")[2],
        "--num-cpus=16", "--object-store-memory=100000000", "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | environment, start_new_session=True, **quiet) as process:  # type: ignore[call-overload]
        try:
            end = time.monotonic() + 180
            while "no Ray cluster" in refusal(address):
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.5)
            yield
        finally:
            process.terminate()


def refusal(address: str) -> str:
    """What is said of a cluster; nothing where it may be used."""
    try:
        check_cluster(address)
    except ConfigError as error:
        return str(error)
    return ""


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def replica_of(pid: int) -> int:
    """The replica whose process it is."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_replicas_that_are_killed_under_load_lose_nothing(tmp_path: Path) -> None:
    with served(tmp_path, generators=2, mesh_processes=2) as loaded:
        jobs = [loaded.start(f"a slow ball under load {number}") for number in range(6)]
        jobs += [loaded.start(f"a slow ball under load {number} while meshing") for number in range(6)]
        killed = []
        for diary, word in ((loaded.fields, "under load"), (loaded.meshes, "while meshing")):
            until(lambda diary=diary, word=word: diary.read(word), 60)
            killed.append(replica_of(diary.read(word)[-1]["pid"]))
            os.kill(killed[-1], signal.SIGKILL)
        ended = [finished(loaded.client, job["links"]["self"], 120) for job in jobs]
        assert [job["status"] for job in ended] == ["succeeded"] * 12
        for job in ended:
            for file in job["files"]:
                content = loaded.client.get(file["url"]).content
                assert hashlib.sha256(content).hexdigest() == file["sha256"] and len(content) == file["bytes"]
        kinds = [loaded.kinds(job) for job in jobs]
        assert all(each.count("succeeded") == 1 for each in kinds)
        assert sum(each.count("queued") for each in kinds) >= 12 + len(killed), "what was in a dead replica waits again"
        wait_ready(loaded.client)


def test_what_a_killed_server_had_deployed_goes_and_nothing_stays_after_a_good_end(tmp_path: Path) -> None:
    from ray import serve

    def applications() -> list[str]:
        every = serve.status().applications.items()
        return [name for name, app in every if name.startswith(f"scaledreamer-{own}-") and app.status != "DELETING"]

    with program(tmp_path) as (process, _):
        until(lambda: (tmp_path / "ray-name").exists())
        own = (tmp_path / "ray-name").read_text()
        process.send_signal(signal.SIGKILL)
    with running(tmp_path) as new:
        assert new.post("/generate", json={"prompt": "a ball", **SMALL}).status_code == 200
        assert len(applications()) == 2
    until(lambda: not applications())


def test_the_real_model_travels_and_makes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"prompt": "a red wooden barrel", "preset": "raw", "resolution": 48, "formats": ["glb", "obj"]}
    sums = []
    for executor in ("ray", "local"):
        monkeypatch.setenv("SCALEDREAMER_EXECUTOR", executor)
        with running(tmp_path / executor, real=True, ready=False) as asked:
            wait_ready(asked, 300)
            made = asked.post("/generate", json=body).json()
            assert made["status"] == "succeeded", made
            sums.append({file["name"]: file["sha256"] for file in made["files"]})
    assert sums[0] == sums[1] and len(sums[0]) > 3


def test_a_cluster_that_needs_no_token_is_refused() -> None:
    address = free_address()
    with started(address, RAY_AUTH_MODE="disabled"):
        assert "lets in who shows no token; set RAY_AUTH_MODE=token" in refusal(address)
