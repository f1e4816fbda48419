"""What is done now and then: files that are too old, too many, or nobody's are removed."""

import asyncio
import logging
from pathlib import Path

from scaledreamer.server.artifacts import Artifacts
from scaledreamer.server.flow import Flow
from scaledreamer.server.settings import Settings

log = logging.getLogger("scaledreamer.server")


class Housekeeping:
    """Retention of jobs, artifacts and fields."""

    def __init__(self, settings: Settings, flow: Flow, artifacts: Artifacts) -> None:
        self.settings, self.flow, self.artifacts = settings, flow, artifacts

    async def run(self) -> None:
        """Until it is canceled; what fails is tried again next time."""
        await self.tidy(self.sweep_orphans)
        while True:
            await self.tidy(self.sweep)
            await asyncio.sleep(self.settings.sweep_seconds)

    async def tidy(self, chore: object) -> None:
        """One chore, whose failure is told and not raised."""
        try:
            await chore()  # type: ignore[operator]
        except Exception:
            log.exception("housekeeping")

    async def sweep(self) -> None:
        """Expire jobs and remove what they alone held; keep the newest fields."""
        flow = self.flow
        for key in await flow.ledger.ask(
            flow.ledger.store.sweep, self.settings.keep_days * 86400, self.settings.keep_bytes
        ):
            await asyncio.to_thread(self.artifacts.delete, key)
        needed = {work.field_key for work in flow.book.by_key.values()}
        await asyncio.to_thread(trim, flow.places.fields, self.settings.keep_field_bytes, needed)

    async def sweep_orphans(self) -> None:
        """Artifacts that an earlier process wrote and did not live to note."""
        flow = self.flow
        there = await asyncio.to_thread(self.artifacts.keys)
        known = {*await flow.ledger.ask(flow.ledger.store.artifacts), *flow.book.by_key}
        for key in there:
            if key not in known and key not in flow.book.by_key:
                await asyncio.to_thread(self.artifacts.delete, key)


def trim(folder: Path, most_bytes: int, needed: set[str]) -> None:
    """Remove the files that have not been used the longest, beyond a number of bytes; never those that are needed."""
    files = [(path, path.stat()) for path in folder.glob("*.safetensors")]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda pair: pair[1].st_mtime):
        if total <= most_bytes:
            return
        if path.stem not in needed:
            path.unlink(missing_ok=True)
            total -= stat.st_size
