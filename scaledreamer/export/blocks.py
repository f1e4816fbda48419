"""Where the surface of a field may be: small blocks of cells, and the distance at their nodes.

The lattice has `resolution` nodes along an axis and one layer of cells beyond its border, where everything is outside,
so that a surface that leaves the box is closed there. Block b of `size` cells holds the nodes size b - 1 ... size b +
size - 1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy.ndimage import maximum_filter
from torch import Tensor

from scaledreamer.errors import ExportError
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.nodes import Axes, Nodes, block_range

COARSE, FINE = 8, 4  # cells along the side of a block
SIDE = FINE + 1  # nodes along the side of a fine block
SMALL = 32  # cells along a lattice that is asked as a whole
CERTIFIED = (16, 8, 4)  # of the blocks that interval bounds prune
SAFETY = 1.25  # on the slope measured between nodes, because the field may be steeper between them
NEAREST = 3**0.5 / 2  # of a point in a unit cube to the nearest of its corners, at most
AROUND = (3 + 3 * 2**0.5 + 3**0.5) / 8  # of a point in a unit cube to its corners on average, at most
KEPT = 1 << 14  # blocks whose distances are held before those without a crossing are let go
ROUNDING = 1e-4  # of proved bounds, which are computed in float32, relative to the slope of one


Corners = Float32[np.ndarray, "2 2 2 *A"]  # of blocks


@dataclass(frozen=True)
class Blocks:
    """The blocks of FINE cells on which the sign changes: they hold every cell that the surface crosses."""

    numbers: Int64[np.ndarray, "A 3"]
    sdf: Float32[np.ndarray, "A S S S"]  # at their nodes; one cell, so outside, beyond the lattice
    least: float  # of all distances that were met


def chunk_nodes(device: torch.device) -> int:
    """Nodes a call: what fits a core's cache, or fills a GPU."""
    return 1 << 13 if device.type == "cpu" else 1 << 20


