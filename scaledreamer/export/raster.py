"""Triangles on the texels of an atlas: whose centres they cover, and whose lie just beyond their borders."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from scaledreamer.errors import ExportError

SIZES = [256, 512, 1024, 2048, 4096]
CHUNK = 1 << 18  # texels at once, so memory does not grow with the atlas
REACH = 1.0  # texels: as far from a sample as bilinear filtering reads


def refuse_size(size: object) -> None:
    """An error where an atlas cannot have `size` texels a side."""
    if isinstance(size, bool) or size not in SIZES:
        raise ExportError(f"cannot use the texture size {size!r}; choose one of {SIZES}")


def to_texels(uvs: Float[np.ndarray, "V 2"], size: int) -> Float64[np.ndarray, "V 2"]:
    """Column and row of each vertex: texel (row i, column j) has its centre at (j + 0.5, i + 0.5); v = 1 is row 0."""
    u, v = uvs.astype(np.float64).T
    return np.stack([u, 1 - v], axis=1) * size


def covered(
    places: Float64[np.ndarray, "V 2"], faces: Int64[np.ndarray, "F 3"], size: int
) -> Iterator[tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]]:
    """Each texel whose centre a face covers, with that face; a centre on a shared edge belongs to one of the two."""
    corners = places[faces]
    first, end = np.ceil(corners[..., 1].min(axis=1) - 0.5), np.ceil(corners[..., 1].max(axis=1) - 0.5)
    face, row = expand(first, end, size)
    left, right = np.full(len(face), np.inf), np.full(len(face), -np.inf)
    for edge in ([0, 1], [1, 2], [2, 0]):
        (x, y), (dx, dy) = upwards(places[faces[:, edge]])
        crossed = (y[face] <= row + 0.5) & (row + 0.5 < (y + dy)[face])
        f = face[crossed]
        crossing = x[f] + (row[crossed] + 0.5 - y[f]) * dx[f] / dy[f]
        left[crossed] = np.minimum(left[crossed], crossing)
        right[crossed] = np.maximum(right[crossed], crossing)
    yield from texels(face, row, np.ceil(left - 0.5), np.ceil(right - 0.5), size)


def beside(
    segments: Float64[np.ndarray, "E 2 2"], free: Bool[np.ndarray, " N"], size: int
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Each free texel within REACH of a segment, along both axes: the nearest segment, the texel, the place along it.

    The place is 0 at the segment's start and 1 at its end.
    """
    nearest, distance = np.full(len(free), -1), np.full(len(free), np.inf)
    (x, y), (dx, dy) = upwards(segments)
    segment, row = expand(np.ceil(y - REACH - 0.5), np.floor(y + dy + REACH + 0.5), size)
    low, high = row + 0.5 - REACH, row + 0.5 + REACH
    ends = [
        x[segment] + dx[segment] * ((at - y[segment]) / np.maximum(dy[segment], 1e-12)).clip(0, 1) for at in (low, high)
    ]
    first, end = np.ceil(np.minimum(*ends) - REACH - 0.5), np.floor(np.maximum(*ends) + REACH + 0.5)
    for found, texel in texels(segment, row, first, end, size):
        found, texel = found[free[texel]], texel[free[texel]]
        _, offset = along(segments[found], texel, size)
        farther = np.argsort(-offset, kind="stable")  # of many writes to one texel the last one stays
        farther = farther[offset[farther] < distance[texel[farther]]]
        nearest[texel[farther]], distance[texel[farther]] = found[farther], offset[farther]
    texel = np.flatnonzero(nearest >= 0)
    place, _ = along(segments[nearest[texel]], texel, size)
    return nearest[texel], texel, place


def along(
    segments: Float64[np.ndarray, "N 2 2"], texel: Int64[np.ndarray, " N"], size: int
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """The place on each segment, from 0 to 1, that is nearest to the texel's centre, and its distance in texels."""
    start, direction = segments[:, 0], segments[:, 1] - segments[:, 0]
    offset = centers(texel, size) - start
    length = np.maximum((direction**2).sum(axis=1), 1e-24)
    place = ((offset * direction).sum(axis=1) / length).clip(0, 1)
    return place, np.linalg.norm(offset - place[:, None] * direction, axis=1)


def centers(texel: Int64[np.ndarray, " N"], size: int) -> Float64[np.ndarray, "N 2"]:
    """Column and row of the centres of numbered texels."""
    return np.stack([texel % size, texel // size], axis=1) + 0.5


def upwards(segments: Float64[np.ndarray, "E 2 2"]) -> tuple[Float64[np.ndarray, "2 E"], Float64[np.ndarray, "2 E"]]:
    """Start and extent of the segments, run so that rows grow: two faces see the edge they share alike, to the bit."""
    down = segments[:, 0, 1] > segments[:, 1, 1]
    start, end = np.where(down[:, None, None], segments[:, ::-1], segments).transpose(1, 2, 0)
    return start, end - start


def expand(
    first: Float64[np.ndarray, " N"], end: Float64[np.ndarray, " N"], size: int
) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]:
    """For each range [first, end) within [0, size) its index and its integers, one after the other."""
    start = first.clip(0, size).astype(np.int64)
    counts = np.maximum(end.clip(0, size).astype(np.int64) - start, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return owner, start[owner] + np.arange(len(owner)) - before[owner]


def texels(
    owner: Int64[np.ndarray, " S"],
    row: Int64[np.ndarray, " S"],
    first: Float64[np.ndarray, " S"],
    end: Float64[np.ndarray, " S"],
    size: int,
) -> Iterator[tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]]:
    """Owner and number of every texel in spans of rows, about CHUNK at a time."""
    total = np.cumsum(np.maximum(end - first, 0))
    cuts = np.searchsorted(total, np.arange(CHUNK, total[-1] if len(total) else 0, CHUNK))
    for part in np.split(np.arange(len(owner)), cuts):
        span, column = expand(first[part], end[part], size)
        yield owner[part][span], row[part][span] * size + column
