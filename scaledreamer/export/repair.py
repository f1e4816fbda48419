"""From any triangles to the boundary of a solid: manifold, and wound outward."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scaledreamer.export.cleanup import (
    FLAT,
    ROUNDS,
    drop_degenerate_faces,
    extent,
    select_faces,
    with_copies,
    with_faces,
)
from scaledreamer.export.edges import Edges, edges_of, ends, groups
from scaledreamer.export.geometry import area_vectors, unit, vertex_normals
from scaledreamer.export.mesh import Mesh

PULL = 0.02  # of the shortest side there: how far sheets that touch are moved apart


def make_manifold(mesh: Mesh) -> Mesh:
    """The mesh without degenerate faces, at most two faces at every edge and one fan of faces at every vertex.

    Sheets that touch are cut apart (Guéziec et al., IEEE TVCG 2001, "Cutting and stitching"), so that each wedge of
    material has its own. Unlike there the copies move a little into their own sheets, since copies in one place would
    become one again when a reader merges vertices. What was closed stays closed. Where an odd number of sheets meets,
    or their windings do not pair up, the smallest of them are dropped, and so are faces without a neighbour.
    """
    mesh = drop_degenerate_faces(mesh)
    mesh = with_windings(mesh, wound_alike(mesh.faces))
    for _ in range(ROUNDS):
        edges = edges_of(mesh.faces)
        twins, surplus = pair_half_edges(mesh, edges)
        if surplus.any():
            mesh = drop_degenerate_faces(select_faces(mesh, ~surplus))
            continue
        fans = fans_of(mesh.faces, twins)
        if fans.max(initial=-1) + 1 > (np.bincount(mesh.faces.ravel()) > 0).sum():
            mesh = drop_degenerate_faces(pull_fans_apart(mesh, fans))
        elif (edges.uses > 2).any():
            mesh = drop_degenerate_faces(split_crowded_edges(mesh, edges, twins))
        else:
            return mesh
    while (crowding := beyond_two(mesh)).any():
        mesh = select_faces(mesh, ~crowding)
    return mesh


def orient(mesh: Mesh) -> Mesh:
    """The mesh, which should be manifold, with neighbours wound alike and each part wound outward.

    A part within an odd number of others is a cavity and faces its own inside; all others have a positive volume.
    Normals that their faces contradict are those of the faces.
    """
    faces = wound_alike(mesh.faces)
    patch = groups(len(faces), edges_of(faces).pairs() // 3)
    vectors, corners = area_vectors(mesh.vertices, faces), mesh.vertices.astype(np.float64)[faces]
    centers = corners.mean(axis=1)
    counts = np.maximum(np.bincount(patch), 1)
    middles = np.stack([np.bincount(patch, weights=along) / counts for along in centers.T], axis=1)
    volumes = np.bincount(patch, weights=((centers - middles[patch]) * vectors).sum(axis=1) / 3)
    inward = volumes * np.where(depths(corners, patch) % 2 == 1, -1, 1) < -((FLAT * extent(mesh.vertices)) ** 3)
    faces[inward[patch]] = faces[inward[patch]][:, [0, 2, 1]]
    return with_windings(mesh, faces)


def with_windings(mesh: Mesh, faces: Int64[np.ndarray, "F 3"]) -> Mesh:
    """The mesh with its faces wound anew, and the normals of the faces where its own point to the other side."""
    if (faces == mesh.faces).all():
        return mesh
    from_faces = vertex_normals(mesh.vertices, faces)
    against = (from_faces * mesh.normals).sum(axis=1, keepdims=True) < 0
    return replace(mesh, faces=faces, normals=np.where(against, from_faces, mesh.normals))


def wound_alike(faces: Int64[np.ndarray, "F 3"]) -> Int64[np.ndarray, "F 3"]:
    """The faces wound as their neighbours are, across edges of two faces: as most of them are already.

    Each face has two sides; those that lie on the same side of the surface form a group. Where a surface has one side
    only its faces stay as they are.
    """
    edges, count = edges_of(faces), len(faces)
    pairs = edges.pairs()
    (a, b), unlike = pairs.T // 3, edges.rising[pairs[:, 0]] == edges.rising[pairs[:, 1]]
    faces = faces.copy()
    if unlike.any():
        links = np.stack([np.concatenate([a, a + count]), np.concatenate([b + count * unlike, b + count * ~unlike])])
        side = groups(2 * count, links.T)
        front, back = side[:count], side[count:]
        score = np.bincount(front, minlength=2 * count) * 2 * count - np.arange(2 * count)
        turn = score[front] < score[back]
        faces[turn] = faces[turn][:, [0, 2, 1]]
    return faces


def depths(corners: Float64[np.ndarray, "F 3 3"], patch: Int64[np.ndarray, " F"]) -> Int64[np.ndarray, " P"]:
    """How many other patches each patch lies in, by the solid angle they fill around a point of it.

    tan(angle / 2) = [a b c] / (|a||b||c| + (a·b)|c| + (b·c)|a| + (c·a)|b|) (Van Oosterom and Strackee, IEEE TBME 1983).
    """
    order = np.argsort(patch, kind="stable")
    starts = np.flatnonzero(np.diff(patch[order], prepend=-1))
    low = np.minimum.reduceat(corners.min(axis=1)[order], starts) if len(order) else np.empty((0, 3))
    high = np.maximum.reduceat(corners.max(axis=1)[order], starts) if len(order) else np.empty((0, 3))
    depth = np.zeros(len(starts), dtype=np.int64)
    for number, start in enumerate(starts):
        around = ((low < low[number]) & (high > high[number])).all(axis=1)
        if around.any():
            near = around[patch]
            a, b, c = np.moveaxis(corners[near] - corners[order[start], 0], 1, 0)
            la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
            ab, bc, ca = (a * b).sum(axis=1), (b * c).sum(axis=1), (c * a).sum(axis=1)
            angles = 2 * np.arctan2((a * np.cross(b, c)).sum(axis=1), la * lb * lc + ab * lc + bc * la + ca * lb)
            depth[number] = (np.abs(np.bincount(patch[near], weights=angles)) > 2 * np.pi).sum()
    return depth


def pair_half_edges(mesh: Mesh, edges: Edges) -> tuple[Int64[np.ndarray, " H"], Bool[np.ndarray, " F"]]:
    """The half-edge across from each one, -1 at borders, and the faces that are too many at their edges or all
    alone.
    """
    twins, surplus = np.full(mesh.faces.size, -1), np.zeros(len(mesh.faces), dtype=bool)
    a, b = edges.pairs().T
    twins[a], twins[b] = b, a
    crowded = np.flatnonzero(edges.uses > 2)
    if len(crowded):
        patch = groups(len(mesh.faces), edges.pairs() // 3)
        areas = np.linalg.norm(area_vectors(mesh.vertices, mesh.faces), axis=1)
        sizes = np.bincount(patch, weights=areas)[patch]
    for start, uses in zip(edges.starts[crowded], edges.uses[crowded], strict=True):
        around = edges.order[start : start + uses]
        rising = edges.rising[around]
        excess = min(abs(2 * int(rising.sum()) - uses), uses - 2)
        smallest = np.lexsort((areas[around // 3], sizes[around // 3]))
        most = rising if 2 * rising.sum() > uses else ~rising
        dropped = np.isin(np.arange(uses), smallest[most[smallest]][:excess])
        for face in around[dropped] // 3:
            shared = patch[face] in patch[around[~dropped] // 3]
            surplus[face if shared else patch == patch[face]] = True
        left = around[~dropped]
        for one, other in wedges(in_turn(mesh, edges, left), edges.rising):
            twins[one], twins[other] = other, one
    lone = (twins.reshape(-1, 3) < 0).all(axis=1)
    return twins, surplus | (lone & ~lone.all())


def in_turn(mesh: Mesh, edges: Edges, around: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """The half-edges of one edge, counter-clockwise as their faces lie around it seen from its higher vertex.

    Of faces that lie on each other those come first that have their material behind.
    """
    tail, head, third = ends(mesh.faces, around)
    low, high = (mesh.vertices[end].astype(np.float64) for end in (min(tail[0], head[0]), max(tail[0], head[0])))
    axis = (high - low) / np.linalg.norm(high - low)
    spokes = mesh.vertices[third] - low
    spokes -= (spokes @ axis)[:, None] * axis
    angles = np.arctan2(spokes @ np.cross(axis, spokes[0]), spokes @ spokes[0])
    steps = np.round(angles * (500_000 / np.pi)).astype(np.int64) % 1_000_000  # in integers pi and -pi are the same
    return around[np.lexsort((~edges.rising[around], steps))]


def wedges(ring: Int64[np.ndarray, " N"], rising: Bool[np.ndarray, " H"]) -> list[tuple[int, int]]:
    """The half-edges of faces sorted around an edge, in pairs that have nothing but material between them.

    A face with a falling half-edge has its material ahead, one with a rising half-edge has it behind.
    """
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    paired: set[int] = set()
    for half in [*ring.tolist(), *ring.tolist()]:
        if half in paired or half in opened:
            continue
        if not rising[half]:
            opened.append(half)
        elif opened:
            pairs.append((opened.pop(), half))
            paired.update(pairs[-1])
    left = [half for half in ring.tolist() if half not in paired]  # all wound alike
    return pairs + list(zip(left[::2], left[1::2], strict=False))


def fans_of(faces: Int64[np.ndarray, "F 3"], twins: Int64[np.ndarray, " H"]) -> Int64[np.ndarray, " H"]:
    """The fan that each corner belongs to: the faces that follow one another around a vertex."""
    half = np.flatnonzero(twins > np.arange(len(twins)))
    other = twins[half]
    ahead, beyond = (3 * (h // 3) + (h + 1) % 3 for h in (half, other))
    alike = faces.ravel()[half] == faces.ravel()[other]  # only where a surface has one side
    tails = np.stack([half, np.where(alike, other, beyond)], axis=1)
    heads = np.stack([ahead, np.where(alike, beyond, other)], axis=1)
    return groups(faces.size, np.concatenate([tails, heads]))


def pull_fans_apart(mesh: Mesh, fans: Int64[np.ndarray, " H"]) -> Mesh:
    """The mesh with a vertex for each fan: the flattest keeps the one there, the others draw copies into themselves."""
    _, first = np.unique(fans, return_index=True)
    vertex = mesh.faces.ravel()[first]  # of each fan
    corner = np.flatnonzero((np.bincount(vertex) > 1)[mesh.faces.ravel()])
    here, after, before = (mesh.vertices[v].astype(np.float64) for v in ends(mesh.faces, corner))
    spokes = unit(after - here) + unit(before - here)
    normals = area_vectors(mesh.vertices, mesh.faces[corner // 3])
    shortest = np.full(len(first), np.inf)
    np.minimum.at(shortest, fans[corner], np.linalg.norm(np.stack([after - here, before - here]), axis=2).min(axis=0))
    inward = [np.bincount(fans[corner], weights=along, minlength=len(first)) for along in spokes.T]
    outward = [np.bincount(fans[corner], weights=along, minlength=len(first)) for along in normals.T]
    mean = np.stack(inward, axis=1) / np.bincount(fans)[:, None]
    crowd = np.unique(fans[corner])
    crowd = crowd[np.lexsort((np.linalg.norm(mean[crowd], axis=1), vertex[crowd]))]
    moved = crowd[1:][vertex[crowd[1:]] == vertex[crowd[:-1]]]  # all but the first of each vertex
    step = np.maximum(PULL * shortest[moved], 4 * FLAT * extent(mesh.vertices))[:, None]
    places = mesh.vertices[vertex[moved]] + step * into(mean[moved], np.stack(outward, axis=1)[moved])
    number = vertex.copy()
    number[moved] = len(mesh.vertices) + np.arange(len(moved))
    return with_faces(with_copies(mesh, vertex[moved, None], places), number[fans].reshape(-1, 3))


def into(mean: Float64[np.ndarray, "N 3"], outward: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
    """The way into a sheet: between its spokes, or, where they lie flat around, away from its outside."""
    return unit(mean - 1e-3 * unit(outward))


def split_crowded_edges(mesh: Mesh, edges: Edges, twins: Int64[np.ndarray, " H"]) -> Mesh:
    """The mesh with a vertex of its own in the middle of an edge for each pair of faces there but the flattest pair.

    For sheets that touch along an edge and hang together at both its ends. A face takes part in one split a round.
    """
    faces = mesh.faces.copy()
    places: list[np.ndarray] = []
    sources: list[list[int]] = []
    added: list[tuple[int, int, int]] = []
    touched: set[int] = set()
    points = mesh.vertices.astype(np.float64)
    for edge in np.flatnonzero(edges.uses > 2):
        around = edges.order[edges.starts[edge] : edges.starts[edge] + edges.uses[edge]]
        half = around[around < twins[around]]
        u, v, p = ends(mesh.faces, half)
        q = ends(mesh.faces, twins[half])[2]
        middle = (points[u] + points[v]) / 2
        mean = (unit(points[p] - middle) + unit(points[q] - middle)) / 2
        outward = area_vectors(mesh.vertices, mesh.faces[half // 3]) + area_vectors(
            mesh.vertices, mesh.faces[twins[half] // 3]
        )
        step = np.maximum(PULL * np.linalg.norm(points[v] - points[u], axis=1), 4 * FLAT * extent(mesh.vertices))
        place = middle + step[:, None] * into(mean, outward)
        for k in np.argsort(np.linalg.norm(mean, axis=1), kind="stable")[1:]:
            pair = {int(half[k]) // 3, int(twins[half[k]]) // 3}
            if pair & touched:
                continue
            touched |= pair
            new = len(points) + len(places)
            places.append(place[k])
            sources.append([u[k], v[k]])
            both = np.array([half[k], twins[half[k]]])
            for face, tail, head, third in zip(both // 3, *ends(mesh.faces, both), strict=True):
                faces[face] = tail, new, third
                added.append((new, head, third))
    more = with_copies(mesh, np.array(sources).reshape(-1, 2), np.array(places).reshape(-1, 3))
    return with_faces(more, np.concatenate([faces, np.array(added, dtype=np.int64).reshape(-1, 3)]))


def beyond_two(mesh: Mesh) -> Bool[np.ndarray, " F"]:
    """The faces that are neither largest nor second at one of their edges."""
    edges = edges_of(mesh.faces)
    owner = edges.order // 3
    areas = np.linalg.norm(area_vectors(mesh.vertices, mesh.faces), axis=1)
    edge = np.repeat(np.arange(len(edges.uses)), edges.uses)
    by_area = np.lexsort((-areas[owner], edge))
    rank = np.arange(len(owner)) - np.repeat(edges.starts, edges.uses)
    crowding = np.zeros(len(mesh.faces), dtype=bool)
    crowding[owner[by_area[rank > 1]]] = True
    return crowding
