"""Works through processes: queue, fields, assets, and what happens when a process dies (docs/adr/0003)."""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaledreamer.files import remove_partials
from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.engine import Engine, Executor, Open, Places, Watcher, Work
from scaledreamer.server.finishing import FinishTask, Warm
from scaledreamer.server.generating import FieldTask, Made, failure_of
from scaledreamer.server.ledger import Ledger
from scaledreamer.server.line import Line
from scaledreamer.server.models import ModelFile
from scaledreamer.server.process import ProcessDied
from scaledreamer.server.records import Failure, Outcome, Record, Wanted
from scaledreamer.server.resolve import field_key, settings_again

log = logging.getLogger("scaledreamer.server")
CRASHES = 2  # processes that a job may kill
GENERATED = 0.15  # of the progress, when the field is there
OTHER_MODEL = Failure("model-changed", "the field is gone, and the model that made it is not loaded; generate it again")
CRASHED = Failure("worker-crashed", "two worker processes died during this job; it is not tried again")


@dataclass(frozen=True)
class WorksConfig:
    """How many processes, and how long."""

    generators: int
    mesh_processes: int
    batch: int  # fields made in one pass
    job_seconds: float  # a work's longest stay in one process
    growth_bytes: int = 2**30  # of a process's memory, after which it is replaced


