"""The zero level of a field as a closed, coloured mesh."""

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64

from scaledreamer.errors import EmptySurfaceError, ExportError
from scaledreamer.export.blocks import Lattice
from scaledreamer.export.geometry import unit, vertex_normals
from scaledreamer.export.marching import march_blocks, march_volume
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.points import colors_at, sdf_at
from scaledreamer.model.fields.base import Field

Mode = Literal["fast", "exact", "dense"]
RESOLUTIONS = (8, 512)
SEARCH = 64  # lattice points along the box while looking for the object


def extract_mesh(field: Field, resolution: int = 128, mode: Mode = "fast", tight: bool = False) -> Mesh:
    """The surface of scene 0 on a lattice of resolution^3 points that includes both ends of the box.

    `dense` asks the field everywhere and is what the others are measured against. `fast` asks only around the surface,
    as far as the slope of the field tells where that is: the same faces on smooth fields. `exact` leaves out only what
    bounds of the field prove to lie on one side: the same faces on every field. Where the inside reaches the border of
    the box the mesh is closed by a flat cap on it. All parts are kept; cleanup drops small ones. `tight` looks for the
    object first and spends the lattice on the smallest cube around it.
    """
    low, high = RESOLUTIONS
    if isinstance(resolution, bool) or not isinstance(resolution, int) or not low <= resolution <= high:
        raise ExportError(f"cannot use resolution {resolution!r}; choose an integer from {low} to {high}")
    if tight and mode == "dense":
        raise ExportError("mode 'dense' asks the whole box and knows no tight cube; choose 'fast' or 'exact'")
    if mode not in get_args(Mode):
        raise ExportError(f"unknown mode {mode!r}; choose one of {list(get_args(Mode))}")
    scene = field[0]
    if mode == "dense":
        sdf = everywhere(scene, resolution)
        refuse_if_empty(float(sdf.min()), scene.bound, resolution)
        origin, cell = np.full(3, -scene.bound), 2 * scene.bound / (resolution - 1)
        places, faces = march_volume(sdf, cell)
    else:
        lattice = Lattice(scene, resolution, tight_cube(scene, mode) if tight else None)
        blocks = lattice.blocks(mode)
        refuse_if_empty(blocks.least, scene.bound, resolution)
        places, faces = march_blocks(blocks, lattice.cell, lattice.last)
        origin, cell = lattice.origin, lattice.cell
    vertices = (origin + cell * places).clip(-scene.bound, scene.bound).astype(np.float32)
    return Mesh(vertices, faces, colors_at(scene, vertices))


def tight_cube(scene: Field, mode: Literal["fast", "exact"]) -> tuple[Float64[np.ndarray, " 3"], float]:
    """Centre and half side of the smallest cube that holds the object and two cells around it, inside the box."""
    lattice = Lattice(scene, SEARCH)
    blocks = lattice.blocks(mode)
    refuse_if_empty(blocks.least, scene.bound, SEARCH)
    places, _ = march_blocks(blocks, lattice.cell, lattice.last)
    low, high = places.min(axis=0), places.max(axis=0)
    half = min(((high - low).max() / 2 + 2) * lattice.cell, scene.bound)
    center = lattice.origin + lattice.cell * (low + high) / 2
    return center.clip(half - scene.bound, scene.bound - half), float(half)


def refuse_if_empty(least: float, bound: float, resolution: int) -> None:
    """An error that says how near the field came to having a surface."""
    if least >= 0:
        raise EmptySurfaceError(
            f"the field has no surface in [-{bound:g}, {bound:g}]^3 at resolution {resolution}: "
            f"the smallest signed distance found is {least:.4g}, never negative"
        )


def everywhere(field: Field, resolution: int) -> Float32[np.ndarray, "R R R"]:
    """Signed distance at every lattice point."""
    axis = torch.linspace(-field.bound, field.bound, resolution, device=field.device)
    slabs = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    values = np.empty((resolution,) * 3, dtype=np.float32)
    for x, slab in zip(axis, values, strict=True):
        points = torch.cat([x.expand(len(slabs), 1), slabs], dim=1)
        slab[:] = sdf_at(field, points).reshape(slab.shape)
    return values


def with_field_normals(field: Field, mesh: Mesh, step: float) -> Mesh:
    """The mesh with the direction of steepest ascent of the distance, by central differences, as its normals.

    The faces decide where there is no such direction, on the caps, which are not level sets of the field, and where the
    difference points inwards.
    """
    vertices, gradient = mesh.vertices, np.empty(mesh.vertices.shape)
    for axis in range(3):
        ends = []
        for sign in (-1, 1):
            moved = vertices.copy()
            moved[:, axis] = (moved[:, axis] + sign * step).clip(-field.bound, field.bound)
            ends.append((moved[:, axis], sdf_at(field, torch.from_numpy(moved).to(field.device))))
        (before, low), (after, high) = ends
        gradient[:, axis] = (high - low) / (after - before)
    from_faces = vertex_normals(vertices, mesh.faces)
    capped = (np.abs(vertices) >= field.bound).any(axis=1)
    doubtful = capped | (np.linalg.norm(gradient, axis=1) < 1e-6) | ((gradient * from_faces).sum(axis=1) <= 0)
    normals = np.where(doubtful[:, None], from_faces, unit(gradient)).astype(np.float32)
    return Mesh(vertices, mesh.faces, mesh.colors, normals, mesh.uvs, mesh.texture)
