"""A coloured triangle mesh in object space, and the one way to write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from scaledreamer.errors import ExportError


def area_vectors(vertices: Float[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float64[np.ndarray, "F 3"]:
    """Outward normal of each face times its area."""
    a, b, c = vertices.astype(np.float64)[faces.T]
    return np.cross(b - a, c - a) / 2


def unit(vectors: Float[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
    """Vectors of length one; +Z where there is no direction."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.maximum(length, np.finfo(np.float64).tiny), [0.0, 0.0, 1.0])


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
    """Unit mean of the normals of the faces around each vertex, weighted by their areas."""
    vectors, corners = np.repeat(area_vectors(vertices, faces), 3, axis=0), faces.ravel()
    sums = [np.bincount(corners, weights=vectors[:, axis], minlength=len(vertices)) for axis in range(3)]
    return unit(np.stack(sums, axis=1).astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in object space (+Z up, front +X), counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]
    colors: Float32[np.ndarray, "V 3"]  # sRGB-encoded in [0, 1]
    normals: Float32[np.ndarray, "V 3"] = None  # type: ignore[assignment]  # unit; left out: vertex_normals

    def __post_init__(self) -> None:
        """Arrays of the stated types that fit together."""
        self._keep("vertices", np.float32)
        self._keep("faces", np.int64)
        self._keep("colors", np.float32)
        count = len(self.vertices)
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < count:
            raise ExportError(f"faces name vertices {self.faces.min()} to {self.faces.max()}, but there are {count}")
        if self.normals is None:
            object.__setattr__(self, "normals", vertex_normals(self.vertices, self.faces))
        self._keep("normals", np.float32)
        for name in ("colors", "normals"):
            if len(getattr(self, name)) != count:
                raise ExportError(f"{len(getattr(self, name))} {name} for {count} vertices; one a vertex is needed")

    def _keep(self, name: str, dtype: type) -> None:
        array: np.ndarray = np.ascontiguousarray(getattr(self, name), dtype=dtype)
        if array.ndim != 2 or array.shape[1] != 3:
            raise ExportError(f"{name} have the shape {list(array.shape)}; [N, 3] is needed")
        if dtype is np.float32 and not np.isfinite(array).all():
            raise ExportError(f"{name} hold values that are not finite")
        object.__setattr__(self, name, array)

    def write(self, path: str | Path, extras: Mapping[str, object] | None = None) -> list[Path]:
        """Write .glb .gltf .obj .ply or .stl, as the suffix says; the files written, the one asked for last.

        `extras` (prompt, model, …) go into glTF's `asset.extras`; the other formats have no place for them.
        """
        from scaledreamer.export.formats import write  # here, because the formats are written in terms of Mesh

        return write(self, Path(path), extras or {})
