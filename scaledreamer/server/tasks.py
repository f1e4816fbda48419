"""Background tasks of the event loop that end together."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("scaledreamer.server")


class Tasks:
    """Tasks that nobody waits for: a failure is told, and all of them can be ended."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of its own."""
        task = asyncio.create_task(coroutine)
        self.running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.running.discard(task)
            if not task.cancelled() and task.exception() is not None:
                log.critical("a part of the job flow has ended", exc_info=task.exception())

        task.add_done_callback(ended)
        return task

    def cancel(self) -> None:
        """Ask all of them to end."""
        for task in self.running:
            task.cancel()

    async def ended(self) -> None:
        """When none runs any more."""
        await asyncio.gather(*self.running, return_exceptions=True)
