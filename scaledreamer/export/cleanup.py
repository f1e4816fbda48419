"""Small parts that a mesh is better off without."""

import numpy as np
from jaxtyping import Bool
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scaledreamer.export.geometry import area_vectors
from scaledreamer.export.mesh import Mesh


def select_faces(mesh: Mesh, keep: Bool[np.ndarray, " F"]) -> Mesh:
    """The mesh of some of the faces, with the vertices they use, in the same order."""
    faces = mesh.faces[keep]
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[faces] = True
    renumbered = np.cumsum(used) - 1
    return Mesh(mesh.vertices[used], renumbered[faces], mesh.colors[used], mesh.normals[used])


def keep_large_parts(mesh: Mesh, fraction: float = 0.02) -> Mesh:
    """The mesh without the connected parts that have less than `fraction` both of all volume and of all area."""
    a, b, c = mesh.faces.T
    ends = np.tile(a, 2), np.concatenate([b, c])
    edges = coo_matrix((np.ones(2 * len(a), dtype=bool), ends), (len(mesh.vertices),) * 2)
    _, labels = connected_components(edges, directed=False)
    part = labels[a]
    vectors = area_vectors(mesh.vertices, mesh.faces)
    centers = mesh.vertices.astype(np.float64)[mesh.faces].mean(axis=1)
    volumes = np.abs(np.bincount(part, weights=(centers * vectors).sum(axis=1) / 3))  # divergence theorem
    areas = np.bincount(part, weights=np.linalg.norm(vectors, axis=1))
    large = (volumes >= fraction * volumes.sum()) | (areas >= fraction * areas.sum())
    large[np.argmax(areas)] = True  # with very many parts none may reach the fraction
    return mesh if large[part].all() else select_faces(mesh, large[part])