class Lattice:
    """A field on resolution^3 points of a cube, both ends included; the whole box unless told otherwise."""

    def __init__(
        self, field: Field, resolution: int, cube: tuple[Float[np.ndarray, " 3"], float] | None = None
    ) -> None:
        center, half = cube or (np.zeros(3), field.bound)
        self.field, self.last, self.cell = field, resolution - 1, 2 * half / (resolution - 1)
        self.origin = center - half
        along = torch.linspace(-half, half, resolution, device=field.device)
        self.axes: Axes = (along + float(center[0]), along + float(center[1]), along + float(center[2]))
        self.low, self.high = torch.zeros(3, dtype=torch.int64), torch.full((3,), -1)
        self.nodes: Nodes | None = None  # of the indices from low to high

    def count(self, size: int) -> int:
        """Blocks of `size` cells along an axis."""
        return -(-(self.last + 2) // size)

    def between(self, low: Int64[Tensor, " 3"], high: Int64[Tensor, " 3"]) -> Nodes:
        """The nodes of a part of the lattice, for a field may have to prepare them; self.low says where it begins."""
        if self.nodes is None or (low < self.low).any() or (high > self.high).any():
            if self.nodes is not None:
                low, high = torch.minimum(low, self.low), torch.maximum(high, self.high)
            self.low, self.high = low, high
            x, y, z = (axis[a : b + 1] for axis, a, b in zip(self.axes, low.tolist(), high.tolist(), strict=True))
            self.nodes = self.field.nodes((x, y, z))
        return self.nodes

    @torch.no_grad()
    def sdf(self, numbers: Int64[np.ndarray, "A 3"], size: int, step: int) -> Float32[np.ndarray, "A S S S"]:
        """Signed distance at every `step`-th node of blocks; finite."""
        side = size // step + 1
        values = np.empty((len(numbers), side, side, side), dtype=np.float32)
        device = self.field.device
        chunk = max(1, chunk_nodes(device) // side**3)
        places = block_range(torch.from_numpy(numbers), size, self.last, step)
        nodes = self.between(places.amin((0, 2)), places.amax((0, 2)))
        places = (places - self.low[:, None]).to(device)
        for start in range(0, len(numbers), chunk):
            i, j, k = places[start : start + chunk].unbind(1)
            values[start : start + chunk] = finite(nodes, i, j, k)
        return values

    def blocks(self, mode: Literal["fast", "exact"]) -> Blocks:
        """The blocks that the surface may cross: `fast` by the slope that was measured, `exact` by proof."""
        active, least = self.by_slope() if mode == "fast" else self.by_proof()
        shape = (self.count(FINE),) * 3
        known = np.zeros(shape, dtype=bool)
        found, values = [np.empty((0, 3), dtype=np.int64)], [np.empty((0, *(FINE + 1,) * 3), dtype=np.float32)]
        while len(active):
            known[tuple(active.T)] = True
            crossed, sdf, lowest = self.crossed(active)
            least = min(least, lowest)
            found.append(crossed)
            values.append(sdf)
            fresh = behind_crossed_faces(crossed, sdf < 0, shape) & ~known
            active = np.argwhere(fresh)
        if least == np.inf:  # nothing was asked, for all of it is proved to be outside
            least = float(self.corner_lattice(self.count(COARSE)).min())
        return Blocks(np.concatenate(found), np.concatenate(values), least)

    def crossed(
        self, numbers: Int64[np.ndarray, "A 3"]
    ) -> tuple[Int64[np.ndarray, "C 3"], Float32[np.ndarray, "C S S S"], float]:
        """Those of the blocks on which the sign changes, their distances, and the least distance of all."""
        found, values, least = [], [], np.inf
        for start in range(0, len(numbers), KEPT):
            some = numbers[start : start + KEPT]
            sdf = self.sdf(some, FINE, 1)
            least = min(least, float(sdf.min()))
            inside = self.closed(some, sdf).reshape(len(some), SIDE**3) < 0
            changes = inside.any(axis=1) & ~inside.all(axis=1)
            found.append(some[changes])
            values.append(sdf[changes])
        return np.concatenate(found), np.concatenate(values), least

    def closed(
        self, numbers: Int64[np.ndarray, "A 3"], sdf: Float32[np.ndarray, "A S S S"]
    ) -> Float32[np.ndarray, "A S S S"]:
        """The same distances with the outside beyond the border, on blocks of FINE cells."""
        index = numbers[:, :, None] * FINE - 1 + np.arange(FINE + 1)
        beyond = (index < 0) | (index > self.last)
        x, y, z = beyond.transpose(1, 0, 2)
        sdf[x[:, :, None, None] | y[:, None, :, None] | z[:, None, None, :]] = self.cell
        return sdf

    def by_slope(self) -> tuple[Int64[np.ndarray, "A 3"], float]:
        """Blocks that may hold a zero if the field is nowhere steeper than SAFETY times what its nodes show nearby.

        The whole lattice is measured in blocks of COARSE cells; those that stay are measured again in blocks of FINE.
        On a small lattice that would not tell much, and all of it costs no more.
        """
        if self.last < SMALL:
            return np.argwhere(np.ones((self.count(FINE),) * 3, dtype=bool)), np.inf
        count = self.count(COARSE)
        corners = corners_of(self.corner_lattice(count), axes=(0, 1, 2))
        slope = maximum_filter(self.slope(corners, COARSE), size=3, mode="nearest")
        numbers = np.argwhere(self.may_cross(corners, slope, COARSE, np.indices((count,) * 3).transpose(1, 2, 3, 0)))
        least = float(corners.min())
        if not len(numbers):
            return numbers, least
        finer = self.sdf(numbers, COARSE, FINE)
        least = min(least, float(finer.min()))
        children = corners_of(finer, axes=(1, 2, 3))
        slope = np.broadcast_to(self.slope(children, FINE).max(axis=(1, 2, 3), keepdims=True), children.shape[3:])
        places = 2 * numbers[:, None, None, None] + np.indices((2, 2, 2)).transpose(1, 2, 3, 0)
        places = places[self.may_cross(children, slope, FINE, places)]
        return places[(places < self.count(FINE)).all(axis=1)], least

    @torch.no_grad()
    def corner_lattice(self, count: int) -> Float32[np.ndarray, "C C C"]:
        """Signed distance at the corners of all blocks of COARSE cells."""
        places = (torch.arange(count + 1, device=self.field.device) * COARSE - 1).clamp(0, self.last)
        x, y, z = (axis[places] for axis in self.axes)
        nodes = self.field.nodes((x, y, z))
        along = torch.arange(count + 1, device=self.field.device)[None]
        slabs = along.split(max(1, chunk_nodes(self.field.device) // (count + 1) ** 2), dim=1)
        return np.concatenate([finite(nodes, slab, along, along)[0] for slab in slabs])

    def slope(self, corners: Corners, size: int) -> Float[np.ndarray, "*A"]:
        """SAFETY times the steepest ascent between the corners of each block, one at least."""
        squares = np.zeros(corners.shape[3:])
        for axis in range(3):
            low, high = (np.moveaxis(corners, axis, 0)[end] for end in (0, 1))
            squares += np.abs(high - low).max(axis=(0, 1)) ** 2
        steepest: Float[np.ndarray, "*A"] = np.maximum(SAFETY / (size * self.cell) * np.sqrt(squares), 1)
        return steepest

    def may_cross(
        self, corners: Corners, slope: Float[np.ndarray, "*A"], size: int, numbers: Int64[np.ndarray, "*A 3"]
    ) -> Bool[np.ndarray, "*A"]:
        """Whether a field no steeper than `slope` can have a zero in a block with these corners; beyond the border all
        is outside, so there it is enough that something may be inside.
        """
        reach = slope * size * self.cell
        low, high = corners.min(axis=(0, 1, 2)), corners.max(axis=(0, 1, 2))
        magnitude = np.abs(corners)
        one_sign = (low >= 0) | (high < 0)
        far = (magnitude.min(axis=(0, 1, 2)) > NEAREST * reach) | (magnitude.mean(axis=(0, 1, 2)) > AROUND * reach)
        border = ((numbers == 0) | (numbers >= self.last // size)).any(axis=-1)
        crosses: Bool[np.ndarray, "*A"] = ~(one_sign & far) | border & (high < 0)
        return crosses

    @torch.no_grad()
    def by_proof(self) -> tuple[Int64[np.ndarray, "A 3"], float]:
        """Blocks on which the bounds of the field do not prove one sign; all of them where it knows no bounds."""
        device = self.field.device
        nodes = self.between(torch.zeros(3, dtype=torch.int64), torch.full((3,), self.last))
        numbers = torch.from_numpy(np.argwhere(np.ones((self.count(CERTIFIED[0]),) * 3, dtype=bool))).to(device)
        for size in CERTIFIED:
            if size != CERTIFIED[0]:
                eight = torch.cartesian_prod(*[torch.arange(2, device=device)] * 3)
                numbers = (2 * numbers[:, None] + eight).flatten(0, 1)
                numbers = numbers[(numbers < self.count(size)).all(dim=1)]
            chunk = 1 << 12 if device.type == "cpu" else 1 << 20
            numbers = torch.cat([self.unproved(nodes, some, size) for some in numbers.split(chunk)])
        return numbers.cpu().numpy(), np.inf

    def unproved(self, nodes: Nodes, numbers: Int64[Tensor, "A 3"], size: int) -> Int64[Tensor, "B 3"]:
        """The blocks whose bounds leave the sign open; what is inside at the border changes sign beyond it."""
        proved = nodes.bounds(numbers, size)
        if proved is None:
            return numbers
        low, high = proved
        border = ((numbers == 0) | (numbers >= self.last // size)).any(dim=1)
        return numbers[(low <= ROUNDING) & ((high >= -ROUNDING) | border)]


def finite(
    nodes: Nodes, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
) -> Float32[np.ndarray, "A X Y Z"]:
    """Signed distance at the nodes of blocks; refused with the place where it is not a number."""
    sdf: Float32[np.ndarray, "A X Y Z"] = nodes.sdf(i, j, k).cpu().numpy()
    if not np.isfinite(sdf).all():
        block, *at = np.argwhere(~np.isfinite(sdf))[0]
        sides = zip(nodes.axes, (i, j, k), at, strict=True)
        place = [round(float(axis[along[block, index]]), 4) for axis, along, index in sides]
        raise ExportError(
            f"the field's signed distance is {sdf[(block, *at)]} at {place}: cannot extract a mesh from it"
        )
    return sdf


def corners_of(sdf: Float32[np.ndarray, "*S"], axes: tuple[int, int, int]) -> Corners:
    """The eight corners of every cell of lattices that lie along these axes."""
    ends = [[slice(None)] * sdf.ndim for _ in range(8)]
    for number, place in enumerate(ends):
        for axis, bit in zip(axes, (4, 2, 1), strict=True):
            place[axis] = slice(1, None) if number & bit else slice(-1)
    stacked = np.stack([sdf[tuple(place)] for place in ends])
    corners: Corners = stacked.reshape(2, 2, 2, *stacked.shape[1:])
    return corners


def behind_crossed_faces(
    numbers: Int64[np.ndarray, "A 3"], inside: Bool[np.ndarray, "A S S S"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "C C C"]:
    """The neighbours of blocks through faces on which the sign changes."""
    found = np.zeros(shape, dtype=bool)
    for axis in range(3):
        for end, step in ((0, -1), (-1, 1)):
            face = np.take(inside, end, axis=axis + 1).reshape(len(numbers), SIDE * SIDE)
            neighbors = numbers[face.any(axis=1) & ~face.all(axis=1)]
            neighbors[:, axis] += step
            within = (neighbors[:, axis] >= 0) & (neighbors[:, axis] < shape[axis])
            found[tuple(neighbors[within].T)] = True
    return found
