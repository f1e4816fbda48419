"""The worker processes seen from the web process: start, warm, feed, and start again after a crash."""

import asyncio
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from scaledreamer.server import worker
from scaledreamer.server.jobs import Failure, JobStore, Outcome
from scaledreamer.server.worker import Factory, Task

log = logging.getLogger("scaledreamer.server")
LONGEST_PAUSE = 30.0  # seconds between attempts to start a worker that dies while it loads


class Worker:
    """One process behind one executor, so that a crash can only be this job's."""

    def __init__(self, factory: Factory, threads: int) -> None:
        self._factory, self._threads = factory, threads
        self.ready = False
        self._open()

    def _open(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._stage = context.RawValue("i", worker.IDLE)
        self._executor = ProcessPoolExecutor(
            1, mp_context=context, initializer=worker.start, initargs=(self._stage, self._threads)
        )

    async def warm(self) -> str | Failure:
        """The model's id once it is loaded and has generated; BrokenProcessPool when the process died meanwhile."""
        answer = await asyncio.wrap_future(self._executor.submit(worker.warm_up, self._factory))
        self.ready = isinstance(answer, str)
        return answer

    async def generate(self, task: Task, seconds: float) -> Outcome | Failure:
        """Run one job; TimeoutError when it takes longer, BrokenProcessPool when the process dies."""
        self._stage.value = worker.IDLE
        future = self._executor.submit(worker.generate, task)
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)

    @property
    def stage(self) -> int:
        return int(self._stage.value)

    def restart(self) -> None:
        """Another process in place of one that died or hangs."""
        self.close()
        self._open()

    def close(self) -> None:
        """End the process now; a job in it is lost."""
        self.ready = False
        # Python 3.14 calls this kill_workers(); shutdown alone would wait for the job.
        for process in list((self._executor._processes or {}).values()):
            process.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)


class Pool:
    """Takes jobs from the store in order and gives each to the next free worker."""

    def __init__(
        self,
        store: JobStore,
        factory: Factory,
        *,
        model_id: str,
        workers: int,
        threads: int,
        job_limit: float,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.model_id, self.job_limit = store, model_id, job_limit
        self.failure: Failure | None = None  # why the model can never be used
        self._factory, self._count, self._threads = factory, workers, threads
        self._on_failure = on_failure
        self._workers: list[Worker] = []
        self._runners: list[asyncio.Task[None]] = []
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._done: dict[str, asyncio.Event] = {}
        self._running: dict[str, Worker] = {}

    @property
    def ready(self) -> bool:
        return any(each.ready for each in self._workers)

    def start(self) -> None:
        self._workers = [Worker(self._factory, self._threads) for _ in range(self._count)]
        self._runners = [asyncio.create_task(self._run(each)) for each in self._workers]

    async def stop(self) -> None:
        for runner in self._runners:
            runner.cancel()
        for each in self._workers:
            each.close()
        await asyncio.gather(*self._runners, return_exceptions=True)

    def submit(self, job: str) -> None:
        """Queue a job that the store has accepted."""
        self._done[job] = asyncio.Event()
        self._queue.put_nowait(job)
        if self.failure is not None:
            self._finish(job, self.failure)

    async def wait(self, job: str, seconds: float) -> bool:
        """Whether the job has ended, after at most so many seconds."""
        event = self._done.get(job)
        if event is None:
            return True
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def observe(self, job: str) -> None:
        """Bring the stage of a running job up to date."""
        runner = self._running.get(job)
        if runner is not None and runner.stage == worker.EXPORT:
            self.store.advance(job, "export", 0.8)

    async def _run(self, each: Worker) -> None:
        if not await self._warm(each):
            return
        while True:
            job = await self._queue.get()
            if job not in self._done:
                continue
            try:
                result = await self._attempt(each, job)
            except Exception as error:  # a bug here must not end the runner
                log.exception("job %s", job)
                result = Failure("internal-error", f"{type(error).__name__}: {error}")
            self._finish(job, result)
            await asyncio.to_thread(self.store.sweep)
            if not each.ready and not await self._warm(each):
                return

    async def _attempt(self, each: Worker, job: str) -> Outcome | Failure:
        """Run a job. A worker that had died before it began is replaced first, and that costs the job nothing."""
        record = self.store.start(job)
        request = record.request
        folder = self.store.folder / job
        task = Task(job, folder.absolute(), request.prompt, request.resolution, tuple(request.formats))
        self._running[job] = each
        try:
            for _ in range(2):
                try:
                    return await each.generate(task, self.job_limit)
                except BrokenProcessPool:
                    begun = each.stage != worker.IDLE
                    each.restart()
                    if begun:
                        break
                    if not await self._warm(each):
                        return self.failure or Failure("model-unavailable", "the model could not be loaded again")
            log.error("the worker died during job %s; another one starts", job)
            detail = "the worker process died during this job; a new one has started, so it can be sent again"
            return Failure("worker-crashed", detail)
        except TimeoutError:
            each.restart()
            return Failure("deadline-exceeded", f"stopped after {self.job_limit:g} seconds; ask for a lower resolution")
        finally:
            self._running.pop(job, None)

    async def _warm(self, each: Worker) -> bool:
        """Until the worker answers. A model that cannot be loaded is final; a process that dies is tried again."""
        pause = 1.0
        while True:
            try:
                answer = await each.warm()
            except BrokenProcessPool:
                log.error("a worker died while it loaded the model; the next attempt is in %g s", pause)
                each.restart()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if isinstance(answer, str):
                self.model_id = answer
                return True
            self._give_up(answer)
            return False

    def _give_up(self, failure: Failure) -> None:
        log.error("the model cannot be used: %s", failure.detail)
        self.failure = failure
        for job in list(self._done):
            if job not in self._running:
                self._finish(job, failure)
        if self._on_failure is not None:
            self._on_failure(failure.detail)

    def _finish(self, job: str, result: Outcome | Failure) -> None:
        self.store.finish(job, result)
        event = self._done.pop(job, None)
        if event is not None:
            event.set()
