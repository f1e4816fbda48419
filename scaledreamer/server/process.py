"""A process of our own, seen from the web process: it is asked one thing at a time, may die, and can be killed."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from scaledreamer.server import child
from scaledreamer.server.recycling import resident_bytes

Tell = Callable[[Any], None]


class ProcessDied(Exception):
    """The process ended before it answered; `idle` if before it was asked, so that no task is to blame."""

    def __init__(self, idle: bool = False) -> None:
        self.idle = idle


class Process:
    """One child that holds one handler (`child.Handler`), built by `factory` inside it.

    `call` may be used by one task at a time. A child that was killed, or has died, is replaced by `restart`.
    """

    def __init__(self, factory: child.Factory, threads: int) -> None:
        self.factory, self.threads = factory, threads
        self.open()

    def open(self) -> None:
        """Start the child; it builds its handler at the first call."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.pipe: Connection = ours
        self.process: SpawnProcess = context.Process(
            target=child.run, args=(theirs, self.factory, self.threads), daemon=False
        )
        self.process.start()
        theirs.close()
        self.first = 0  # bytes of memory at its first answer

    @property
    def pid(self) -> int:
        """Of the child."""
        return self.process.pid or 0

    async def call(self, task: Any, tell: Tell | None = None, seconds: float | None = None) -> Any:
        """The handler's answer; what it says meanwhile goes to `tell`.

        Raises ProcessDied, TimeoutError (the child still runs; kill it), and whatever the handler raised.
        """
        if not self.process.is_alive():
            raise ProcessDied(idle=True)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        threading.Thread(
            target=self._talk, args=(self.pipe, task, loop, done, tell or (lambda _: None)), daemon=True
        ).start()
        answer = await asyncio.wait_for(asyncio.shield(done), seconds)
        self.first = self.first or resident_bytes(self.pid)
        return answer

    @property
    def grown(self) -> int:
        """Bytes of memory that the child holds beyond those of its first answer."""
        return resident_bytes(self.pid) - self.first if self.first else 0

    def _talk(
        self, pipe: Connection, task: Any, loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], tell: Tell
    ) -> None:
        """In a thread: the pipe blocks."""

        def settle(answer: Any, error: BaseException | None = None) -> None:
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(answer)
                done.exception()  # one that nobody waits for any more is no complaint

        def post(what: Callable[..., Any], *values: Any) -> None:
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(what, *values)

        try:
            pipe.send(task)
            while True:
                kind, value = pipe.recv()
                if kind == "said":
                    post(tell, value)
                else:
                    return post(settle, value if kind == "answer" else None, None if kind == "answer" else value)
        except Exception:  # the end of the pipe, or half a message
            post(settle, None, ProcessDied())

    def kill(self) -> None:
        """End the child and its children now."""
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32" or not self.process.is_alive():
                self.process.kill()
            else:
                os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()  # its end of the pipe closes, and with that `_talk` lets go of ours
        threading.Thread(target=self.process.join, daemon=True).start()  # no zombie stays

    def close(self) -> None:
        """End the child for good."""
        self.kill()

    def restart(self) -> None:
        """Another child in place of this one."""
        self.kill()
        self.open()
