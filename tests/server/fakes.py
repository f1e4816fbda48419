"""A pipeline without a model: every prompt is a ball, but for the words that ask for trouble."""

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaledreamer.errors import EmptySurfaceError, ModelFileError, PromptError

if TYPE_CHECKING:
    from scaledreamer.export import Mesh

SLOW = 1.5  # seconds that a slow prompt takes
RADIUS = 0.5


class BallPipeline:
    """What `TextTo3D` looks like to the server."""

    model_id = "ball"

    def warnings(self, prompt: str) -> list[str]:
        return ["the last words were not read"] if len(prompt.split()) > 20 else []

    def __call__(self, prompt: str, resolution: int = 128) -> Any:
        if "crash" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "slow" in prompt:
            time.sleep(SLOW)
        if "nothing" in prompt:
            raise EmptySurfaceError("the field has no zero level; try another prompt")
        if "refused" in prompt:
            raise PromptError("this prompt is refused")
        if "broken" in prompt:
            raise RuntimeError("a fault of the program")
        if "disk" in prompt:
            raise OSError(28, "No space left on device")
        return self.mesh(resolution // 4)

    def mesh(self, rings: int) -> Any:
        return ball(rings)


class TrianglePipeline(BallPipeline):
    """For tests of everything but the mesh: it starts without torch, which the export imports."""

    def mesh(self, rings: int) -> Any:
        return Triangle()


class Triangle:
    """Files that only look like files."""

    vertices, faces = np.eye(3, dtype=np.float32), np.arange(3)[None]

    def write(self, path: Path, extras: object = None) -> None:
        path.write_bytes(b"glTF")


def ball(rings: int) -> "Mesh":
    """A ball of radius 1/2, red at the top."""
    from scaledreamer.export import Mesh

    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.arange(2 * rings) * np.pi / rings, indexing="ij")
    unit = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(rings), np.arange(2 * rings), indexing="ij")
    a, b = row * 2 * rings + column, row * 2 * rings + (column + 1) % (2 * rings)
    quads = np.stack([a, a + 2 * rings, b + 2 * rings, a, b + 2 * rings, b], -1)
    colors = np.clip(np.stack([0.6 + 0.4 * unit[:, 2], 0.5 + 0 * unit[:, 2], 0.6 - 0.4 * unit[:, 2]], -1), 0, 1)
    return Mesh((RADIUS * unit).astype(np.float32), quads.reshape(-1, 3).astype(np.int64), colors.astype(np.float32))


def balls() -> BallPipeline:
    """The factory; it runs in the worker."""
    return BallPipeline()


def triangles() -> BallPipeline:
    """The quick factory."""
    return TrianglePipeline()


def missing() -> BallPipeline:
    """A model that is not there."""
    time.sleep(0.3)
    raise ModelFileError("no model at 'barrel.safetensors'; give a path or leave it out")


class DiesOnce:
    """A worker that dies the first time it loads, as when memory runs out for a moment."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self) -> BallPipeline:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return TrianglePipeline()