class Works:
    """All works that have not ended, and the processes they go through."""

    def __init__(
        self, config: WorksConfig, places: Places, artifacts: Artifacts, ledger: Ledger, model: ModelFile,
        open_generator: Open, open_mesher: Open,
    ) -> None:  # fmt: skip
        self.config, self.places, self.artifacts, self.ledger = config, places, artifacts, ledger
        self.open_generator, self.open_mesher = open_generator, open_mesher
        self.engine = Engine(model)
        self.engines = [self.engine]
        self.meshers: list[Executor] = []
        self.by_key: dict[str, Work] = {}
        self.of_job: dict[str, Work] = {}
        self.waiting = Line()
        self.in_flight: dict[str, list[Work]] = {}  # by the key of the field that is being made
        self.to_finish: asyncio.Queue[Work] = asyncio.Queue()
        self.arrived = asyncio.Event()  # something waits
        self.room = asyncio.Semaphore(config.mesh_processes + config.generators * config.batch)
        self.tasks: set[asyncio.Task[None]] = set()
        self.begun: set[Work] = set()  # and not ended
        self.watchers: list[Watcher] = []
        self.on_failure: Callable[[str], None] | None = None  # hears why the model cannot be used

    @property
    def busy(self) -> int:
        """Works that have begun and not ended."""
        return len(self.begun)

    def start(self) -> None:
        """Start the processes."""
        self.begin(self.engine)
        self.meshers = [self.open_mesher() for _ in range(self.config.mesh_processes)]
        for number in range(len(self.meshers)):
            self.spawn(self.run_mesher(number))
        self.spawn(self.dispatch())

    def begin(self, engine: Engine) -> None:
        """Generator processes for a model."""
        engine.processes = [self.open_generator(engine.model) for _ in range(self.config.generators)]
        engine.tasks = [self.spawn(self.run_generator(engine, number)) for number in range(self.config.generators)]

    async def replace_model(self, model: ModelFile) -> Failure | None:
        """Answer new requests by another model once it has generated; if it cannot, the old one stays, and the reason
        comes back. What was accepted before is made by the model that accepted it.
        """
        if model.sha256 == self.engine.model.sha256:
            return None
        engine = Engine(model)
        self.engines.append(engine)
        self.begin(engine)
        while not engine.ready and engine.failure is None:
            await asyncio.sleep(0.05)
        if engine.failure is not None:
            self.engines.remove(engine)
            engine.close()
            return engine.failure
        old, self.engine = self.engine, engine
        self.spawn(self.retire(old))
        return None

    async def retire(self, engine: Engine) -> None:
        """End the processes of a model when nothing that it must make is left."""
        while any(
            field_key(work.wanted.resolved, engine.model) == work.field_key for work in (*self.waiting, *self.begun)
        ):
            await asyncio.sleep(0.1)
        self.engines.remove(engine)
        engine.close()

    async def stop(self) -> None:
        """End all processes now."""
        for task in self.tasks:
            task.cancel()
        for process in self.meshers:
            process.close()
        for engine in self.engines:
            engine.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is ended with the rest, and whose failure is told."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                log.critical("a part of the job flow has ended", exc_info=task.exception())

        task.add_done_callback(ended)
        return task

    def add(self, record: Record) -> None:
        """Attach a queued job to its work, a new one at the end of the queue if there is none."""
        work = self.by_key.get(record.wanted.asset_key)
        if work is None:
            work = Work(record.wanted)
            self.by_key[record.wanted.asset_key] = work
            self.waiting.append(work)
            self.arrived.set()
        elif work not in self.waiting:
            self.spawn(self.ledger.mention(self.ledger.store.begin, [record.id]))
        work.jobs[record.id] = None
        self.of_job[record.id] = work

    def drop(self, job: str) -> None:
        """A job wants its work no more; a work that nobody wants is dropped, its mesh process killed."""
        work = self.of_job.pop(job, None)
        if work is None:
            return
        work.jobs.pop(job, None)
        if work.jobs:
            return
        self.by_key.pop(work.wanted.asset_key, None)
        if work in self.waiting:
            self.waiting.remove(work)
        elif work.process is not None:
            work.process.kill()

    def position(self, job: str) -> int | None:
        """1 for the next job to run; None when it does not wait."""
        work = self.of_job.get(job)
        place = self.waiting.place(work) if work is not None else None
        return place[0] if place else None

    async def dispatch(self) -> None:
        """As soon as there is room: the next work to a generator, or past it where the field is there."""
        while True:
            await self.room.acquire()
            while not self.waiting:
                self.arrived.clear()
                await self.arrived.wait()
            work = self.waiting.pop()
            self.begun.add(work)
            self.reach(work, "generate", 0.02)
            await self.ledger.insist(self.ledger.store.begin, list(work.jobs))
            self.ledger.notify(work.jobs)
            await self.forward(work)

    async def forward(self, work: Work) -> None:
        """To where its field is made, or to where it is read."""
        key = work.field_key
        if await asyncio.to_thread(used, self.places.field(key)):
            self.to_finish.put_nowait(work)
        elif key in self.in_flight:
            self.in_flight[key].append(work)
        else:
            maker = next((one for one in self.engines if field_key(work.wanted.resolved, one.model) == key), None)
            if maker is None:
                await self.failed(work, OTHER_MODEL)
                return
            self.in_flight[key] = [work]
            maker.queue.put_nowait(work)

    async def run_generator(self, engine: Engine, number: int) -> None:
        """One generator process: load, then batch after batch."""
        while await engine.load(number):
            while True:
                batch = await engine.take(self.config.batch)
                try:
                    if not await self.generate(engine, number, batch):
                        self.restart(engine.processes[number], "generator", "failed")
                        break
                    if self.too_large(engine.processes[number]):
                        self.restart(engine.processes[number], "generator", "grown")
                        break
                except Exception as error:
                    log.exception("a batch of fields")
                    await self.fields_failed(batch, failure_of(error))
        if engine is self.engine:
            assert engine.failure is not None
            if self.on_failure is not None:
                self.on_failure(engine.failure.detail)
            while True:  # nothing will ever run: say so to each job instead of keeping it
                for work in await engine.take(1):
                    await self.fields_failed([work], engine.failure)

    async def generate(self, engine: Engine, number: int, batch: list[Work]) -> bool:
        """Fields for a batch; False when the process died or hangs."""
        for watcher in self.watchers:
            watcher.batched(len(batch))
        tasks = [field_task(work, self.places) for work in batch]
        try:
            began = time.monotonic()
            answers = await engine.processes[number].call(tasks, engine.hear, self.config.job_seconds)
        except TimeoutError:
            failure = Failure("deadline-exceeded", f"stopped after {self.config.job_seconds:g} seconds")
            await self.fields_failed(batch, failure)
            return False
        except ProcessDied as death:
            log.error("a generator process died with %d works in it; another one starts", len(batch))
            for work in batch:
                remove_partials(self.places.field(work.field_key))
                for one in self.in_flight.pop(work.field_key, [work]):
                    one.alone = True
                    await self.again(one, crashed=len(batch) == 1 and not death.idle)
            return False
        for work, answer in zip(batch, answers, strict=True):
            work.seconds += (time.monotonic() - began) / len(batch)
            if isinstance(answer, Made):
                for one in self.in_flight.pop(work.field_key, [work]):
                    one.warnings = answer.warnings
                    self.reach(one, "extract", GENERATED)
                    self.to_finish.put_nowait(one)
            else:
                await self.fields_failed([work], answer)
        return True

    async def fields_failed(self, batch: Iterable[Work], failure: Failure) -> None:
        """No field: every work that waited for it has failed."""
        for work in batch:
            for one in self.in_flight.pop(work.field_key, [work]):
                await self.failed(one, failure)

    async def run_mesher(self, number: int) -> None:
        """One mesh process: asset after asset."""
        await self.warm(number)
        while True:
            if self.too_large(self.meshers[number]):
                self.restart(self.meshers[number], "mesh", "grown")
                await self.warm(number)
            work = await self.to_finish.get()
            if not work.jobs:
                self.leave(work)
                continue
            try:
                await self.finish(self.meshers[number], work)
            except ProcessDied as death:
                self.restart(self.meshers[number], "mesh", "failed")
                if work.jobs:
                    log.error("a mesh process died; another one starts")
                    await self.again(work, crashed=not death.idle)
                else:
                    self.leave(work)
            except TimeoutError:
                self.restart(self.meshers[number], "mesh", "failed")
                detail = f"stopped after {self.config.job_seconds:g} seconds; ask for less"
                await self.failed(work, Failure("deadline-exceeded", detail))
            except Exception as error:
                log.exception("a work")
                await self.failed(work, failure_of(error))

    async def warm(self, number: int) -> None:
        """A mesh process imports what it needs; its memory is counted from there."""
        with contextlib.suppress(Exception):  # if something is wrong the first work says so
            await self.meshers[number].call(Warm())

    async def finish(self, process: Executor, work: Work) -> None:
        """The files of a work, from its field to their place."""
        if not await asyncio.to_thread(used, self.places.field(work.field_key)):
            await self.again(work)  # the field has been removed since
            return
        if not work.jobs:  # nobody has wanted it since it was taken, and there was no process to kill yet
            self.leave(work)
            return
        folder = self.places.work / work.wanted.asset_key
        work.process, began = process, time.monotonic()
        try:
            answer = await process.call(
                finish_task(work, self.places, folder),
                lambda said: self.reach(work, said[0], GENERATED + (0.98 - GENERATED) * said[1]),
                self.config.job_seconds,
            )
        finally:
            work.process = None
        work.seconds += time.monotonic() - began
        if isinstance(answer, Failure):
            await self.failed(work, answer)
            return
        try:
            await asyncio.to_thread(self.artifacts.put, work.wanted.asset_key, folder)
        except OSError as error:
            await self.failed(work, failure_of(error))
            return
        await self.succeeded(work, answer)

    def reach(self, work: Work, stage: str, progress: float) -> None:
        """A running work has come to a stage."""
        if stage != work.stage or progress > work.progress:
            work.stage, work.progress = stage, max(progress, work.progress)
            if stage != "generate":
                self.spawn(self.ledger.mention(self.ledger.store.reach, list(work.jobs), stage, work.progress))

    async def succeeded(self, work: Work, outcome: Outcome) -> None:
        """Its jobs have ended, also those that came while the store was writing."""
        ended: set[str] = set()
        while (jobs := [job for job in work.jobs if job not in ended]) or not ended:
            await self.ledger.insist(self.ledger.store.succeed, work.wanted.asset_key, jobs, outcome)
            ended.update(jobs or {""})
        self.ended(work, outcome)

    async def failed(self, work: Work, failure: Failure) -> None:
        """Its jobs have ended without files."""
        ended: set[str] = set()
        while jobs := [job for job in work.jobs if job not in ended]:
            await self.ledger.insist(self.ledger.store.fail, jobs, failure)
            ended.update(jobs)
        self.ended(work, failure)

    def ended(self, work: Work, result: Outcome | Failure) -> None:
        """Forget a work that is done."""
        for watcher in self.watchers:
            watcher.ended(work, result)
        jobs = list(work.jobs)
        if self.by_key.get(work.wanted.asset_key) is work:  # and not one that was asked for after this was canceled
            del self.by_key[work.wanted.asset_key]
            if isinstance(result, Failure):  # what was made of it
                shutil.rmtree(self.places.work / work.wanted.asset_key, ignore_errors=True)
        for job in jobs:
            self.of_job.pop(job, None)
        self.leave(work)
        self.ledger.notify(jobs)

    async def again(self, work: Work, crashed: bool = False) -> None:
        """To the front of the queue, unless it has killed as many processes as a job may."""
        crashes = await self.ledger.insist(self.ledger.store.requeue, list(work.jobs), crashed)
        if crashes >= CRASHES:
            await self.failed(work, CRASHED)
            return
        self.leave(work)
        if work.jobs:
            self.waiting.append(work, first=True)
            self.arrived.set()

    def too_large(self, process: Executor) -> bool:
        """Whether a process holds so much more memory than at its start that it had better be replaced."""
        if process.grown <= self.config.growth_bytes:
            return False
        log.warning("a process has grown by %d MiB; another one takes its place", process.grown >> 20)
        return True

    def restart(self, process: Executor, kind: str, reason: str) -> None:
        """Another process in place of one that died, hangs or has grown."""
        process.restart()
        for watcher in self.watchers:
            watcher.restarted(kind, reason)

    def leave(self, work: Work) -> None:
        """A work that had begun is no longer at it."""
        work.stage = "queued"
        self.begun.discard(work)
        self.room.release()
        if not work.jobs:
            self.spawn(self.clear(work.wanted))

    async def clear(self, wanted: Wanted) -> None:
        """Remove what was made of a request, as far as no job shows it or waits for it."""
        if wanted.asset_key in self.by_key:
            return
        shutil.rmtree(self.places.work / wanted.asset_key, ignore_errors=True)
        if await self.ledger.insist(self.ledger.store.drop_artifact, wanted.asset_key):
            await asyncio.to_thread(self.artifacts.delete, wanted.asset_key)
        if not await self.ledger.insist(self.ledger.store.has_field, wanted.field_key):
            self.places.field(wanted.field_key).unlink(missing_ok=True)


def used(path: Path) -> bool:
    """Whether a file is there; if so it counts as used now."""
    try:
        os.utime(path)
    except OSError:
        return path.exists()
    return True


def field_task(work: Work, places: Places) -> FieldTask:
    """What a generator process is told."""
    resolved = work.wanted.resolved
    blend = tuple(resolved["blend"]) if resolved["blend"] else None
    return FieldTask(places.field(work.field_key), resolved["prompt"], blend, resolved["seed"])


def finish_task(work: Work, places: Places, folder: Path) -> FinishTask:
    """What a mesh process is told."""
    resolved = work.wanted.resolved
    return FinishTask(
        places.field(work.field_key), folder, resolved["prompt"],
        settings_again(resolved).model_dump(mode="json"), tuple(f".{name}" for name in resolved["formats"]),
        work.warnings, resolved["seed"],
    )  # fmt: skip
