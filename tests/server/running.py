"""A real server in a thread: real sockets, a real worker process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from scaledreamer.server.app import create_app
from scaledreamer.server.child import Factory
from scaledreamer.server.main import bind
from scaledreamer.server.settings import Settings
from tests.server.fakes import MODEL, FakeFinishing, FakeGenerating


@contextmanager
def running(
    folder: Path, factory: Factory = FakeGenerating, *, ready: bool = True, real: bool = False,
    finishing: Factory = FakeFinishing, **changes: object,
) -> Iterator[httpx.Client]:  # fmt: skip
    """A client of a server that runs until the block ends; with fake handlers unless `real`."""
    given = {"mesh_processes": 1, "drain_seconds": 0, "burst": 10_000, **changes}
    settings = Settings.model_validate({"data": folder, "port": 0, **given})
    listener = bind(settings.host, settings.port)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(settings) if real else create_app(settings, MODEL, factory, finishing)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
            if ready:
                wait_ready(client)
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def wait_ready(client: httpx.Client, seconds: float = 90) -> None:
    """Until a worker has generated."""
    end = time.monotonic() + seconds
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < end, client.get("/health/ready").text
        time.sleep(0.05)


def finished(
    client: httpx.Client, address: str, seconds: float = 60, headers: dict[str, str] | None = None
) -> dict[str, object]:
    """The job once it has ended."""
    end = time.monotonic() + seconds
    while True:
        job: dict[str, object] = client.get(address, headers=headers).json()
        if job["status"] not in ("queued", "running"):
            return job
        assert time.monotonic() < end, job
        time.sleep(0.05)
