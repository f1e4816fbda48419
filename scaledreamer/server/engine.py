"""The processes behind the flow: generators of one model, and mesh processes. Each serves one queue."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scaledreamer.server.database import FILE
from scaledreamer.server.generating import Load, Loaded
from scaledreamer.server.models import ModelFile
from scaledreamer.server.process import ProcessDied, Tell
from scaledreamer.server.records import Failure, Outcome, Wanted

log = logging.getLogger("scaledreamer.server")
LONGEST_PAUSE = 30.0  # seconds between attempts to start a process that dies while it loads


class Executor(Protocol):
    """What the flow needs of a process; one on this machine (`Process`) or elsewhere."""

    async def call(self, task: Any, tell: Tell | None = None, seconds: float | None = None) -> Any: ...
    def restart(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...  # kill, and no restart follows

    @property
    def grown(self) -> int: ...  # bytes of memory, since its first answer


Open = Callable[..., Executor]


@dataclass(eq=False)
class Work:
    """Something to compute, and the jobs that want it."""

    wanted: Wanted
    jobs: dict[str, None] = field(default_factory=dict)  # in order
    stage: str = "queued"
    progress: float = 0.0
    alone: bool = False  # it was in a process that died with others in it
    seconds: float = 0.0  # that processes were at it
    process: Executor | None = None  # the mesh process that is at it

    @property
    def field_key(self) -> str:
        return self.wanted.field_key


class Watcher:
    """Hears what happens to works and processes; says nothing back."""

    def ended(self, work: Work, result: Outcome | Failure) -> None:
        """A work has succeeded or failed; its jobs are still attached."""

    def batched(self, count: int) -> None:
        """So many fields were asked for in one pass."""

    def restarted(self, kind: str, reason: str) -> None:
        """A "generator" or "mesh" process has been replaced, for it "failed" or has "grown"."""


class Engine:
    """Generator processes of one model file, and the works that wait for them."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self.queue: asyncio.Queue[Work] = asyncio.Queue()
        self.processes: list[Executor] = []
        self.tasks: list[asyncio.Task[None]] = []  # one a process
        self.ready: set[int] = set()  # numbers of processes that have generated
        self.loaded = Loaded({})
        self.failure: Failure | None = None  # why the model can never be used

    async def load(self, number: int) -> bool:
        """Until the process has generated. A model that cannot be loaded is final; a death is tried again."""
        pause = 1.0
        self.ready.discard(number)
        while True:
            try:
                answer = await self.processes[number].call(Load())
            except ProcessDied:
                log.error("a generator process died while it loaded the model; next attempt in %g s", pause)
                await asyncio.sleep(pause)
                self.processes[number].restart()
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except Exception as error:
                self.failure = Failure("model-unavailable", str(error))
                log.error("the model cannot be used: %s", error)
                return False
            self.hear(answer)
            self.ready.add(number)
            return True

    def hear(self, said: Any) -> None:
        """What a process says of the model it holds."""
        self.loaded = said

    async def take(self, most: int) -> list[Work]:
        """The next works, as many as wait already; one that is suspected of killing a process comes alone."""
        batch = [await self.queue.get()]
        while len(batch) < most and not batch[0].alone and not self.queue.empty():
            following = self.queue.get_nowait()
            if following.alone:
                self.queue.put_nowait(following)
                break
            batch.append(following)
        return batch

    def close(self) -> None:
        """End the processes now."""
        self.ready.clear()
        for task in self.tasks:
            task.cancel()
        for process in self.processes:
            process.close()


@dataclass(frozen=True)
class Places:
    """Where the flow keeps what is on its way."""

    data: Path

    @property
    def database(self) -> Path:
        return self.data / FILE

    @property
    def fields(self) -> Path:
        return self.data / "fields"

    @property
    def work(self) -> Path:
        return self.data / "work"

    def field(self, key: str) -> Path:
        """The file of a field."""
        return self.fields / f"{key}.safetensors"
