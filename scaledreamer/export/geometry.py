"""What the file formats need of a mesh, and the small geometry that they share."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from scaledreamer.export.materials import Material


@runtime_checkable
class Surface(Protocol):
    """Triangles with a colour and a normal at every vertex: a Mesh, as those see it who write it."""

    @property
    def vertices(self) -> Float32[np.ndarray, "V 3"]:
        """Object space, +Z up, front +X."""

    @property
    def faces(self) -> Int64[np.ndarray, "F 3"]:
        """Counter-clockwise seen from outside."""

    @property
    def colors(self) -> Float32[np.ndarray, "V 3"]:
        """sRGB-encoded in [0, 1]."""

    @property
    def normals(self) -> Float32[np.ndarray, "V 3"]:
        """Unit, outward."""

    @property
    def uvs(self) -> Float32[np.ndarray, "V 2"] | None:
        """In [0, 1]; (0, 0) is the lower left corner of the texture."""

    @property
    def texture(self) -> UInt8[np.ndarray, "S S 3"] | None:
        """sRGB base colour, the upper row first."""

    @property
    def material(self) -> Material:
        """How the surface shines."""


def area_vectors(vertices: Float[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float64[np.ndarray, "F 3"]:
    """Outward normal of each face times its area."""
    a, b, c = (vertices.astype(np.float64)[corner].T for corner in faces.T)
    (ux, uy, uz), (vx, vy, vz) = b - a, c - a
    return np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], axis=1) / 2


def unit(vectors: Float[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
    """Vectors of length one; +Z where there is no direction."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.maximum(length, np.finfo(np.float64).tiny), [0.0, 0.0, 1.0])


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
    """Unit mean of the normals of the faces around each vertex, weighted by their areas."""
    corners = faces.T.ravel()
    sums = [
        np.bincount(corners, weights=np.tile(along, 3), minlength=len(vertices))
        for along in area_vectors(vertices, faces).T
    ]
    return unit(np.stack(sums, axis=1).astype(np.float64)).astype(np.float32)


def principal_axes(points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "3 3"]:
    """Rows: the right-handed axes along which the points vary least, more, most."""
    axes = np.linalg.eigh(np.cov(points - points.mean(axis=0), rowvar=False, bias=True))[1].T
    return np.asarray(axes * np.sign(np.linalg.det(axes)))
