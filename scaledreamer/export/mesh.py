"""A coloured triangle mesh in object space, and the one way to write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from scaledreamer.errors import ExportError
from scaledreamer.export.formats import write
from scaledreamer.export.geometry import vertex_normals
from scaledreamer.export.materials import DEFAULT, Material


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in object space (+Z up, front +X), counter-clockwise seen from outside."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]
    colors: Float32[np.ndarray, "V 3"]  # sRGB-encoded in [0, 1]
    normals: Float32[np.ndarray, "V 3"] = None  # type: ignore[assignment]  # unit; left out: vertex_normals
    uvs: Float32[np.ndarray, "V 2"] | None = None  # in [0, 1], (0, 0) is the lower left corner of the texture
    texture: UInt8[np.ndarray, "S S 3"] | None = None  # sRGB base colour, the upper row first; asks for uvs
    material: Material = DEFAULT

    def __post_init__(self) -> None:
        """Arrays of the stated types that fit together."""
        self._keep("vertices", np.float32)
        self._keep("faces", np.int64)
        self._keep("colors", np.float32)
        if self.uvs is not None:
            self._keep("uvs", np.float32, columns=2)
        if self.texture is not None and self.uvs is None:
            raise ExportError("a texture needs uvs, and the mesh has none")
        count = len(self.vertices)
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < count:
            raise ExportError(f"faces name vertices {self.faces.min()} to {self.faces.max()}, but there are {count}")
        if self.normals is None:
            object.__setattr__(self, "normals", vertex_normals(self.vertices, self.faces))
        self._keep("normals", np.float32)
        for name, values in (("colors", self.colors), ("normals", self.normals), ("uvs", self.uvs)):
            if values is not None and len(values) != count:
                raise ExportError(f"{len(values)} {name} for {count} vertices; one a vertex is needed")

    def _keep(self, name: str, dtype: type, columns: int = 3) -> None:
        array: np.ndarray = np.ascontiguousarray(getattr(self, name), dtype=dtype)
        if array.ndim != 2 or array.shape[1] != columns:
            raise ExportError(f"{name} have the shape {list(array.shape)}; [N, {columns}] is needed")
        if dtype is np.float32 and not np.isfinite(array).all():
            raise ExportError(f"{name} hold values that are not finite")
        object.__setattr__(self, name, array)

    def write(self, path: str | Path, extras: Mapping[str, object] | None = None) -> list[Path]:
        """Write .glb .gltf .obj .ply .stl or .usdz, as the suffix says; the files written, the one asked for last.

        `extras` (prompt, model, …) go into glTF's `asset.extras` and the custom data of a .usdz's layer; the other
        formats have no place for them.
        """
        return write(self, Path(path), extras or {})
