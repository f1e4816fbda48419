"""Another model in place of the one that runs: no request fails, and what was accepted is made by who accepted it."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.engine import Places
from scaledreamer.server.flow import Flow
from scaledreamer.server.models import ModelFile
from scaledreamer.server.process import Process
from scaledreamer.server.records import Record
from scaledreamer.server.resolve import resolve
from scaledreamer.server.schemas import GenerateRequest
from scaledreamer.server.works import WorksConfig
from tests.server.fakes import MODEL, FakeFinishing, FakeGenerating, MissingModel

OTHER = replace(MODEL, id="cube", sha256="1" * 64)


def flow_of(folder: Path, model: ModelFile = MODEL, broken: tuple[str, ...] = ()) -> Flow:
    def open_generator(asked: ModelFile) -> Process:
        return Process(MissingModel if asked.sha256 in broken else FakeGenerating, 1)

    config = WorksConfig(1, 1, 1, 60.0, 2**40)
    artifacts = Artifacts(str(folder / "artifacts"))
    return Flow(config, Places(folder), artifacts, model, open_generator, partial(Process, FakeFinishing, 1))


async def ask(flow: Flow, prompt: str) -> Record:
    wanted = resolve(GenerateRequest(prompt=prompt, resolution=32, formats=["glb"]), flow.model)
    return (await flow.submit(wanted))[0]


async def ended(flow: Flow, record: Record) -> Record:
    found = await flow.ledger.wait(record.id, 60)
    assert found is not None
    return found


@pytest.mark.anyio
async def test_requests_before_and_after_a_reload_all_succeed(tmp_path: Path) -> None:
    flow = flow_of(tmp_path)
    await flow.start()
    try:
        before = [await ask(flow, f"slow ball {number}") for number in range(3)]
        assert await flow.reload(OTHER) is None and flow.model is OTHER
        after = await ask(flow, "slow ball 0")
        records = [await ended(flow, record) for record in (*before, after)]
        assert [(record.status, record.wanted.model) for record in records] == [
            *[("succeeded", "ball")] * 3, ("succeeded", "cube")
        ]  # fmt: skip
        assert records[0].wanted.field_key != records[3].wanted.field_key
        for _ in range(100):
            if len(flow.works.engines) == 1:
                break
            await asyncio.sleep(0.05)
        assert [engine.model for engine in flow.works.engines] == [OTHER], "the old processes have ended"
        assert await flow.reload(OTHER) is None and len(flow.works.engines) == 1
    finally:
        await flow.stop()


@pytest.mark.anyio
async def test_a_model_that_cannot_be_used_leaves_the_old_one(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, broken=(OTHER.sha256,))
    await flow.start()
    try:
        failure = await flow.reload(OTHER)
        assert failure is not None and failure.code == "model-unavailable"
        assert flow.model is MODEL and flow.failure is None
        assert (await ended(flow, await ask(flow, "ball"))).status == "succeeded"
    finally:
        await flow.stop()


@pytest.mark.anyio
async def test_jobs_that_another_model_accepted_are_made_by_the_one_that_runs(tmp_path: Path) -> None:
    flow = flow_of(tmp_path)
    await flow.start()
    jobs = [await ask(flow, f"slow ball {number}") for number in range(4)]
    await flow.stop()
    flow = flow_of(tmp_path, OTHER)
    await flow.start()
    try:
        records = [await ended(flow, job) for job in jobs]
        assert {record.status for record in records} == {"succeeded"}
        assert records[-1].wanted.model == "cube"
        again = resolve(GenerateRequest(prompt="slow ball 3", resolution=32, formats=["glb"]), OTHER)
        assert records[-1].wanted.asset_key == again.asset_key
    finally:
        await flow.stop()
