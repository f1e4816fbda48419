"""The same surface in fewer faces."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from threading import Lock

import fast_simplification
import numpy as np
from scipy.spatial import QhullError, cKDTree

from scaledreamer.errors import ExportError
from scaledreamer.export.cleanup import FLAT, extent, keep_large_parts, merge_vertices
from scaledreamer.export.clusters import Frame, clustered, clustered_to, spacing
from scaledreamer.export.deviation import Nearby, distances
from scaledreamer.export.facts import MeshFacts, measure
from scaledreamer.export.hull import Hull, outermost, tetrahedron
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.repair import make_manifold, orient

CLOSE = 0.98  # of the faces asked for: near enough
KEPT = 0.7  # of the area: less, and something is lost
AGGRESSIVENESS = 5, 7, 9  # gentler thresholds choose better edges, but more often find none
FEW = 128  # up to so many faces the result hangs on single edges: all ways are tried, and a convex hull
PASSES, TRIES = 4, 3
SIDE = 2.0  # of the box the library sees: its thresholds are lengths
CELL = 0.25  # of the spacing of the faces asked for: clusters that leave the choice of edges to the library
PROBES = 6
LIBRARY = Lock()  # fast_simplification keeps the mesh it works on in globals


def simplify(mesh: Mesh, faces: int, crumbs: float = 0.0) -> Mesh:
    """The mesh in at most `faces` faces, within 2 % of that where it can be; itself when it has no more.

    By quadric error metrics (Garland and Heckbert, SIGGRAPH 1997), repaired: closed, manifold and wound consistently if
    the mesh is, and of no more parts where some way of many is found. Very few faces may be those of a convex hull.
    Parts of less than `crumbs` of all volume and of all area go, and the rest has their faces. Colours and normals are
    those of the nearest vertex before.
    """
    if faces < 4:
        raise ExportError(f"cannot simplify to {faces} faces; a closed surface has at least 4")
    if faces >= len(mesh.faces):
        return mesh
    return with_nearest_attributes(mesh, reduced(mesh, faces, measure(mesh), crumbs))


def simplify_to_error(mesh: Mesh, max_error: float, at_least: int, at_most: int) -> Mesh:
    """The mesh in the fewest faces, of `at_least` to `at_most`, found to deviate by at most `max_error` object units.

    In `at_most` faces where even those deviate more.
    """
    return fewest_faces(mesh, max_error, at_least, at_most)[0]


def fewest_faces(mesh: Mesh, max_error: float, at_least: int, at_most: int) -> tuple[Mesh, float]:
    """What simplify_to_error finds in six simplifications, and its deviation."""
    surface, before = Nearby(mesh), measure(mesh)
    low, high = float(max(at_least, 4)), float(min(at_most, len(mesh.faces)))

    def probe(faces: int) -> tuple[Mesh, float]:
        simplified = mesh if faces == len(mesh.faces) else reduced(mesh, faces, before)
        return simplified, float(distances(surface, Nearby(simplified)).max())

    best, guess = None, np.sqrt(low * high)
    for _ in range(PROBES):
        if high < 1.05 * low:
            break
        try:
            found, error = probe(round(guess))
        except ExportError:
            error = np.inf
        if error <= max_error:
            best, high = (found, error), guess
        else:
            low = guess
        narrow = (high / low) ** 0.25
        guess = np.clip(guess * error / max_error, low * narrow, high / narrow)  # the error goes with 1 / faces
    found, error = best or probe(int(high))
    return with_nearest_attributes(mesh, found), error


def reduced(mesh: Mesh, faces: int, before: MeshFacts, crumbs: float = 0.0) -> Mesh:
    """The simplified mesh, with colours and normals that mean nothing yet; `before` are the facts of the mesh."""
    found: list[tuple[bool, bool, bool, float, int, Mesh]] = []
    mesh = merge_vertices(mesh)
    for way in (candidates, coarser_candidates):
        for candidate, intact in way(mesh, faces, crumbs):
            after = measure(candidate)
            if is_worse(after, before):
                continue
            close, kept = after.faces >= min(CLOSE * faces, faces - 1), after.area >= KEPT * before.area
            # a thin bridge can be collapsed into nothing
            whole = faces <= FEW or (intact and after.parts <= before.parts)
            liked = after.faces if kept and faces > FEW else -loss(after, before)
            found.append((kept, whole, close, liked, -len(found), candidate))
            if kept and whole and close and faces > FEW:
                break
        if any(kept and whole and close for kept, whole, close, *_ in found):
            break
    if not found:
        raise ExportError(f"cannot simplify this mesh of {len(mesh.faces)} faces to {faces}; ask for more")
    return max(found, key=lambda ranked: ranked[:5])[-1]


def loss(after: MeshFacts, before: MeshFacts) -> float:
    """Relative change of area, and of volume where there is one."""
    area = abs(after.area / before.area - 1)
    return area + abs(after.volume / before.volume - 1) if before.watertight and before.volume else area


def is_worse(after: MeshFacts, before: MeshFacts) -> bool:
    """Whether something has come in that no simplified mesh should have."""
    return (
        after.degenerate_faces > 0
        or after.nonmanifold_edges > before.nonmanifold_edges
        or after.watertight < before.watertight
        or after.winding_consistent < before.winding_consistent
    )


def candidates(mesh: Mesh, faces: int, crumbs: float) -> Iterator[tuple[Mesh, bool]]:
    """Repaired simplified meshes of at most `faces` faces, those that should be better first.

    Without crumbs; each with whether it had none.
    """
    for aggressiveness in AGGRESSIVENESS:
        asked, count = faces, -1
        for _ in range(TRIES):
            if faces - 1 <= count <= faces or not 4 <= asked <= len(mesh.faces):
                break
            torn = collapsed(mesh, asked, aggressiveness)
            candidate = keep_large_parts(torn, crumbs) if len(torn.faces) > 0 else torn
            count = len(candidate.faces)
            if 0 < count <= faces:
                yield candidate, candidate is torn
            asked += faces - count  # crumbs and repairs take faces away, and repairs may add some
    if faces <= FEW and len(mesh.faces) > 0:
        with suppress(QhullError):  # a mesh without thickness has no hull
            yield coarse_hull(mesh, faces), True


def coarser_candidates(mesh: Mesh, faces: int, crumbs: float) -> Iterator[tuple[Mesh, bool]]:
    """Candidates for a mesh of slivers: the library leaves faces alone that have a corner of less than 2.5 degrees.

    Of a mesh made rounder and clustered a little, and of one that is nothing but clustered.
    """
    frame = Frame.of(mesh.vertices)
    rounder = frame.enter(mesh)
    slight = clustered(rounder, CELL * spacing(rounder, faces))
    yield from ((frame.leave(candidate), intact) for candidate, intact in candidates(slight, faces, crumbs))
    plain = clustered_to(rounder, faces)
    if 0 < len(plain.faces) <= faces:
        candidate = keep_large_parts(plain, crumbs)
        yield frame.leave(candidate), candidate is plain


def collapsed(mesh: Mesh, faces: int, aggressiveness: int) -> Mesh:
    """The mesh with edges collapsed, and repaired, until few enough faces are left or no edge can go."""
    for _ in range(PASSES):
        before = len(mesh.faces)
        mesh = orient(make_manifold(collapse_edges(mesh, min(faces, before), aggressiveness)))
        if len(mesh.faces) <= faces or len(mesh.faces) == before:
            break
    return mesh


def collapse_edges(mesh: Mesh, faces: int, aggressiveness: int) -> Mesh:
    """What the library makes of it, kept in its box: there are edges of many faces, copies, corners that coincide."""
    low, high = mesh.vertices.min(axis=0).astype(np.float64), mesh.vertices.max(axis=0)
    scale = max(float((high - low).max()), float(np.finfo(np.float32).tiny)) / SIDE
    with LIBRARY:
        places, corners = fast_simplification.simplify(
            (mesh.vertices - low) / scale, mesh.faces, target_count=faces, agg=aggressiveness
        )
    vertices = (places * scale + low).clip(low, high).astype(np.float32)
    return Mesh(vertices, corners.astype(np.int64), np.zeros_like(vertices))


def coarse_hull(mesh: Mesh, faces: int) -> Mesh:
    """A convex polyhedron of at most `faces` faces, between vertices of the mesh.

    From a tetrahedron on, what is farthest outside of each face becomes a corner next (as in Qhull, ACM TOMS 1996).
    """
    points = outermost(mesh.vertices.astype(np.float64))
    corners = np.array(tetrahedron(points))
    while True:
        hull = Hull.of(points[corners])
        beyond = points @ hull.normals.T - hull.offsets
        farthest = np.argsort(-beyond.max(axis=1), kind="stable")
        farthest = farthest[beyond[farthest].max(axis=1) > FLAT * extent(mesh.vertices)]
        _, first = np.unique(beyond[farthest].argmax(axis=1), return_index=True)
        room = faces // 2 + 2 - len(corners)  # V corners have at most 2 V - 4 faces
        if room == 0 or len(first) == 0:
            vertices = hull.vertices.astype(np.float32)
            return orient(make_manifold(Mesh(vertices, hull.faces, np.zeros_like(vertices))))
        corners = np.concatenate([corners, farthest[np.sort(first)[:room]]])


def with_nearest_attributes(mesh: Mesh, simplified: Mesh) -> Mesh:
    """The simplified mesh with the colours and normals of the nearest vertices of the mesh."""
    _, near = cKDTree(mesh.vertices).query(simplified.vertices)
    return replace(
        mesh, vertices=simplified.vertices, faces=simplified.faces, colors=mesh.colors[near], normals=mesh.normals[near]
    )
