"""Plain looks at an atlas, to check the fast ones against; and a mesh made of nothing but triangles."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from scaledreamer.export import Mesh


def soup(count: int, seed: int = 0) -> Mesh:
    """Triangles of all shapes that have no vertex in common."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.8, 0.8, (count, 1, 3)) + rng.normal(0, 0.05, (count, 3, 3))
    vertices, colors = corners.reshape(-1, 3).astype(np.float32), rng.random((3 * count, 3), dtype=np.float32)
    return Mesh(vertices, np.arange(3 * count).reshape(-1, 3), colors)


def flat(corners: np.ndarray, faces: np.ndarray) -> Mesh:
    """A mesh in the plane z = 0 that lies in its atlas where it lies in the plane."""
    uvs = corners.astype(np.float32)
    vertices = np.pad(uvs, ((0, 0), (0, 1)))
    return Mesh(vertices, faces, np.zeros_like(vertices), uvs=uvs)


def uv_corners(mesh: Mesh) -> np.ndarray:
    assert mesh.uvs is not None
    return mesh.uvs.astype(np.float64)[mesh.faces]


def signed_areas(mesh: Mesh) -> np.ndarray:
    """Of the faces in the atlas; positive where they are not mirrored."""
    a, b, c = uv_corners(mesh).transpose(1, 0, 2)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return (ux * vy - uy * vx) / 2


def times_covered(mesh: Mesh, size: int) -> np.ndarray:
    """How many faces have the centre of each texel well inside, row 0 at v = 1: one face after the other."""
    count = np.zeros((size, size), dtype=int)
    flip = np.array([1, -1])
    for corners, area in zip((uv_corners(mesh) * flip + [0, 1]) * size, signed_areas(mesh), strict=True):
        if area:
            j, i = np.floor(corners.min(axis=0)).astype(int)
            right, below = np.ceil(corners.max(axis=0)).astype(int)
            x, y = np.meshgrid(np.arange(j, right) + 0.5, np.arange(i, below) + 0.5)
            inside = np.ones(x.shape, dtype=bool)
            for (px, py), (qx, qy) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                height = ((x - px) * (qy - py) - (y - py) * (qx - px)) * np.sign(area)
                inside &= height > 1e-6 * np.hypot(qx - px, qy - py)
            count[i:below, j:right] += inside
    return count


def has_gutter(mesh: Mesh, size: int, gutter: float) -> bool:
    """Whether charts lie `gutter` texels apart, and half of that inside the border, so opposite sides are apart too."""
    ends = np.repeat([1, 1, 1], len(mesh.faces)), mesh.faces.ravel(), np.roll(mesh.faces, 1, axis=1).ravel()
    _, chart = connected_components(coo_matrix((ends[0], ends[1:]), (len(mesh.vertices),) * 2), directed=False)
    edges = np.stack([mesh.faces, np.roll(mesh.faces, 1, axis=1)], axis=-1).reshape(-1, 2)
    _, first, count = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    border = edges[first[count == 1]]
    assert mesh.uvs is not None
    start, end = mesh.uvs.astype(np.float64)[border].transpose(1, 0, 2) * size
    steps = np.ceil(np.linalg.norm(end - start, axis=1) * 2).astype(int) + 1  # half a texel apart
    which = np.repeat(np.arange(len(border)), steps)
    along = (np.arange(len(which)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[which]
    points = start[which] + along[:, None] * (end - start)[which]
    owner = chart[border[which, 0]]
    a, b = cKDTree(points).query_pairs(gutter - 1e-3, output_type="ndarray").T
    inside = (points > gutter / 2 - 1e-3).all() and (points < size - gutter / 2 + 1e-3).all()
    return bool(inside and (owner[a] == owner[b]).all())
