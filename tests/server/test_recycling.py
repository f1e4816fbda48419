"""A process that has grown is replaced between two works, and nobody notices."""

import logging
import mmap
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaledreamer.server.finishing import FinishTask, Warm
from scaledreamer.server.generating import FieldTask, Load, Loaded, Made
from scaledreamer.server.records import Failure, Outcome
from scaledreamer.server.recycling import resident_bytes
from tests.server.fakes import FakeFinishing, FakeGenerating
from tests.server.running import running, wait_ready

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
SMALL = {"resolution": 32, "formats": ["glb"]}
LEAK = 64 * 2**20
kept: list[bytes] = []  # in the process that leaks


def leak(prompt: str, word: str) -> None:
    if word in prompt:
        kept.append(b"x" * LEAK)


class LeakyGenerating(FakeGenerating):
    def __call__(self, task: Load | Sequence[FieldTask], say: Callable[[Any], None]) -> Loaded | list[Made | Failure]:
        for one in () if isinstance(task, Load) else task:
            leak(one.prompt, "field")
        return super().__call__(task, say)


class LeakyFinishing(FakeFinishing):
    def __call__(self, task: Warm | FinishTask, say: Callable[[Any], None]) -> Outcome | Failure | None:
        if isinstance(task, FinishTask):
            leak(task.prompt, "mesh")
        return super().__call__(task, say)


def restarts(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if "restarts_total{" in line]
    return {line.split('"')[1] + " " + line.split('"')[3]: float(line.split()[-1]) for line in lines}


def test_memory_is_that_of_the_process() -> None:
    before = resident_bytes(os.getpid())
    with mmap.mmap(-1, LEAK) as held:  # fresh pages: what Python has freed might be used again
        held.write(b"x" * LEAK)
        grown = resident_bytes(os.getpid()) - before
    assert before > 2**20 and grown > 0.8 * LEAK
    assert resident_bytes(2**22 + 1) == 0


@pytest.mark.parametrize(("word", "kind"), [("field", "generator"), ("mesh", "mesh")])
def test_a_process_that_grows_is_replaced(
    tmp_path: Path, word: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, LeakyGenerating, finishing=LeakyFinishing, max_growth_bytes=LEAK * 3 // 2) as client:
        with caplog.at_level(logging.WARNING, "scaledreamer.server"):
            for number in range(4):  # the second and the fourth are one too many
                answer = client.post("/generate", json={"prompt": f"{word} {number}", **SMALL})
                assert answer.status_code == 200 and answer.json()["status"] == "succeeded"
            end = time.monotonic() + 20
            while restarts(client) != {f"{kind} grown": 2}:
                assert time.monotonic() < end, restarts(client)
                time.sleep(0.05)
            wait_ready(client)
        assert "has grown by 12" in caplog.text or "has grown by 13" in caplog.text
        assert client.post("/generate", json={"prompt": "ball", **SMALL}).status_code == 200


def test_a_process_that_does_not_grow_stays(tmp_path: Path) -> None:
    with running(tmp_path, max_growth_bytes=LEAK) as client:
        for number in range(10):
            client.post("/generate", json={"prompt": f"ball {number}", **SMALL})
        assert restarts(client) == {}
