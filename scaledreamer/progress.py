"""A progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

PLAIN_EVERY = 30.0  # seconds between plain lines


class Speed(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0.0:.2f}/s")


class Progress:
    """Steps done of steps, with the last logged numbers beside them."""

    def __init__(self, total: int, done: int = 0, quiet: bool = False, unit: str = "steps") -> None:
        self.total, self.start, self.quiet, self.unit = total, done, quiet, unit
        self.began = self.printed = time.monotonic()
        self.bar: Bar | None = None
        if sys.stderr.isatty() and not quiet:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                Speed(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("", total=total, completed=done)

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, numbers: dict[str, float]) -> None:
        """Show the steps done and some numbers."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self.bar:
            self.bar.update(self.task, completed=done, description=text)
            return
        now = time.monotonic()
        if self.quiet or (now - self.printed < PLAIN_EVERY and done < self.total):
            return
        self.printed = now
        rate = (done - self.start) / max(1e-9, now - self.began)
        left = (self.total - done) / max(1e-9, rate)
        print(
            f"{self.unit} {done}/{self.total}  {rate:.2f}/s  {left / 60:.0f} min left  {text}",
            file=sys.stderr,
            flush=True,
        )


def warn(text: str) -> None:
    """A line that somebody should read, above the bar where there is one."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
