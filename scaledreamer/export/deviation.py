"""How far apart two surfaces are."""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from scaledreamer.export.geometry import area_vectors
from scaledreamer.export.mesh import Mesh

SAMPLES = 2048  # of each surface
NEAR = 4  # samples and centres around a point: the distance to their faces bounds that to the surface


class Nearby:
    """A surface that knows its faces near a point: prepared once, compared with many others."""

    def __init__(self, mesh: Mesh) -> None:
        self.corners = np.ascontiguousarray(mesh.vertices[mesh.faces].astype(np.float64).transpose(1, 2, 0))
        self.low, self.high = self.corners.min(axis=0), self.corners.max(axis=0)
        self.samples, owners = spread(mesh)
        self.owners = np.concatenate([owners, np.arange(len(mesh.faces))])
        self.tree = cKDTree(np.concatenate([self.samples, self.corners.mean(axis=0).T]))

    def distances(self, points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, " N"]:
        """From each point to the surface: the largest exactly, others perhaps a little more than it is."""
        _, near = self.tree.query(points, k=np.arange(1, min(NEAR, self.tree.n) + 1))
        found = to_triangles(points.T[..., None], self.corners[:, :, self.owners[near]]).min(axis=1)
        largest = float(np.finfo(np.float32).eps) * float(np.abs(points).max(initial=0))
        for k in np.argsort(-found, kind="stable"):
            if found[k] <= largest:
                break
            point, reach = points[k][:, None], found[k] * (1 + 1e-9)
            around = ((self.low <= point + reach) & (self.high >= point - reach)).all(axis=0)
            found[k] = to_triangles(point[:, None], self.corners[:, :, None, around]).min(initial=found[k])
            largest = max(largest, found[k])
        return np.asarray(found)


def distances(one: Nearby, other: Nearby) -> Float64[np.ndarray, " N"]:
    """From samples of each surface to the other one, in object units."""
    return np.concatenate([other.distances(one.samples), one.distances(other.samples)])


def deviation(original: Mesh, simplified: Mesh) -> float:
    """The largest distance found from samples of either surface to the other one, in object units."""
    return float(distances(Nearby(original), Nearby(simplified)).max())


def spread(mesh: Mesh) -> tuple[Float64[np.ndarray, "N 3"], Int64[np.ndarray, " N"]]:
    """Points spread evenly over the area, always the same ones, and the face each lies on."""
    areas = np.cumsum(np.linalg.norm(area_vectors(mesh.vertices, mesh.faces), axis=1))
    rng = np.random.default_rng(0)
    owners = np.searchsorted(areas, (np.arange(SAMPLES) + rng.random(SAMPLES)) * (areas[-1] / SAMPLES))
    owners = owners.clip(max=len(areas) - 1)
    root, share = np.sqrt(rng.random((SAMPLES, 1))), rng.random((SAMPLES, 1))
    a, b, c = (mesh.vertices[corner].astype(np.float64) for corner in mesh.faces[owners].T)
    return (1 - root) * a + root * (1 - share) * b + root * share * c, owners


def to_triangles(
    points: Float64[np.ndarray, "3 N 1"], corners: Float64[np.ndarray, "3 3 N K"]
) -> Float64[np.ndarray, "N K"]:
    """Of each point to its triangles: to the plane where the foot lies inside, else to the nearest side.

    Coordinates come first, after the corners', which makes sums over them fast.
    """
    a, b, c = corners
    tiny, to_side = np.finfo(np.float64).tiny, np.full(a.shape[1:], np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        side, offset = end - start, points - start
        along = ((offset * side).sum(axis=0) / np.maximum((side**2).sum(axis=0), tiny)).clip(0, 1)
        to_side = np.minimum(to_side, ((offset - along * side) ** 2).sum(axis=0))
    u, v, w = b - a, c - a, points - a
    uu, uv, vv, wu, wv = ((x * y).sum(axis=0) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    beta, gamma, squared = vv * wu - uv * wv, uu * wv - uv * wu, uu * vv - uv**2  # barycentric, times the last
    inside = (beta >= 0) & (gamma >= 0) & (beta + gamma <= squared) & (squared > 1e-12 * uu * vv)
    foot = (beta * u + gamma * v) / np.maximum(squared, tiny)
    return np.sqrt(np.where(inside, ((w - foot) ** 2).sum(axis=0), to_side))
