"""How much room the disks have, and whether that is enough to take work."""

import shutil
import time
from pathlib import Path

from scaledreamer.server.problems import ProblemError

EVERY = 1.0  # second at most one look


class Disk:
    """The disks that data is written to. Below the mark nothing is accepted, until there is room again."""

    def __init__(self, folders: list[Path], least_bytes: int) -> None:
        self.folders, self.least_bytes = folders, least_bytes
        self.looked, self.free = float("-inf"), 0

    @property
    def due(self) -> bool:
        """Whether the next check looks at the disks, which may take long."""
        return time.monotonic() - self.looked >= EVERY

    def check(self) -> None:
        """Raise a 507 below the mark."""
        if self.due:
            self.looked, self.free = time.monotonic(), min(map(free_bytes, self.folders))
        if self.free < self.least_bytes:
            detail = f"{self.free / 2**20:.0f} MiB are free, and {self.least_bytes / 2**20:.0f} must stay so"
            detail += "; delete jobs or other files, and send it again"
            raise ProblemError("storage-full", detail, headers={"retry-after": "30"})


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder lies on."""
    return shutil.disk_usage(folder).free
