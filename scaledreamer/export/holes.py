"""Holes closed with as little new surface as they need."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scaledreamer.export.cleanup import FLAT, extent, merge_vertices, with_copies
from scaledreamer.export.edges import edges_of, ends
from scaledreamer.export.mesh import Mesh

PLANNED = 128  # edges of the largest hole closed at least cost, which takes their cube in time


def fill_holes(mesh: Mesh, max_edges: int) -> Mesh:
    """The mesh, its vertices merged, with every hole of at most `max_edges` edges closed; itself when it has none.

    Between the vertices of its border where that makes no edge of more than two faces, otherwise, and around large
    holes, as a fan about a new vertex in the middle, which has the mean colour. The border of a single triangle is no
    hole.
    """
    mesh = merge_vertices(mesh)
    edges, flat = edges_of(mesh.faces), FLAT * extent(mesh.vertices)
    tails, heads, thirds = ends(mesh.faces, edges.at(1)[:, 0])
    apex = dict(zip(zip(tails.tolist(), heads.tolist(), strict=True), thirds.tolist(), strict=True))
    faces, fans = [mesh.faces], list[Int64[np.ndarray, " N"]]()
    diagonals = set[tuple[int, int]]()  # of the covers so far
    for loop in loops(tails, heads):
        if len(loop) > max_edges or (len(loop) == 3 and apex[loop[0], loop[1]] == loop[2]):
            continue
        border = np.array(loop[::-1])  # the other way round than the faces that are there
        points, cover = mesh.vertices[border].astype(np.float64), None
        if len(loop) <= PLANNED:
            barred = edges.holds(border[:, None], border[None])
            barred |= np.array([[(a, b) in diagonals for b in border.tolist()] for a in border.tolist()])
            cover = least_cover(points, barred, flat)
        if cover is not None:
            faces.append(border[cover])
            diagonals |= {(a, b) for face in faces[-1].tolist() for a in face for b in face}
        elif np.isfinite(costs(points, np.roll(points, -1, axis=0), points.mean(axis=0, keepdims=True), flat)).all():
            center = np.full(len(border), len(mesh.vertices) + len(fans))
            faces.append(np.stack([border, np.roll(border, -1), center], axis=1))
            fans.append(border)
    if len(faces) == 1:
        return mesh
    for border in fans:
        mesh = with_copies(mesh, border[None], mesh.vertices[border].mean(axis=0, keepdims=True, dtype=np.float64))
    return replace(mesh, faces=np.concatenate(faces))


def loops(tails: Int64[np.ndarray, " N"], heads: Int64[np.ndarray, " N"]) -> list[list[int]]:
    """The closed paths along border half-edges that meet no vertex twice, in the direction of the half-edges."""
    leaving: dict[int, list[int]] = {}
    for tail, head in zip(tails.tolist(), heads.tolist(), strict=True):
        leaving.setdefault(tail, []).append(head)
    found = []
    for start in leaving:
        while leaving[start]:
            path, place = [start], {start: 0}
            while leaving.get(path[-1]):
                vertex = leaving[path[-1]].pop()
                if vertex in place:
                    found.append(path[place[vertex] :])
                    for passed in path[place[vertex] + 1 :]:
                        del place[passed]
                    path = path[: place[vertex] + 1]
                else:
                    place[vertex] = len(path)
                    path.append(vertex)
    return found


def least_cover(
    points: Float64[np.ndarray, "N 3"], barred: Bool[np.ndarray, "N N"], flat: float
) -> Int64[np.ndarray, "T 3"] | None:
    """The triangles between the points of a loop that have the least area (Barequet and Sharir, CAGD 1995).

    Unlike there a little of the squared sides is added, which decides among covers of a plane. No triangle is lower
    than `flat`, no diagonal barred; None where that cannot be.
    """
    count = len(points)
    cost, middle = np.zeros((count, count)), np.zeros((count, count), dtype=np.int64)
    for gap in range(2, count):
        i = np.arange(count - gap)[:, None]
        k, j = i + np.arange(1, gap), i + gap
        total = cost[i, k] + cost[k, j] + costs(points[i], points[k], points[j], flat)
        best = total.argmin(axis=1)
        i, j = i[:, 0], j[:, 0]
        cost[i, j] = np.where(barred[i, j] & (gap < count - 1), np.inf, total[i, best])
        middle[i, j] = i + 1 + best
    if not np.isfinite(cost[0, -1]):
        return None
    cover, spans = [], [(0, count - 1)]
    while spans:
        low, high = spans.pop()
        if high - low > 1:
            between = int(middle[low, high])
            cover.append((low, between, high))
            spans += [(low, between), (between, high)]
    return np.array(cover)


def costs(
    a: Float64[np.ndarray, "*#N 3"], b: Float64[np.ndarray, "*#N 3"], c: Float64[np.ndarray, "*#N 3"], flat: float
) -> Float64[np.ndarray, "*N"]:
    """The area of each triangle and a little of its squared sides; infinite where it is not higher than `flat`."""
    sides = np.stack(np.broadcast_arrays(b - a, c - b, a - c))
    squares = (sides**2).sum(axis=-1)
    double = np.linalg.norm(np.cross(sides[0], sides[1]), axis=-1)
    return np.where(double > flat * np.sqrt(squares.max(axis=0)), double / 2 + 1e-3 * squares.sum(axis=0), np.inf)
