"""The child process of `unwrap`: a mesh comes in on standard input, its atlas goes out on standard output.

It is run as a file and imports numpy and xatlas alone, so it starts in a moment and takes nothing along when it dies.
"""

import io
import math
import os
import signal
import sys

import numpy as np
import xatlas

GRID = 1024  # texels a side on which charts are packed at most; a larger texture is a multiple of it
EXTENT = 100  # units; xatlas drops faces smaller than 1e-7 square units
ROUNDS = 8
NO_CHART = 2**32 - 1
# Never destroyed: xatlas wakes its threads to end them without a lock, and now and then waits for ever for one that has
# not heard it (twice in 15,000 runs of this file). So this process ends with os._exit.
ATLASES: list[xatlas.Atlas] = []


def new_atlas() -> xatlas.Atlas:
    """An empty atlas."""
    ATLASES.append(xatlas.Atlas())
    return ATLASES[-1]


def charts(vertices: np.ndarray, faces: np.ndarray, grid: int) -> tuple[np.ndarray, ...]:
    """Source vertex, chart (NO_CHART for degenerate faces) and place in texels of each new vertex; the new faces."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    atlas = new_atlas()
    atlas.add_mesh(
        ((vertices - low) * (EXTENT / ((high - low).max() or 1))).astype(np.float32), faces.astype(np.uint32)
    )
    options = xatlas.ChartOptions()
    options.fix_winding = True
    atlas.generate(options, packing(grid, 0.0, 0))
    source, indices, uvs = atlas.get_mesh(0)
    _, chart = atlas.get_mesh_vertex_assignment(0)
    if (chart == NO_CHART).all():
        raise RuntimeError("no face has an area")
    return source, chart, uvs * np.array([atlas.width, atlas.height], dtype=np.float32), indices


def cut_off(places: np.ndarray, indices: np.ndarray, loose: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which vertices to take, their places, and the faces: each loose one is a chart by itself, beside the rest."""
    taken, places = np.arange(len(places)), places.astype(np.float32)
    if len(loose):
        alone = places[indices[loose]]
        alone -= alone.min(axis=1, keepdims=True)
        beside = places.max() + (1 + np.arange(len(loose), dtype=np.float32)) * (1 + alone.max())
        taken = np.concatenate([taken, indices[loose].ravel()])
        places = np.concatenate([places, (alone + beside[:, None, None]).reshape(-1, 2)])
        indices = indices.copy()
        indices[loose] = len(places) - alone.size // 2 + np.arange(alone.size // 2).reshape(-1, 3)
        used, indices = np.unique(indices, return_inverse=True)
        taken, places, indices = taken[used], places[used], indices.reshape(-1, 3).astype(np.uint32)
    return taken, places, indices


def packing(resolution: int, scale: float, padding: int) -> xatlas.PackOptions:
    """xatlas's options: about this resolution, or (0) as large as this many texels a unit ask for."""
    options = xatlas.PackOptions()
    options.resolution, options.texels_per_unit, options.padding = resolution, scale, padding
    options.rotate_charts = False  # it swaps u and v, which mirrors the chart
    return options


def pack(places: np.ndarray, indices: np.ndarray, grid: int, margin: float) -> np.ndarray:
    """The charts' vertices in [0, 1], as large as fits with a margin all around each.

    xatlas meets a resolution only roughly, so packing is repeated with a corrected scale, and the best try counts.
    Where even small charts find no room the margin shrinks with them.
    """
    room = grid - 2 * margin
    side, scale = places.max(), 1.0
    best: np.ndarray | None = None
    best_rank = False, 0.0
    for _ in range(ROUNDS):
        scale *= room / side * 0.99  # a little less: a try that does not fit is lost
        atlas = new_atlas()
        atlas.add_uv_mesh(places, indices)
        atlas.generate(xatlas.ChartOptions(), packing(0, scale, math.ceil(margin)))
        side = max(atlas.width, atlas.height)
        source, _, uvs = atlas.get_mesh(0)
        fits = side <= room
        rank = fits, room / side * (scale if fits else 1)  # the largest charts that fit, else those least too large
        if len(source) == len(places) and rank > best_rank:
            fitted = uvs.astype(np.float64) * [atlas.width, atlas.height] * (room / side) + margin
            best, best_rank = fitted / grid, rank
    if best is None:
        raise RuntimeError(f"xatlas could not pack {len(places)} vertices")
    return best


def anchor(source: np.ndarray, chart: np.ndarray, uvs: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """Source, place and faces, where each face without a chart (it has no area) lies on one point of a neighbour."""
    lost = (chart == NO_CHART)[indices].any(axis=1)
    neighbor = np.zeros(source.max() + 1, dtype=np.int64)
    charted = np.flatnonzero(chart != NO_CHART)
    neighbor[source[charted]] = charted + 1
    corners = source[indices[lost]]
    points = uvs[np.maximum(neighbor[corners].max(axis=1) - 1, 0)]
    indices = indices.astype(np.int64)
    indices[lost] = len(source) + np.arange(corners.size).reshape(-1, 3)
    return np.concatenate([source, corners.ravel()]), np.concatenate([uvs, np.repeat(points, 3, axis=0)]), indices


def main() -> None:
    """Answer one mesh; the argument is the time in seconds after which nobody waits any more."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]) + 1)  # ends this process if its parent died before
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no part of the answer
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as asked:
        vertices, faces, size, gutter, loose = (
            asked[name] for name in ("vertices", "faces", "size", "gutter", "loose")
        )
    grid = min(int(size), GRID)
    source, chart, places, indices = charts(vertices, faces, grid)
    taken, places, indices = cut_off(places, indices, loose)
    source, chart = source[taken], chart[taken]
    uvs = pack(places, indices, grid, margin=int(gutter) / 2 * grid / int(size))
    source, uvs, indices = anchor(source, chart, uvs, indices)
    with answer:
        content = io.BytesIO()
        np.savez(content, source=source.astype(np.int64), faces=indices, uvs=uvs.astype(np.float32))
        answer.write(content.getvalue())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
