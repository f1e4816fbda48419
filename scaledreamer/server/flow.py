"""The job flow as routes see it (docs/adr/0003): jobs in, jobs followed, jobs canceled."""

import asyncio
import logging
import shutil
from dataclasses import replace

from scaledreamer.files import remove_partials
from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.book import Book
from scaledreamer.server.engine import Open, Places
from scaledreamer.server.ledger import Ledger
from scaledreamer.server.models import ModelFile
from scaledreamer.server.records import Failure, Record, Wanted
from scaledreamer.server.resolve import field_key, resolve_again
from scaledreamer.server.tasks import Tasks
from scaledreamer.server.works import Works, WorksConfig

log = logging.getLogger("scaledreamer.server")


class Draining(Exception):
    """The server is about to stop and accepts nothing."""


class Flow:
    """Everything between an accepted request and its files. Its methods run on the event loop."""

    def __init__(
        self, config: WorksConfig, places: Places, artifacts: Artifacts, model: ModelFile,
        open_generator: Open, open_mesher: Open,
    ) -> None:  # fmt: skip
        self.places, self.artifacts = places, artifacts
        self.ledger = Ledger()
        self.book = Book(places, artifacts, self.ledger, Tasks(), config.room)
        self.works = Works(config, self.book, model, open_generator, open_mesher)
        self.draining = False

    async def start(self) -> None:
        """Open the store, queue what an earlier process left, start the processes."""
        await self.ledger.open(self.places.database)
        shutil.rmtree(self.places.work, ignore_errors=True)
        for folder in (self.places.work, self.places.fields):
            folder.mkdir(parents=True, exist_ok=True)
        remove_partials(self.places.fields)
        for record in await self.ledger.ask(self.ledger.store.recover):
            self.book.add(await self.renamed(record))
        self.works.start()

    async def renamed(self, record: Record) -> Record:
        """A job that an earlier process accepted; of the model that runs now where its own field is not there."""
        wanted = record.wanted
        if wanted.field_key == field_key(wanted.resolved, self.model) or self.places.field(wanted.field_key).exists():
            return record
        again = resolve_again(wanted, self.model)
        await self.ledger.insist(self.ledger.store.rename, record.id, again)
        return replace(record, wanted=again)

    async def reload(self, model: ModelFile) -> Failure | None:
        """Put another model file in the place of the one that runs, without a failed request; why it could not be."""
        failure = await self.works.replace_model(model)
        if failure is None:
            log.info("the model is %s, sha256 %s", model.id, model.sha256)
        else:
            log.error("the model stays as it is: %s", failure.detail)
        return failure

    async def stop(self, seconds: float = 0.0) -> None:
        """Accept nothing, let what runs end within so many seconds, then end; what waits is kept for the next start."""
        self.draining = True
        ends = asyncio.get_running_loop().time() + seconds
        while self.book.busy and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.05)
        await self.works.stop()
        await self.ledger.close()

    @property
    def model(self) -> ModelFile:
        """The file of the model that answers new requests."""
        return self.works.engine.model

    @property
    def ready(self) -> bool:
        """Whether the model has generated."""
        return bool(self.works.engine.ready)

    @property
    def failure(self) -> Failure | None:
        """Why the model can never be used."""
        return self.works.engine.failure

    @property
    def accelerators(self) -> dict[str, str]:
        """What runs each part of the model."""
        return self.works.engine.loaded.accelerators

    async def submit(
        self, wanted: Wanted, owner: str = "", parent: str | None = None, idempotency: tuple[str, str] | None = None
    ) -> tuple[Record, bool]:
        """A job for it, queued or finished already; False for one that an idempotency key remembers.

        Raises Draining, KeyReused, and sqlite3.OperationalError when the store cannot be used now.
        """
        if self.draining:
            raise Draining
        record, new = await self.ledger.ask(self.ledger.store.create, wanted, owner, parent, idempotency)
        if new and record.status == "queued":
            self.book.add(record)
        return record, new

    async def cancel(self, job: str) -> Record | None:
        """End a job now, wherever it is; one that has ended stays as it is.

        Like `delete` it raises sqlite3.OperationalError when the store cannot be used now; then nothing has happened.
        """
        record = await self.ledger.ask(self.ledger.store.cancel, job)
        self.book.drop(job)
        self.ledger.notify([job])
        return record

    async def delete(self, job: str) -> None:
        """Cancel a job, and forget it and what it alone showed."""
        record = await self.ledger.get(job)
        await self.ledger.ask(self.ledger.store.delete, job)
        self.book.drop(job)
        if record is not None:
            await self.book.clear(record.wanted)
        self.ledger.notify([job])

    def progress(self, record: Record) -> tuple[str, float]:
        """Stage and progress, which for a running job are ahead of the store."""
        work = self.book.of_job.get(record.id)
        if record.status != "running" or work is None or work.progress < record.progress:
            return record.stage, record.progress
        return work.stage, work.progress
