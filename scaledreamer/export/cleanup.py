"""What a mesh is better off without: small parts, vertices that are one, faces without area."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from scaledreamer.export.edges import edges_of, ends, groups, parts
from scaledreamer.export.geometry import area_vectors, unit
from scaledreamer.export.mesh import Mesh

FLAT = 2.0**-21  # of the largest coordinate: four steps of float32, less than a later change of size may round away
CRUMBS = 0.02  # share of all volume and of all area below which a part is no part of a thing
ROUNDS = 8  # a repair that has not come to rest by then takes the plain way out


def select_faces(mesh: Mesh, keep: Bool[np.ndarray, " F"]) -> Mesh:
    """The mesh of some of the faces, with the vertices they use, in the same order."""
    return with_faces(mesh, mesh.faces[keep])


def with_faces(mesh: Mesh, faces: Int64[np.ndarray, "F 3"]) -> Mesh:
    """The mesh of other faces between its vertices, without the vertices they leave unused."""
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[faces] = True
    renumbered = np.cumsum(used) - 1
    kept = {name: getattr(mesh, name)[used] for name in ("vertices", "colors", "normals")}
    return replace(mesh, faces=renumbered[faces], uvs=None if mesh.uvs is None else mesh.uvs[used], **kept)


def with_copies(mesh: Mesh, sources: Int64[np.ndarray, "N S"], places: Float64[np.ndarray, "N 3"]) -> Mesh:
    """The mesh with more vertices at some places, each with the mean colour and normal of its sources."""
    return replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, places.astype(np.float32)]),
        colors=np.concatenate([mesh.colors, mesh.colors[sources].mean(axis=1)]),
        normals=np.concatenate([mesh.normals, unit(mesh.normals[sources].mean(axis=1)).astype(np.float32)]),
    )


def keep_large_parts(mesh: Mesh, fraction: float = CRUMBS) -> Mesh:
    """The mesh without the parts, connected by position, of less than `fraction` of all volume and of all area."""
    part = parts(first_there(mesh.vertices)[mesh.faces])
    vectors = area_vectors(mesh.vertices, mesh.faces)
    centers = mesh.vertices.astype(np.float64)[mesh.faces].mean(axis=1)
    volumes = np.abs(np.bincount(part, weights=(centers * vectors).sum(axis=1) / 3))  # divergence theorem
    areas = np.bincount(part, weights=np.linalg.norm(vectors, axis=1))
    large = (volumes >= fraction * volumes.sum()) | (areas >= fraction * areas.sum())
    large[np.argmax(areas)] = True  # with very many parts none may reach the fraction
    return mesh if large[part].all() else select_faces(mesh, large[part])


def merge_vertices(mesh: Mesh) -> Mesh:
    """The mesh with one vertex at each position, the first there; itself when it has no other."""
    first = first_there(mesh.vertices)
    return mesh if (first == np.arange(len(first))).all() else with_faces(mesh, first[mesh.faces])


def first_there(vertices: Float32[np.ndarray, "V 3"]) -> Int64[np.ndarray, " V"]:
    """For each vertex the first that is exactly where it is."""
    order = np.lexsort(vertices.T)
    sorted_ = vertices[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (sorted_[1:] != sorted_[:-1]).any(axis=1)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[fresh][np.cumsum(fresh) - 1]  # the sort is stable: the first of each run has the lowest number
    return first


def drop_degenerate_faces(mesh: Mesh) -> Mesh:
    """The mesh, its vertices merged, without faces that have two corners in one place, no area, or a copy.

    Copies that wind alike leave one of them, copies that wind oppositely leave none. What was closed stays closed: a
    face pressed to a line goes by joining its two corners that coincide, or by giving its longest edge up to the corner
    on it.
    """
    mesh = merge_vertices(mesh)
    faces = without_copies(mesh.faces)
    for _ in range(ROUNDS):
        flat = is_flat(mesh.vertices, faces)
        if not flat.any():
            break
        joined = without_copies(join_close_corners(mesh.vertices, faces, flat))
        if len(joined) == len(faces):
            joined = without_copies(flip_longest_edges(mesh.vertices, faces, flat))
        faces = joined
    else:
        faces = faces[~is_flat(mesh.vertices, faces)]
    same = len(faces) == len(mesh.faces) and (faces == mesh.faces).all()
    return mesh if same else with_faces(mesh, faces)


def without_copies(faces: Int64[np.ndarray, "F 3"]) -> Int64[np.ndarray, "G 3"]:
    """The faces with three different corners; of those with the same corners one, and none where windings cancel
    out.
    """
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    corners = np.sort(faces, axis=1)
    keys = corners[:, 0] * (int(corners.max(initial=0)) + 1) + corners[:, 1], corners[:, 2]
    order = np.lexsort(keys)
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = np.logical_or(*(np.diff(key[order]) != 0 for key in keys))
    if fresh.all():
        return faces
    copy_of = np.cumsum(fresh) - 1
    turn = np.where((np.diff(faces[order], axis=1, append=faces[order][:, :1]) > 0).sum(axis=1) == 2, 1, -1)
    left = np.sign(np.bincount(copy_of, weights=turn))[copy_of] == turn  # winds as most of its copies do
    _, firsts = np.unique(copy_of[left], return_index=True)
    kept: Int64[np.ndarray, "G 3"] = faces[np.sort(order[left][firsts])]
    return kept


def extent(vertices: Float32[np.ndarray, "V 3"]) -> float:
    """The largest coordinate in size, which the spacing of float32 goes with."""
    return float(np.abs(vertices).max(initial=0))


def side_lengths(vertices: Float32[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Float64[np.ndarray, "F 3"]:
    """From each corner to the next."""
    corners = vertices.astype(np.float64)[faces]
    lengths: Float64[np.ndarray, "F 3"] = np.linalg.norm(corners[:, [1, 2, 0]] - corners, axis=2)
    return lengths


def is_flat(vertices: Float32[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"]) -> Bool[np.ndarray, " F"]:
    """Whether a face is so low above its longest side that float32 cannot tell it from a line."""
    double, size = 2 * np.linalg.norm(area_vectors(vertices, faces), axis=1), extent(vertices)
    flat: Bool[np.ndarray, " F"] = double <= 4 * size * FLAT * size  # no side is longer than 4 size: spares most faces
    flat[flat] = double[flat] <= side_lengths(vertices, faces[flat]).max(axis=1, initial=0) * FLAT * size
    return flat


def join_close_corners(
    vertices: Float32[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], flat: Bool[np.ndarray, " F"]
) -> Int64[np.ndarray, "F 3"]:
    """All faces with the ends of the flat faces' vanishing sides made one vertex."""
    face, corner = np.nonzero(side_lengths(vertices, faces[flat]) <= FLAT * extent(vertices))
    sides = ends(faces[flat], 3 * face + corner)[:2].T
    group = groups(len(vertices), sides)
    _, lowest = np.unique(group, return_index=True)
    joined: Int64[np.ndarray, "F 3"] = lowest[group][faces]
    return joined


