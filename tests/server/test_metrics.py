"""What an operator sees: metrics, logs, request ids."""

import asyncio
import json
import logging
import re
from pathlib import Path

import httpx
import pytest

from scaledreamer.server.logs import configure, hashed
from scaledreamer.server.metrics import Metrics
from tests.server.running import finished, running


def numbers(client: httpx.Client) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_metrics_count_works_requests_and_restarts(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.post("/generate", json={"prompt": "a secret ball", "resolution": 32})
        client.post("/generate", json={"prompt": "nothing", "resolution": 32})
        finished(client, client.post("/v1/jobs", json={"prompt": "crash"}).headers["location"])
        found = numbers(client)
        text = client.get("/metrics").text
    assert found['scaledreamer_works_total{outcome="succeeded"}'] == 1
    assert found['scaledreamer_works_total{outcome="empty-mesh"}'] == 1
    assert found['scaledreamer_works_total{outcome="worker-crashed"}'] == 1
    assert found['scaledreamer_process_restarts_total{kind="generator",reason="failed"}'] == 2
    assert found['scaledreamer_jobs{status="failed"}'] == 2 and found["scaledreamer_ready"] in (0, 1)
    assert found['scaledreamer_http_requests_total{route="/generate",status="200"}'] == 1
    assert found['scaledreamer_http_requests_total{route="/generate",status="422"}'] == 1
    assert found['scaledreamer_stage_seconds_count{stage="extract"}'] == 1
    assert found["scaledreamer_batch_size_count"] == 4
    assert "secret" not in text


def test_a_request_id_is_taken_over_or_given(client: httpx.Client) -> None:
    assert client.get("/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("", "a b", "x" * 65, "<script>"):
        given = client.get("/health/live", headers={"x-request-id": bad}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", given)
    assert client.get("/nowhere").headers["x-request-id"]
    assert client.get("/health/live", headers={"host": "evil.example"}).headers["x-request-id"]


def test_logs_are_lines_of_json_without_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("scaledreamer")
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    configure("info", "json")
    with running(tmp_path) as client:
        body = {"prompt": "a secret ball", "resolution": 32}
        client.post("/generate", json=body, headers={"x-request-id": "mine"})
        client.post("/generate", json={"prompt": "a secret broken thing", "resolution": 32})
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    assert "secret" not in written
    (answered,) = [line for line in lines if line["event"] == "request" and line["request"] == "mine"]
    assert (answered["route"], answered["status"], answered["method"]) == ("/generate", 200, "POST")
    (done,) = [line for line in lines if line["event"] == "work done"]
    assert done["prompt_sha256"] == hashed("a secret ball") and done["bytes"] > 0
    (failed,) = [line for line in lines if line["event"] == "work failed"]
    assert failed["code"] == "generation-failed" and failed["level"] == "warning"


def test_a_blocked_event_loop_is_seen() -> None:
    async def block() -> Metrics:
        import time

        metrics = Metrics()
        watching = asyncio.create_task(metrics.watch_the_loop())
        await asyncio.sleep(0)
        time.sleep(0.5)
        await asyncio.sleep(0.15)
        watching.cancel()
        return metrics

    metrics = asyncio.run(block())
    samples = {sample.labels.get("le"): sample.value for metric in metrics.lag.collect() for sample in metric.samples}
    assert samples["0.3"] < samples["1.0"]
