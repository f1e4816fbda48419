"""Works go through processes: their fields, their assets, and what happens when a process dies (docs/adr/0003)."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from scaledreamer.files import remove_partials
from scaledreamer.server.book import Book
from scaledreamer.server.engine import Engine, Executor, Open, Places, Work
from scaledreamer.server.finishing import FinishTask, Warm
from scaledreamer.server.generating import FieldTask, Made, failure_of
from scaledreamer.server.models import ModelFile
from scaledreamer.server.process import ProcessDied
from scaledreamer.server.records import Failure
from scaledreamer.server.resolve import field_key, settings_again

log = logging.getLogger("scaledreamer.server")
GENERATED = 0.15  # of the progress, when the field is there
OTHER_MODEL = Failure("model-changed", "the field is gone, and the model that made it is not loaded; generate it again")


@dataclass(frozen=True)
class WorksConfig:
    """How many processes, and how long."""

    generators: int
    mesh_processes: int
    batch: int  # fields made in one pass
    job_seconds: float  # a work's longest stay in one process
    growth_bytes: int = 2**30  # of a process's memory, after which it is replaced

    @property
    def room(self) -> int:
        """Works that are begun at once: one in each mesh process, and whole batches before them."""
        return self.mesh_processes + self.generators * self.batch


class Works:
    """The processes of this server, and what they do with the works in the book."""

    def __init__(
        self, config: WorksConfig, book: Book, model: ModelFile, open_generator: Open, open_mesher: Open
    ) -> None:
        self.config, self.book, self.places, self.tasks = config, book, book.places, book.tasks
        self.open_generator, self.open_mesher = open_generator, open_mesher
        self.engine = Engine(model)
        self.engines = [self.engine]
        self.meshers: list[Executor] = []
        self.in_flight: dict[str, list[Work]] = {}  # by the key of the field that is being made
        self.to_finish: asyncio.Queue[Work] = asyncio.Queue()
        self.on_failure: Callable[[str], None] | None = None  # hears why the model cannot be used

    def start(self) -> None:
        """Start the processes."""
        self.begin(self.engine)
        self.meshers = [self.open_mesher() for _ in range(self.config.mesh_processes)]
        for number in range(len(self.meshers)):
            self.tasks.spawn(self.run_mesher(number))
        self.tasks.spawn(self.dispatch())

    def begin(self, engine: Engine) -> None:
        """Generator processes for a model."""
        engine.processes = [self.open_generator(engine.model) for _ in range(self.config.generators)]
        engine.tasks = [
            self.tasks.spawn(self.run_generator(engine, number)) for number in range(self.config.generators)
        ]

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
        self.tasks.spawn(self.retire(old))
        return None

    async def retire(self, engine: Engine) -> None:
        """End the processes of a model when nothing that it must make is left."""
        while any(
            field_key(work.wanted.resolved, engine.model) == work.field_key
            for work in (*self.book.waiting, *self.book.begun)
        ):
            await asyncio.sleep(0.1)
        self.engines.remove(engine)
        engine.close()

    async def stop(self) -> None:
        """End all processes now."""
        self.tasks.cancel()
        for process in self.meshers:
            process.close()
        for engine in self.engines:
            engine.close()
        await self.tasks.ended()

    async def dispatch(self) -> None:
        """As soon as there is room: the next work to a generator, or past it where the field is there."""
        while True:
            await self.forward(await self.book.next())

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
                await self.book.failed(work, OTHER_MODEL)
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
        for watcher in self.book.watchers:
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
                    await self.book.again(one, crashed=len(batch) == 1 and not death.idle)
            return False
        for work, answer in zip(batch, answers, strict=True):
            work.seconds += (time.monotonic() - began) / len(batch)
            if isinstance(answer, Made):
                for one in self.in_flight.pop(work.field_key, [work]):
                    self.book.reach(one, "extract", GENERATED)
                    self.to_finish.put_nowait(one)
            else:
                await self.fields_failed([work], answer)
        return True

    async def fields_failed(self, batch: Iterable[Work], failure: Failure) -> None:
        """No field: every work that waited for it has failed."""
        for work in batch:
            for one in self.in_flight.pop(work.field_key, [work]):
                await self.book.failed(one, failure)

    async def run_mesher(self, number: int) -> None:
        """One mesh process: asset after asset."""
        await self.warm(number)
        while True:
            if self.too_large(self.meshers[number]):
                self.restart(self.meshers[number], "mesh", "grown")
                await self.warm(number)
            work = await self.to_finish.get()
            if not work.jobs:
                self.book.leave(work)
                continue
            try:
                await self.finish(self.meshers[number], work)
            except ProcessDied as death:
                self.restart(self.meshers[number], "mesh", "failed")
                if work.jobs:
                    log.error("a mesh process died; another one starts")
                    await self.book.again(work, crashed=not death.idle)
                else:
                    self.book.leave(work)
            except TimeoutError:
                self.restart(self.meshers[number], "mesh", "failed")
                detail = f"stopped after {self.config.job_seconds:g} seconds; ask for less"
                await self.book.failed(work, Failure("deadline-exceeded", detail))
            except Exception as error:
                log.exception("a work")
                await self.book.failed(work, failure_of(error))

    async def warm(self, number: int) -> None:
        """A mesh process imports what it needs; its memory is counted from there."""
        with contextlib.suppress(Exception):  # if something is wrong the first work says so
            await self.meshers[number].call(Warm())

    async def finish(self, process: Executor, work: Work) -> None:
        """The files of a work, from its field to their place."""
        if not await asyncio.to_thread(used, self.places.field(work.field_key)):
            await self.book.again(work)  # the field has been removed since
            return
        if not work.jobs:  # nobody has wanted it since it was taken, and there was no process to kill yet
            self.book.leave(work)
            return
        folder = self.places.work / work.wanted.asset_key
        work.process, began = process, time.monotonic()
        try:
            answer = await process.call(
                finish_task(work, self.places, folder),
                lambda said: self.book.reach(work, said[0], GENERATED + (0.98 - GENERATED) * said[1]),
                self.config.job_seconds,
            )
        finally:
            work.process = None
        work.seconds += time.monotonic() - began
        if isinstance(answer, Failure):
            await self.book.failed(work, answer)
            return
        try:
            await asyncio.to_thread(self.book.artifacts.put, work.wanted.asset_key, folder)
        except OSError as error:
            await self.book.failed(work, failure_of(error))
            return
        await self.book.succeeded(work, answer)

    def too_large(self, process: Executor) -> bool:
        """Whether a process holds so much more memory than at its start that it had better be replaced."""
        if process.grown <= self.config.growth_bytes:
            return False
        log.warning("a process has grown by %d MiB; another one takes its place", process.grown >> 20)
        return True

    def restart(self, process: Executor, kind: str, reason: str) -> None:
        """Another process in place of one that died, hangs or has grown."""
        process.restart()
        for watcher in self.book.watchers:
            watcher.restarted(kind, reason)


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
        resolved["seed"],
    )  # fmt: skip