def flip_longest_edges(
    vertices: Float32[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], flat: Bool[np.ndarray, " F"]
) -> Int64[np.ndarray, "G 3"]:
    """The faces with the longest edge of each flat one turned to lead from the corner on it across the neighbour.

    A flat face at the border is left out instead. Where flips would meet in one face the later waits for another round.
    """
    faces = faces.copy()
    edges = edges_of(faces)
    edge_of = np.empty(faces.size, dtype=np.int64)
    edge_of[edges.order] = np.repeat(np.arange(len(edges.uses)), edges.uses)
    keep, touched = np.ones(len(faces), dtype=bool), np.zeros(len(faces), dtype=bool)
    longest = 3 * np.flatnonzero(flat) + side_lengths(vertices, faces[flat]).argmax(axis=1)
    for half in longest:
        edge = edge_of[half]
        around = edges.order[edges.starts[edge] : edges.starts[edge] + edges.uses[edge]]
        opposite = around[edges.rising[around] != edges.rising[half]]
        first, second = half // 3, (opposite[0] if len(opposite) else half) // 3
        if touched[first] or touched[second]:
            continue
        touched[[first, second]] = True
        if first == second:
            keep[first] = False
            continue
        (c, _), (a, _), (b, d) = ends(faces, np.array([half, opposite[0]]))
        faces[first], faces[second] = (a, b, d), (b, c, d)
    return faces[keep]
