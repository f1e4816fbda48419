"""A mesh made coarser by clusters of vertices: plainer than by its edges, and never at a loss."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float32, Float64

from scaledreamer.export.cleanup import FLAT
from scaledreamer.export.geometry import area_vectors, principal_axes
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.repair import make_manifold, orient

STEPS = 12  # of the search for a cell size: to a few thousandths of it


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame in which a long or flat shape is as thick as it is wide: about its middle, deviations of one."""

    middle: Float64[np.ndarray, " 3"]
    axes: Float64[np.ndarray, "3 3"]  # rows: unit, right-handed
    sizes: Float64[np.ndarray, " 3"]  # along them

    @classmethod
    def of(cls, vertices: Float32[np.ndarray, "V 3"]) -> Self:
        """The frame of the vertices; what has no thickness gets none."""
        places = vertices.astype(np.float64)
        middle, axes = places.mean(axis=0), principal_axes(places)
        sizes = ((places - middle) @ axes.T).std(axis=0)
        return cls(middle, axes, np.maximum(sizes, max(FLAT * sizes.max(), float(np.finfo(np.float32).tiny))))

    def enter(self, mesh: Mesh) -> Mesh:
        """The mesh in this frame."""
        places = (mesh.vertices - self.middle) @ (self.axes.T / self.sizes)
        return replace(mesh, vertices=places.astype(np.float32))

    def leave(self, mesh: Mesh) -> Mesh:
        """The mesh back where it was."""
        places = mesh.vertices.astype(np.float64) * self.sizes @ self.axes + self.middle
        return replace(mesh, vertices=places.astype(np.float32))


def clustered(mesh: Mesh, cell: float) -> Mesh:
    """The mesh, repaired, with all vertices in one cell of a lattice drawn together in their middle.

    After Rossignac and Borrel (Multi-resolution 3D approximations for rendering complex scenes, 1993). What was closed
    stays closed. Colours and normals mean nothing.
    """
    cells = ((mesh.vertices - mesh.vertices.min(axis=0).astype(np.float64)) / cell).astype(np.int64)
    _, cluster, sharing = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    cluster = cluster.ravel()
    sums = [np.bincount(cluster, weights=along) for along in mesh.vertices.T]
    vertices = (np.stack(sums, axis=1) / sharing[:, None]).astype(np.float32)
    return orient(make_manifold(Mesh(vertices, cluster[mesh.faces], np.zeros_like(vertices))))


def clustered_to(mesh: Mesh, faces: int) -> Mesh:
    """The mesh clustered in the cells that are found to leave the most faces, but at most so many."""
    side = spacing(mesh, faces)
    low, high, best = side / 16, side * 16, clustered(mesh, side * 16)
    for _ in range(STEPS):
        cell = np.sqrt(low * high)
        found = clustered(mesh, cell)
        low, high = (cell, high) if len(found.faces) > faces else (low, cell)
        if len(best.faces) < len(found.faces) <= faces:
            best = found
    return best


def spacing(mesh: Mesh, faces: int) -> float:
    """The side of squares that are together as large as the mesh, a square a face; more than nothing."""
    return max(float(np.sqrt(np.linalg.norm(area_vectors(mesh.vertices, mesh.faces), axis=1).sum() / faces)), FLAT)
