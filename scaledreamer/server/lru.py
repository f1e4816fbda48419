"""What was used last is kept, up to a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRU(Generic[Value]):
    """A dictionary that forgets what has not been asked for the longest."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[Value, int]]) -> Value:
        """What is kept under a key, or what `make` returns with its size in bytes; kept only where it fits."""
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key][0]
        value, size = make()
        if size <= self.most_bytes:
            self.kept[key] = value, size
            self.bytes += size
            while self.bytes > self.most_bytes:
                self.bytes -= self.kept.popitem(last=False)[1][1]
        return value
