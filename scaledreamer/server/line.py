"""Works that wait, in their order: who is next, and how much work is before whom."""

from collections import OrderedDict
from collections.abc import Iterator

from scaledreamer.server.engine import Work


class Line:
    """A queue that knows its places; they are counted when somebody asks and kept until it changes."""

    def __init__(self) -> None:
        self.works: OrderedDict[Work, None] = OrderedDict()
        self.places: dict[Work, tuple[int, float]] | None = None

    def __len__(self) -> int:
        return len(self.works)

    def __contains__(self, work: Work) -> bool:
        return work in self.works

    def __iter__(self) -> Iterator[Work]:
        return iter(self.works)

    def append(self, work: Work, first: bool = False) -> None:
        """At the end, or at the front."""
        self.works[work] = None
        if first:
            self.works.move_to_end(work, last=False)
        self.places = None

    def pop(self) -> Work:
        """Who is next."""
        self.places = None
        return self.works.popitem(last=False)[0]

    def remove(self, work: Work) -> None:
        """Somebody who does not wait any more."""
        self.works.pop(work, None)
        self.places = None

    def place(self, work: Work) -> tuple[int, float] | None:
        """1 for the next one, and the estimated cost of all before; None for a work that does not wait."""
        if self.places is None:
            self.places, before = {}, 0.0
            for number, waiting in enumerate(self.works, 1):
                self.places[waiting] = number, before
                before += waiting.wanted.cost
        return self.places.get(work)

    @property
    def cost(self) -> float:
        """Of all that wait."""
        if not self.works:
            return 0.0
        last = next(reversed(self.works))
        place = self.place(last)
        return place[1] + last.wanted.cost if place else 0.0
