"""The zero level of a field as a closed, coloured mesh."""

from typing import Literal, get_args

import mcubes
import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from scaledreamer.errors import EmptySurfaceError, ExportError
from scaledreamer.export.geometry import unit, vertex_normals
from scaledreamer.export.lattice import CHUNK, Lattice, refuse_unless_finite, sdf_at
from scaledreamer.export.mesh import Mesh
from scaledreamer.model.fields.base import Field

Mode = Literal["fast", "dense"]
RESOLUTIONS = (8, 512)
APART = 1e-3  # cells between a vertex and the lattice points beside it: no two vertices fall together in float32


def extract_mesh(field: Field, resolution: int = 128, mode: Mode = "fast") -> Mesh:
    """The surface of scene 0 on a lattice of resolution^3 points that includes both ends of the box.

    `dense` asks the field everywhere, `fast` only around the surface; they give the same faces. Where the inside
    reaches the border of the box the mesh is closed by a flat cap on it. All parts are kept; cleanup drops small ones.
    """
    low, high = RESOLUTIONS
    if isinstance(resolution, bool) or not isinstance(resolution, int) or not low <= resolution <= high:
        raise ExportError(f"cannot use resolution {resolution!r}; choose an integer from {low} to {high}")
    if mode not in get_args(Mode):
        raise ExportError(f"unknown mode {mode!r}; choose one of {list(get_args(Mode))}")
    scene = field[0]
    lattice = Lattice(scene, resolution)
    sdf = lattice.fast() if mode == "fast" else lattice.dense()
    if sdf.min() >= 0:
        raise EmptySurfaceError(
            f"the field has no surface in [-{scene.bound:g}, {scene.bound:g}]^3 at resolution {resolution}: "
            f"the smallest signed distance found is {sdf.min():.4g}, never negative"
        )
    places, faces = marching_cubes(sdf, lattice.cell)
    vertices = (scene.bound * (2 * places / (resolution - 1) - 1)).astype(np.float32)
    return Mesh(vertices, faces, colors_at(scene, vertices), normals_at(scene, vertices, faces, lattice.cell / 2))


def marching_cubes(
    sdf: Float32[np.ndarray, "R R R"], cell: float
) -> tuple[Float64[np.ndarray, "V 3"], Int64[np.ndarray, "F 3"]]:
    """Vertices in lattice units and outward faces of the closed zero level (Lorensen and Cline, SIGGRAPH 1987)."""
    last = len(sdf) - 1
    padded = np.pad(sdf, 1, constant_values=cell)  # outside all around, so the surface closes at the border
    padded /= cell
    # A zero belongs to the outside. Neither zero nor huge, the values leave every vertex inside its edge even after
    # rounding, so that its coordinates tell which edge that is.
    np.clip(padded, -1e3, 1e3, out=padded)
    padded[(padded >= 0) & (padded < 1e-6)] = 1e-6
    padded[(padded < 0) & (padded > -1e-6)] = -1e-6
    places, faces = mcubes.marching_cubes(padded, 0.0)
    places, faces = places - 1, faces.astype(np.int64)[:, ::-1]  # PyMCubes takes the inside to be positive
    whole = np.floor(places)
    along = places - whole
    places = whole + np.where(along > 0, along.clip(APART, 1 - APART), 0)
    return close_border(places, faces, last)


def close_border(
    places: Float64[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], last: int
) -> tuple[Float64[np.ndarray, "W 3"], Int64[np.ndarray, "G 3"]]:
    """The faces beyond the border pressed flat onto it.

    Beyond an edge of the box two vertices land on one lattice point, beyond a corner three; they become one vertex, and
    the faces that had no other extent vanish, which joins their neighbours edge to edge.
    """
    beyond = np.flatnonzero(((places < 0) | (places > last)).any(axis=1))
    pressed = places.clip(0, last)
    numbers = pressed[beyond].astype(np.int64) @ [(last + 1) ** 2, last + 1, 1]
    _, first, group = np.unique(numbers, return_index=True, return_inverse=True)
    merged = np.arange(len(places))
    merged[beyond] = beyond[first][group]
    faces = merged[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    used = np.zeros(len(places), dtype=bool)
    used[faces] = True
    return pressed[used], (np.cumsum(used) - 1)[faces]


@torch.no_grad()
def colors_at(field: Field, vertices: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    """sRGB colour of the field at the vertices, in [0, 1]."""
    points = torch.from_numpy(vertices).to(field.device)
    colors = np.empty_like(vertices)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        rgb = field.query(chunk[None]).rgb[0].float()
        refuse_unless_finite(rgb, chunk, "colour")
        colors[start : start + CHUNK] = rgb.clamp(0, 1).cpu().numpy()
    return colors


def normals_at(
    field: Field, vertices: Float32[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], step: float
) -> Float32[np.ndarray, "V 3"]:
    """Direction of steepest ascent of the distance, by central differences; the faces' own normals where it has none.

    The faces decide too on the caps, which are not level sets of the field, and where the difference points inwards.
    """
    gradient = np.empty(vertices.shape)
    for axis in range(3):
        ends = []
        for sign in (-1, 1):
            moved = vertices.copy()
            moved[:, axis] = (moved[:, axis] + sign * step).clip(-field.bound, field.bound)
            ends.append((moved[:, axis], sdf_at(field, torch.from_numpy(moved).to(field.device))))
        (before, low), (after, high) = ends
        gradient[:, axis] = (high - low) / (after - before)
    from_faces = vertex_normals(vertices, faces)
    capped = (np.abs(vertices) >= field.bound).any(axis=1)
    doubtful = capped | (np.linalg.norm(gradient, axis=1) < 1e-6) | ((gradient * from_faces).sum(axis=1) <= 0)
    return np.where(doubtful[:, None], from_faces, unit(gradient)).astype(np.float32)
