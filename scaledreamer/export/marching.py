"""Marching cubes (Lorensen and Cline, SIGGRAPH 1987), over a whole volume or over the blocks that matter."""

from functools import cache
from itertools import product

import mcubes
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from scaledreamer.export.blocks import FINE, SIDE, Blocks

Soup = tuple[Float64[np.ndarray, "V 3"], Int64[np.ndarray, "F 3"]]  # vertices in lattice units, faces outward
APART = 1e-3  # cells between a vertex and the lattice points beside it: no two vertices fall together in float32
STRIDES = np.array([SIDE * SIDE, SIDE, 1])  # of a node's number within its block
CORNERS = list(product((0, 1), repeat=3))  # of a cell; bit b of its code says whether corner b is inside


def march_volume(sdf: Float32[np.ndarray, "R R R"], cell: float) -> Soup:
    """The closed zero level of distances at every lattice point."""
    padded = np.pad(sdf, 1, constant_values=cell)  # outside all around, so the surface closes at the border
    places, faces = mcubes.marching_cubes(conditioned(padded, cell), 0.0)
    places, faces = places - 1, faces.astype(np.int64)[:, ::-1]  # PyMCubes takes the inside to be positive
    whole = np.floor(places)
    along = places - whole
    return close_border(whole + np.where(along > 0, along.clip(APART, 1 - APART), 0), faces, len(sdf) - 1)


def march_blocks(blocks: Blocks, cell: float, last: int) -> Soup:
    """The same vertices and faces, from the blocks that hold every crossed cell."""
    sdf = conditioned(blocks.sdf, cell)
    inside = sdf < 0
    code = np.zeros((len(sdf), FINE, FINE, FINE), dtype=np.uint8)
    for bit, (x, y, z) in enumerate(CORNERS):
        code |= inside[:, x : x + FINE, y : y + FINE, z : z + FINE].view(np.uint8) << np.uint8(bit)
    crossed = np.flatnonzero((code > 0) & (code < 255))
    codes = code.ravel()[crossed]
    block, place = np.divmod(crossed, FINE**3)
    lowest = block * SIDE**3 + np.indices((FINE,) * 3).reshape(3, -1).T[place] @ STRIDES  # node of each crossed cell
    edges, counts, starts = cell_table()
    faces_of = counts[codes]
    owner = np.repeat(np.arange(len(crossed)), faces_of)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(faces_of) - faces_of, faces_of)
    corner_edges = edges[starts[codes[owner]] + within]  # three a face, numbered from the cell's lowest node
    places, vertex = crossings(sdf, inside, blocks.numbers)
    return close_border(places, vertex[3 * lowest[owner][:, None] + corner_edges], last)


def crossings(
    sdf: Float32[np.ndarray, "A S S S"], inside: Bool[np.ndarray, "A S S S"], numbers: Int64[np.ndarray, "A 3"]
) -> tuple[Float64[np.ndarray, "V 3"], Int64[np.ndarray, " E"]]:
    """A vertex where the sign changes along an edge, in lattice units, and each edge's vertex.

    Edge 3 n + axis leads from node n of all blocks along an axis; blocks that share it share its vertex.
    """
    flat, lower, along = sdf.ravel(), [], []
    for direction in range(3):
        changes = np.zeros(inside.shape, dtype=bool)
        low, high = (np.moveaxis(inside, direction + 1, 0)[ends] for ends in (slice(-1), slice(1, None)))
        np.not_equal(low, high, out=np.moveaxis(changes, direction + 1, 0)[:-1])
        lower.append(np.flatnonzero(changes))
        along.append(np.full(len(lower[-1]), direction))
    node, axis = np.concatenate(lower), np.concatenate(along)
    block, within = np.divmod(node, SIDE**3)
    places = (numbers[block] * FINE - 1 + np.stack(np.unravel_index(within, (SIDE,) * 3), axis=1)).astype(np.int64)
    span = int(numbers.max(initial=0)) * FINE + SIDE + 2
    keys = ((places + 1) @ [span * span, span, 1]) * 3 + axis
    _, first, shared = np.unique(keys, return_index=True, return_inverse=True)
    vertex = np.zeros(3 * len(flat), dtype=np.int64)
    vertex[3 * node + axis] = shared
    node, axis = node[first], axis[first]
    low, high = flat[node].astype(np.float64), flat[node + STRIDES[axis]].astype(np.float64)
    vertices = places[first].astype(np.float64)
    vertices[np.arange(len(first)), axis] += (low / (low - high)).clip(APART, 1 - APART)
    return vertices, vertex


def conditioned(sdf: Float32[np.ndarray, "*S"], cell: float) -> Float32[np.ndarray, "*S"]:
    """Distances in cells, a zero belonging to the outside.

    Neither zero nor huge, they leave every vertex inside its edge even after rounding, so that its coordinates tell
    which edge that is.
    """
    scaled: Float32[np.ndarray, "*S"] = np.clip(sdf / np.float32(cell), -1e3, 1e3)
    scaled[(scaled >= 0) & (scaled < 1e-6)] = 1e-6
    scaled[(scaled < 0) & (scaled > -1e-6)] = -1e-6
    return scaled


@cache
def cell_table() -> tuple[Int64[np.ndarray, "T 3"], Int64[np.ndarray, " 256"], Int64[np.ndarray, " 256"]]:
    """Edges of every face, how many faces each of the 256 codes has, and its first: PyMCubes on single cells."""
    edges, counts = [], []
    for code in range(256):
        inside = np.array([code >> bit & 1 for bit in range(8)], dtype=bool).reshape(2, 2, 2)
        places, faces = mcubes.marching_cubes(np.where(inside, -1.0, 1.0), 0.0)
        lower, axis = np.floor(places).astype(np.int64), np.argmax(places % 1 > 0, axis=1)
        edges.append((3 * (lower @ STRIDES) + axis)[faces.astype(np.int64).reshape(-1, 3)[:, ::-1]])
        counts.append(len(faces))
    return np.concatenate(edges), np.array(counts), np.cumsum(counts) - counts


def close_border(
    places: Float64[np.ndarray, "V 3"], faces: Int64[np.ndarray, "F 3"], last: int
) -> tuple[Float64[np.ndarray, "W 3"], Int64[np.ndarray, "G 3"]]:
    """The faces beyond the border pressed flat onto it.

    Beyond an edge of the box two vertices land on one lattice point, beyond a corner three; they become one vertex, and
    the faces that had no other extent vanish, which joins their neighbours edge to edge.
    """
    outside = ((places < 0) | (places > last)).any(axis=1)
    if not outside.any():
        return places, faces
    beyond = np.flatnonzero(outside)
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
