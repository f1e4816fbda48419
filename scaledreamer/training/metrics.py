"""A run's numbers: one line a logging step in metrics.jsonl, and TensorBoard's events where it is installed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scaledreamer.files import atomic_path
from scaledreamer.progress import warn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS, BOARD = "metrics.jsonl", "tensorboard"
COUNTS = ("step", "skipped", "wall_s", "cpu_s", "core_s")  # in every row; the rest of a row is what the task logs


class Metrics:
    """The log of a run in its folder. A disk without room costs lines of the log, never the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board: SummaryWriter | None = None

    def open_board(self, step: int) -> None:
        """Write to TensorBoard too, hiding what it has of steps after this one; without the package, do nothing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        try:
            self.board = SummaryWriter(self.folder / BOARD, purge_step=step + 1)
        except OSError as error:
            self.give_up_board(error)

    def give_up_board(self, error: Exception) -> None:
        """Log without TensorBoard from here on."""
        self.board = None
        warn(f"{self.folder / BOARD} cannot be written ({error}); the run goes on without it")

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; one that does not fit on the disk as a whole is left out."""
        path = self.folder / METRICS
        try:
            with path.open("ab", buffering=0) as file:
                before, line = file.tell(), (json.dumps(row) + "\n").encode()
                try:
                    if file.write(line) != len(line):
                        raise OSError("no room for a whole line")
                except OSError:
                    file.truncate(before)
                    raise
        except OSError as error:
            warn(f"{path} has no line of step {row['step']} ({error}); the run goes on")
        if self.board is not None:
            try:
                for name, value in row.items():
                    if name not in COUNTS:
                        self.board.add_scalar(name, value, row["step"])
            except OSError as error:
                self.give_up_board(error)

    def picture(self, image: Image.Image, step: int) -> None:
        """Write preview/<step>.png."""
        path = self.folder / "preview" / f"{step:07d}.png"
        try:
            with atomic_path(path) as partial:
                image.save(partial, format="PNG")
            if self.board is not None:
                self.board.add_image("preview", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        except OSError as error:
            warn(f"{path} was not written ({error}); the run goes on")

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        if self.board is not None:
            try:
                self.board.close()
            except OSError as error:
                self.give_up_board(error)
        self.board = None

    def cut(self, step: int) -> None:
        """Drop rows of steps after a checkpoint; they will be made again."""
        path = self.folder / METRICS
        if path.exists():
            kept = [json.dumps(row) + "\n" for row in read_rows(path) if row["step"] <= step]
            with atomic_path(path) as partial:
                partial.write_text("".join(kept))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a line that a kill cut short."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
