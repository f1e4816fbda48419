"""What may enter the queue: bounds of one request, of one key, of the disk, and of all that waits."""

import asyncio
import math

from scaledreamer.server.costs import Costs, check_cost
from scaledreamer.server.disk import Disk
from scaledreamer.server.flow import Flow
from scaledreamer.server.problems import FieldFault, ProblemError
from scaledreamer.server.records import Wanted
from scaledreamer.server.resolve import settings_again
from scaledreamer.server.settings import Settings


class Admission:
    """Asked before a job is created, by one request after the other (`turn`), so that no bound is passed."""

    def __init__(self, settings: Settings, flow: Flow, disk: Disk, costs: Costs) -> None:
        self.settings, self.flow, self.disk, self.costs = settings, flow, disk, costs
        self.turn = asyncio.Lock()

    async def check(self, wanted: Wanted, owner: str, idempotency: tuple[str, str] | None) -> None:
        """Raise a problem that says what to change, or when to come back."""
        check_cost(settings_again(wanted.resolved), self.settings.max_cost_seconds)
        await asyncio.to_thread(self.disk.check) if self.disk.due else self.disk.check()
        ledger = self.flow.ledger
        there, unfinished = await ledger.ask(ledger.store.standing, wanted.asset_key, owner, idempotency)
        if there:
            return
        most = self.settings.max_unfinished
        if unfinished >= most:
            detail = f"{unfinished} jobs of this key have not ended, and {most} is the limit; wait for some of them"
            raise ProblemError("too-many-in-flight", detail, headers={"retry-after": "5"})
        if wanted.asset_key not in self.flow.book.by_key:
            self.check_queue(wanted.cost)

    def check_queue(self, cost: float) -> None:
        """Raise a 503 when what waits, with this, is more than the processes may have before them."""
        waiting, most = self.flow.book.waiting, self.settings.max_queue_seconds
        if not len(waiting):
            return  # whatever one request costs, alone it may wait
        seconds = self.costs.seconds(waiting.cost + cost) / self.flow.works.config.mesh_processes
        if seconds > most:
            detail = f"{len(waiting)} works wait, with this one {seconds:.0f} s for the processes here"
            detail += f", and {most:g} is the limit"
            pause = str(max(1, math.ceil(seconds - most)))
            raise ProblemError(
                "queue-full", detail, errors=[FieldFault(field="queue", detail=detail)], headers={"retry-after": pause}
            )

    def eta(self, job: str) -> float | None:
        """Seconds until a job ends, as far as estimates tell; None for one that is not on its way."""
        book = self.flow.book
        work = book.of_job.get(job)
        if work is None:
            return None
        place = book.waiting.place(work)
        cost = work.wanted.cost * (1 - work.progress)
        if place is not None:
            running = sum(each.wanted.cost * (1 - each.progress) for each in book.begun)
            cost += (place[1] + running) / self.flow.works.config.mesh_processes
        return self.costs.seconds(cost)
