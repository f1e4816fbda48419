"""A server of balls that remembers what its processes were asked for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.server.fakes import Diary, FakeFinishing, FakeGenerating
from tests.server.running import finished, running

SMALL = {"resolution": 32, "formats": ["glb"]}
Body = dict[str, Any]


@dataclass
class Served:
    """A server, what its processes were asked for, and where it keeps things."""

    client: httpx.Client
    fields: Diary
    meshes: Diary
    folder: Path

    def start(self, prompt: str, **fields: Any) -> Body:
        answer = self.client.post("/v1/jobs", json={"prompt": prompt, **SMALL, **fields})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def done(self, job: Body) -> Body:
        ended = finished(self.client, job["links"]["self"])
        assert ended["status"] == "succeeded", ended["error"]
        return ended

    def make(self, prompt: str, **fields: Any) -> Body:
        return self.done(self.start(prompt, **fields))

    def kinds(self, job: Body) -> list[str]:
        return [event["event"] for event in parse(self.client.get(job["links"]["events"]).text)]


@contextmanager
def served(folder: Path, **changes: Any) -> Iterator[Served]:
    fields, meshes = Diary(folder / "fields.txt", FakeGenerating), Diary(folder / "meshes.txt", FakeFinishing)
    with running(folder / "data", fields, finishing=meshes, **changes) as client:
        yield Served(client, fields, meshes, folder / "data")


def parse(stream: str) -> list[dict[str, str]]:
    """Server-sent events; comments have no id."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in stream.strip().split("\n\n")]
    return [block for block in blocks if "id" in block]


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def files_with(folder: Path, word: bytes = b"") -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes())
