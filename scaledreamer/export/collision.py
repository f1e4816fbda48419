"""Simple convex stand-ins for a mesh, for physics: its box, its hull, or a few convex parts.

Inside, the mesh is moved and scaled until its longest side is 1, so a tolerance means the same for all.
"""

import io
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float64, Int64

from scaledreamer.errors import ExportError
from scaledreamer.export.child import ChildError, ask
from scaledreamer.export.geometry import area_vectors, principal_axes
from scaledreamer.export.hull import Hull
from scaledreamer.export.mesh import Mesh

Kind = Literal["none", "box", "hull", "convex"]

WORKER = Path(__file__).with_name("collision_worker.py")
PARTS = 16  # at most
FLAT, THICKNESS = 1e-4, 0.01  # of the longest side: what is thinner gets a box of this thickness
SAMPLES, INSIDE = 4096, 0.99  # of the surface; 98 % are promised
SWELLING = 1.25  # parts that must grow by more have lost a piece of the mesh
CUBE = np.array(  # corner 4 i + 2 j + k is at the high end of x, y, z where i, j, k are 1
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Collision:
    """Closed convex parts with outward faces and white vertices that together stand for a mesh."""

    parts: list[Mesh]
    kind: Kind  # what was made
    degraded: str | None  # why it is less than what was asked for


def collision(mesh: Mesh, kind: Kind, budget_s: float) -> Collision:
    """Parts of at most 64 vertices that hold 98 % of the surface or more: one, or up to 16 for `convex`.

    `convex` gives CoACD `budget_s` seconds in a process of its own, and falls back to a hull. What is flat gets a thin
    box.
    """
    if kind == "none":
        return Collision([], "none", None)
    points = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    if len(points) == 0:
        raise ExportError("cannot make a collision shape of a mesh without faces")
    corners, thin = box(points, np.eye(3) if kind == "box" else principal_axes(points))
    if thin or kind == "box":
        reason = f"the mesh is flat; its box is {THICKNESS:.0%} as thick as it is long" if thin else None
        return Collision([white(corners, CUBE)], "box", reason)

    middle, size = (points.min(axis=0) + points.max(axis=0)) / 2, np.ptp(points, axis=0).max()
    vertices = (mesh.vertices - middle) / size
    samples = sample_surface(vertices, mesh.faces)
    made: Kind = "hull"
    reason = None
    hulls: list[Hull] = []
    if kind == "convex":
        try:
            hulls, made = swell(decompose(vertices, mesh.faces, budget_s), samples), "convex"
        except ChildError as error:
            reason = f"a single hull, since CoACD made no convex parts: {error}"
    if not hulls:
        hulls = swell([Hull.around((points - middle) / size)], samples)
    return Collision([white(hull.vertices * size + middle, hull.faces) for hull in hulls], made, reason)


def white(vertices: Float64[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Mesh:
    """A white mesh."""
    return Mesh(vertices.astype(np.float32), faces, np.ones(vertices.shape, dtype=np.float32))


def box(
    points: Float64[np.ndarray, "N 3"], axes: Float64[np.ndarray, "3 3"]
) -> tuple[Float64[np.ndarray, "8 3"], bool]:
    """The corners, in the order of CUBE, of the box along the axes; whether it had to be thickened."""
    low, high = (points @ axes.T).min(axis=0), (points @ axes.T).max(axis=0)
    size = (high - low).max() or 1.0
    thin = high - low < FLAT * size
    middle, half = (low + high) / 2, THICKNESS * size / 2
    ends = np.stack([np.where(thin, middle - half, low), np.where(thin, middle + half, high)])
    return ends[np.indices((2, 2, 2)).reshape(3, 8).T, np.arange(3)] @ axes, bool(thin.any())


def sample_surface(vertices: Float64[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float64[np.ndarray, "N 3"]:
    """Points spread over the faces by area; always the same ones."""
    reached = np.cumsum(np.linalg.norm(area_vectors(vertices, faces), axis=1))
    face = np.searchsorted(reached, (np.arange(SAMPLES) + 0.5) / SAMPLES * reached[-1]).clip(0, len(faces) - 1)
    u, v = np.random.default_rng(0).random((2, SAMPLES, 1))
    a, b, c = (vertices[corner] for corner in faces[face].T)
    return np.asarray(a + np.sqrt(u) * (b - a + v * (c - b)))  # uniform: Osada et al., TOG 2002, Eq. 1


def decompose(vertices: Float64[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], budget_s: float) -> list[Hull]:
    """Approximately convex parts (CoACD, arXiv:2205.02961), each as its hull; ChildError says why there are none."""
    if find_spec("coacd") is None:
        raise ChildError("it is not installed; pip install 'scaledreamer[assets]' brings it")
    question = io.BytesIO()
    np.savez(question, vertices=vertices, faces=faces)
    command = [
        sys.executable,
        "-P",
        str(WORKER),
        str(PARTS),
        str(budget_s),
    ]  # -P: numpy must not meet our modules' names
    try:
        with np.load(io.BytesIO(ask(command, question.getvalue(), budget_s)), allow_pickle=False) as answer:
            parts = [answer[name] for name in answer.files]
    except (BadZipFile, EOFError, OSError, ValueError) as error:
        raise ChildError(f"its answer cannot be read: {error}") from error
    if not all(part.ndim == 2 and part.shape[1] == 3 and np.isfinite(part).all() for part in parts):
        raise ChildError("its parts are no points in space")
    hulls = [Hull.around(part) for part in parts if not box(part, principal_axes(part))[1]]
    if not 1 <= len(hulls) <= PARTS:
        raise ChildError(f"it found {len(hulls)} parts that have a volume; 1 to {PARTS} are wanted")
    return hulls


def swell(hulls: list[Hull], samples: Float64[np.ndarray, "N 3"]) -> list[Hull]:
    """The hulls, each grown about its middle by the least common factor with which they hold INSIDE of the samples."""
    needed = np.min([hull.factors(samples) for hull in hulls], axis=0)
    factor = max(1.0, float(np.quantile(needed, INSIDE, method="higher")))
    if len(hulls) > 1 and factor > SWELLING:
        raise ChildError(f"its parts would have to grow by {factor - 1:.0%} to hold the surface")
    return [hull.grown(factor) for hull in hulls]
