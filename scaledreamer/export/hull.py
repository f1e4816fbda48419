"""Convex hulls of few corners that still hold what they were made for."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import ConvexHull

CORNERS = 64  # at most
TOLERANCE = 1e-4  # units; the longest side of a whole mesh is 1. A point so far outside counts as inside
CANDIDATES = 1000  # directions whose outermost points may become corners


@dataclass(frozen=True, eq=False)
class Hull:
    """A closed convex polyhedron; points x with normals . x <= offsets are inside."""

    vertices: Float64[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]  # counter-clockwise seen from outside
    normals: Float64[np.ndarray, "F 3"]  # unit, outward
    offsets: Float64[np.ndarray, " F"]

    @classmethod
    def of(cls, points: Float64[np.ndarray, "N 3"]) -> Self:
        """The convex hull of points that do not lie in a plane (Qhull, ACM TOMS 22:4)."""
        for options in ("Qt", "QJ"):  # joggled points have no flat facets that could be cut into slivers
            qhull = ConvexHull(points, qhull_options=options)
            normals, offsets = qhull.equations[:, :3].copy(), -qhull.equations[:, 3]
            a, b, c = (points[corner] for corner in qhull.simplices.T)
            inward = (np.cross(b - a, c - a) * normals).sum(axis=1) < 0
            corners = np.where(inward[:, None], qhull.simplices[:, ::-1], qhull.simplices)
            used, faces = np.unique(corners, return_inverse=True)
            faces = faces.reshape(-1, 3)
            if closed(faces):
                break
        return cls(points[used], faces, normals, offsets)

    @classmethod
    def around(cls, points: Float64[np.ndarray, "N 3"]) -> Self:
        """The hull of at most CORNERS of the points: always the one for which it would have to grow most comes next.

        Growth, unlike distance, treats a flat or slender shape as it would a ball.
        """
        points = outermost(points)
        chosen = tetrahedron(points)
        while True:
            hull = cls.of(points[chosen])
            factors = hull.factors(points)
            farthest = int(factors.argmax())
            if len(chosen) == CORNERS or factors[farthest] <= 1 or farthest in chosen:
                return hull
            chosen.append(farthest)

    def beyond(self, points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, " N"]:
        """How far outside of the farthest plane each point lies, negative inside."""
        return np.asarray((points @ self.normals.T - self.offsets).max(axis=1))

    def factors(self, points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, " N"]:
        """How much the hull must grow about its middle to come within TOLERANCE of each point."""
        middle = self.vertices.mean(axis=0)
        reach = self.offsets - self.normals @ middle
        return np.asarray((((points - middle) @ self.normals.T - TOLERANCE) / reach).max(axis=1))

    def grown(self, factor: float) -> Self:
        """The hull scaled about its middle."""
        middle = self.vertices.mean(axis=0)
        offsets = self.offsets * factor + (1 - factor) * (self.normals @ middle)
        return replace(self, vertices=middle + factor * (self.vertices - middle), offsets=offsets)


def closed(faces: Int64[np.ndarray, "F 3"]) -> bool:
    """Whether every edge has exactly two faces, which run along it in opposite directions."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = int(faces.max()) + 1
    there, back = np.sort(edges @ [count, 1]), np.sort(edges @ [1, count])
    return bool((np.diff(there) > 0).all() and (there == back).all())


def outermost(points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    """Of many points those that lie outermost in CANDIDATES directions, spread evenly once the cloud is made round."""
    if len(points) <= CANDIDATES:
        return points
    spread, axes = np.linalg.eigh(np.cov(points, rowvar=False))
    round_cloud = points @ (axes / np.sqrt(np.maximum(spread, 1e-12)))
    z = 1 - (2 * np.arange(CANDIDATES) + 1) / CANDIDATES  # a spiral on the ball, by the golden angle
    angle, around = np.pi * (3 - np.sqrt(5)) * np.arange(CANDIDATES), np.sqrt(1 - z * z)
    directions = np.stack([around * np.cos(angle), around * np.sin(angle), z], axis=1)
    farthest = [(round_cloud @ direction).argmax() for direction in directions]
    return np.asarray(points[np.unique([*points.argmin(axis=0), *points.argmax(axis=0), *farthest])])


def tetrahedron(points: Float64[np.ndarray, "N 3"]) -> list[int]:
    """Four points that are far from one plane: each the farthest from those before."""
    first = int(points[:, 0].argmin())
    offset = points - points[first]
    second = int(np.linalg.norm(offset, axis=1).argmax())
    across = np.cross(offset, offset[second])
    third = int(np.linalg.norm(across, axis=1).argmax())
    fourth = int(np.abs(offset @ across[third]).argmax())
    return [first, second, third, fourth]
