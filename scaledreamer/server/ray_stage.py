"""What runs on machines of a Ray cluster: a replica of a stage, which is the parent of one of our own processes."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scaledreamer.errors import ConfigError
from scaledreamer.files import atomic_path
from scaledreamer.server.child import Handler
from scaledreamer.server.parcels import Parcel, collect, unpack
from scaledreamer.server.process import Process, ProcessDied

END = object()
Word = tuple[str, Any]  # begun, said, answer, error, late or died, and what of it


@dataclass(frozen=True)
class SentModel:
    """A model file that lies in Ray's object store."""

    name: str  # of the file
    sha256: str
    content: Any  # a reference to the bytes


@dataclass(frozen=True)
class Order:
    """What a replica needs to build its handler. It comes with every call, for a replica may be new."""

    version: str  # of this package
    factory: Callable[..., Handler]  # takes the path of the model if one is sent
    threads: int
    growth_bytes: int  # of the process's memory, after which another one takes its place
    model: SentModel | None = None


class Stage:
    """One replica, asked one thing at a time.

    The handler runs in a process of its own as on one machine, so the replica answers Ray while a library holds the
    interpreter's lock, and a canceled call costs that process and not the replica.
    """

    def __init__(self) -> None:
        self.process: Process | None = None

    async def __call__(self, order: Order, parcel: Parcel, seconds: float | None) -> AsyncIterator[Word]:
        """Words until the last, which is one of answer (with files, and bytes grown), error, late and died."""
        yield "begun", None
        last: Word
        try:
            process = self.process = self.process or await self.open(order)
        except Exception as error:
            yield "error", error
            return
        with TemporaryDirectory(prefix="scaledreamer-", ignore_cleanup_errors=True) as folder:
            said: asyncio.Queue[Any] = asyncio.Queue()
            whole = False
            try:
                task = await asyncio.to_thread(unpack, parcel, Path(folder))
                call = asyncio.ensure_future(process.call(task, said.put_nowait, seconds))
                call.add_done_callback(lambda _: said.put_nowait(END))
                while (word := await said.get()) is not END:
                    yield "said", word
                answer = call.result()
                files = await asyncio.to_thread(collect, task, answer)
                whole, last = process.grown <= order.growth_bytes, ("answer", (answer, files, process.grown))
            except ProcessDied as death:
                last = "died", death.idle
            except TimeoutError:
                last = "late", None
            except Exception as error:  # the handler's own: its process is well
                whole, last = True, ("error", error)
            finally:  # also when the call has been canceled
                if not whole:
                    process.restart()
        yield last

    async def open(self, order: Order) -> Process:
        """A process for the handler."""
        import scaledreamer

        if order.version != scaledreamer.__version__:
            raise ConfigError(
                f"a machine of the cluster has ScaleDreamer {scaledreamer.__version__}, the server {order.version}; "
                "install the same on all"
            )
        factory = order.factory
        if order.model is not None:
            factory = partial(factory, str(await kept(order.model)))
        return Process(factory, order.threads)

    def __del__(self) -> None:
        if self.process is not None:
            with suppress(Exception):
                self.process.kill()


async def kept(model: SentModel) -> Path:
    """The model as a file of this machine; fetched once, known by its hash."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "scaledreamer" / "models" / model.sha256 / model.name
    if not await asyncio.to_thread(is_of, path, model.sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = await model.content
        with atomic_path(path) as partial_file:
            await asyncio.to_thread(partial_file.write_bytes, content)
    return path


def is_of(path: Path, sha256: str) -> bool:
    """Whether a file is there, and is the one of this hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
