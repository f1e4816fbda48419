"""All works that have not ended: which jobs want them, who is next, and how each ends."""

import asyncio
import shutil

from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.engine import Places, Watcher, Work
from scaledreamer.server.ledger import Ledger
from scaledreamer.server.line import Line
from scaledreamer.server.records import Failure, Outcome, Record, Wanted
from scaledreamer.server.tasks import Tasks

CRASHES = 2  # processes that a job may kill
CRASHED = Failure("worker-crashed", "two worker processes died during this job; it is not tried again")


class Book:
    """What is wanted, what waits, and what `room` works at once are at. It knows no process but to kill it."""

    def __init__(self, places: Places, artifacts: Artifacts, ledger: Ledger, tasks: Tasks, room: int) -> None:
        self.places, self.artifacts, self.ledger, self.tasks = places, artifacts, ledger, tasks
        self.by_key: dict[str, Work] = {}
        self.of_job: dict[str, Work] = {}
        self.waiting = Line()
        self.arrived = asyncio.Event()  # something waits
        self.room = asyncio.Semaphore(room)
        self.begun: set[Work] = set()  # and not ended
        self.watchers: list[Watcher] = []

    @property
    def busy(self) -> int:
        """Works that have begun and not ended."""
        return len(self.begun)

    def add(self, record: Record) -> None:
        """Attach a queued job to its work, a new one at the end of the queue if there is none."""
        work = self.by_key.get(record.wanted.asset_key)
        if work is None:
            work = Work(record.wanted)
            self.by_key[record.wanted.asset_key] = work
            self.waiting.append(work)
            self.arrived.set()
        elif work not in self.waiting:
            self.tasks.spawn(self.ledger.mention(self.ledger.store.begin, [record.id]))
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

    async def next(self) -> Work:
        """Whose turn it is, as soon as there is room and something waits. It has begun."""
        await self.room.acquire()
        while not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        work = self.waiting.pop()
        self.begun.add(work)
        self.reach(work, "generate", 0.02)
        await self.ledger.insist(self.ledger.store.begin, list(work.jobs))
        self.ledger.notify(work.jobs)
        return work

    def reach(self, work: Work, stage: str, progress: float) -> None:
        """A running work has come to a stage."""
        if stage != work.stage or progress > work.progress:
            work.stage, work.progress = stage, max(progress, work.progress)
            if stage != "generate":
                self.tasks.spawn(self.ledger.mention(self.ledger.store.reach, list(work.jobs), stage, work.progress))

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

    def leave(self, work: Work) -> None:
        """A work that had begun is no longer at it."""
        work.stage = "queued"
        self.begun.discard(work)
        self.room.release()
        if not work.jobs:
            self.tasks.spawn(self.clear(work.wanted))

    async def clear(self, wanted: Wanted) -> None:
        """Remove what was made of a request, as far as no job shows it or waits for it."""
        if wanted.asset_key in self.by_key:
            return
        shutil.rmtree(self.places.work / wanted.asset_key, ignore_errors=True)
        if await self.ledger.insist(self.ledger.store.drop_artifact, wanted.asset_key):
            await asyncio.to_thread(self.artifacts.delete, wanted.asset_key)
        if not await self.ledger.insist(self.ledger.store.has_field, wanted.field_key):
            self.places.field(wanted.field_key).unlink(missing_ok=True)
