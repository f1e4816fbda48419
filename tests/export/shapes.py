"""Small meshes with known defects."""

import numpy as np
import trimesh

from scaledreamer.export.mesh import Mesh


def mesh_of(vertices: object, faces: object) -> Mesh:
    """A mesh whose colour is a ramp over its box, so every place has its own."""
    places = np.asarray(vertices, dtype=np.float32).reshape(-1, 3)
    low, side = (places.min(axis=0), np.ptp(places, axis=0).max()) if len(places) else (0, 1)
    return Mesh(places, np.asarray(faces, dtype=np.int64).reshape(-1, 3), ((places - low) / side).clip(0, 1))


def joined(*meshes: Mesh) -> Mesh:
    """All the meshes as one, nothing merged."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    return mesh_of(vertices, np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]))


def cube(x: float = 0, y: float = 0, z: float = 0, side: float = 1) -> Mesh:
    """Twelve faces; the place is its lowest corner."""
    made = trimesh.creation.box(extents=(side,) * 3)
    return mesh_of(made.vertices + side / 2 + [x, y, z], made.faces)


def sphere(subdivisions: int = 3, radius: float = 1) -> Mesh:
    """20 * 4^subdivisions faces about the origin."""
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return mesh_of(made.vertices, made.faces)


def half_sphere(subdivisions: int = 3) -> Mesh:
    """Open below: its rim has 5 * 2^subdivisions edges or so, and is no plane."""
    whole = sphere(subdivisions)
    upper = whole.vertices[whole.faces].astype(np.float64).mean(axis=1)[:, 2] > 0
    return mesh_of(whole.vertices, whole.faces[upper])


def turned_over(mesh: Mesh) -> Mesh:
    """Inside out."""
    return mesh_of(mesh.vertices, mesh.faces[:, ::-1])


def voxels(inside: np.ndarray) -> Mesh:
    """The faces between unit cubes inside and outside: closed, and touching itself wherever cubes touch."""
    padded = np.pad(inside, 1)
    corners = []
    for axis in range(3):
        u, v = np.eye(3, dtype=np.int64)[[(axis + 1) % 3, (axis + 2) % 3]]
        for sign in (1, -1):
            seen = np.argwhere(padded & ~np.roll(padded, -sign, axis))
            base = seen + np.eye(3, dtype=np.int64)[axis] * (sign > 0)
            a, b, c, d = base, base + u, base + u + v, base + v
            halves = [(a, b, c), (a, c, d)] if sign > 0 else [(a, c, b), (a, d, c)]
            corners += [np.stack(half, axis=1) for half in halves]
    vertices, faces = np.unique(np.concatenate(corners).reshape(-1, 3), axis=0, return_inverse=True)
    return mesh_of(vertices, faces)
