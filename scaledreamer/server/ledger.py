"""The job store as the event loop uses it: in a thread of its own, insisting where it must, waking those who wait."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from scaledreamer.server.records import ACTIVE, Event, Record
from scaledreamer.server.store import JobStore

log = logging.getLogger("scaledreamer.server")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Ledger:
    """One store, one thread. Its methods run on the event loop."""

    def __init__(self, retry_seconds: float = 0.5) -> None:
        self.retry_seconds = retry_seconds  # between attempts to write to a full disk or a locked database
        self.changed = WeakValueDictionary[str, asyncio.Event]()  # of jobs, as long as somebody waits for them
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def open(self, path: Path) -> None:
        """Before anything else."""
        self.store = await self.ask(JobStore, path)

    async def close(self) -> None:
        """After everything else."""
        if hasattr(self, "store"):
            await self.ask(self.store.close)
        self.thread.shutdown()

    async def ask(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """A call of the store, in its thread. Raises sqlite3.OperationalError when it cannot be used now."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, lambda: call(*args, **kwargs))

    async def insist(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """The same, again and again while the disk is full or the database locked: what has happened must be noted."""
        while True:
            try:
                return await self.ask(call, *args, **kwargs)
            except sqlite3.OperationalError as error:
                log.error("the job store cannot be written (%s); trying again", error)
                await asyncio.sleep(self.retry_seconds)

    async def mention(self, note: Callable[..., None], jobs: list[str], *values: Any) -> None:
        """Write what is good to know about jobs; a full disk may lose it."""
        with contextlib.suppress(sqlite3.Error):
            await self.ask(note, jobs, *values)
        self.notify(jobs)

    def notify(self, jobs: Iterable[str]) -> None:
        """Wake those who wait for news of these jobs."""
        for job in jobs:
            event = self.changed.pop(job, None)
            if event is not None:
                event.set()

    async def get(self, job: str) -> Record | None:
        """The job now."""
        return await self.ask(self.store.get, job)

    async def wait(self, job: str, seconds: float) -> Record | None:
        """The job when it has ended, or as it is after so many seconds."""
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            changed = self.changed.setdefault(job, asyncio.Event())
            record = await self.get(job)
            left = ends - asyncio.get_running_loop().time()
            if record is None or record.status not in ACTIVE or left <= 0:
                return record
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left)

    async def events(self, job: str, after: int, seconds: float) -> list[Event]:
        """Events of a job beyond a number, as soon as there are some; none after so many seconds."""
        changed = self.changed.setdefault(job, asyncio.Event())
        found = await self.ask(self.store.events, job, after)
        if not found and seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), seconds)
            found = await self.ask(self.store.events, job, after)
        return list(found)
