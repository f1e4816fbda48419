"""A triplane on a lattice: the first layer of its decoder commutes with bilinear reading.

sample(P) W = sample(P W), so the planes go through the first layer once, texel by texel, and are resampled once along
the lattice; a node's first hidden layer is then the sum of three rows, without a gather of texels and without the
widest matrix product.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from scaledreamer.model.fields.decoders import Decoder
from scaledreamer.model.fields.intervals import extent
from scaledreamer.model.fields.nodes import Axes, Bounds, Nodes, block_ends, block_range

SMALLEST = 4  # cells along the side of the blocks whose bounds are found from the rows themselves
Rows = Float[Tensor, "_ _ C"]  # what a plane gives at the nodes of its own two axes


class TriplaneNodes(Nodes):
    """One scene's planes at the nodes of a lattice, and the decoder that makes a distance of the sum of their rows."""

    def __init__(self, planes: Float[Tensor, "3 C R R"], decoder: Decoder, bound: float, axes: Axes) -> None:
        self.decoder, self.axes = decoder, axes
        yx, zx, yz = rearrange(decoder.first_layer(planes), "P C H W -> P H W C")  # along which axes each plane lies
        x, y, z = (hat_weights(axis / bound, planes.shape[-1]) for axis in axes)
        self.xy = resampled(yx.transpose(0, 1), x, y)
        self.xz = resampled(zx.transpose(0, 1), x, z)
        self.yz = resampled(yz, y, z)
        self.pools: dict[int, list[tuple[Rows, Rows]]] = {}

    def sdf(
        self, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"], k: Int64[Tensor, "A Z"]
    ) -> Float[Tensor, "A X Y Z"]:
        summed = patches(self.xy, i, j)[:, :, :, None] + patches(self.xz, i, k)[:, :, None, :]
        summed += patches(self.yz, j, k)[:, None, :, :]
        return self.decoder.distance_of_sum(summed, *self.places(i, j, k)).float()

    def bounds(self, blocks: Int64[Tensor, "A 3"], size: int) -> Bounds | None:
        """Least and greatest rows of the three sides of a block, carried through the decoder as intervals."""
        i, j, k = blocks.unbind(1)
        (xy_low, xy_high), (xz_low, xz_high), (yz_low, yz_high) = self._pooled(size)
        low = xy_low[i, j] + xz_low[i, k] + yz_low[j, k]
        high = xy_high[i, j] + xz_high[i, k] + yz_high[j, k]
        near, far = extent(block_ends(self.axes, blocks, size))
        return self.decoder.distance_bounds(low, high, near, far)

    def _pooled(self, size: int) -> list[tuple[Rows, Rows]]:
        """Least and greatest row on each side of every block, for all blocks at once."""
        if size not in self.pools:
            x, y, z = ((len(axis) + size) // size for axis in self.axes)  # blocks along each axis
            sides = ((x, y), (x, z), (y, z))
            if size > SMALLEST:
                halves = self._pooled(size // 2)
                self.pools[size] = [
                    (joined(low, side, torch.minimum), joined(high, side, torch.maximum))
                    for (low, high), side in zip(halves, sides, strict=True)
                ]
            else:
                rows_of = zip((self.xy, self.xz, self.yz), sides, strict=True)
                self.pools[size] = [(least(rows, side, size), -least(-rows, side, size)) for rows, side in rows_of]
        return self.pools[size]


def resampled(side: Float[Tensor, "U V C"], u: Float[Tensor, "X U"], v: Float[Tensor, "Y V"]) -> Rows:
    """What a plane holds at every node of two axes."""
    along_u = (u @ side.flatten(1)).unflatten(1, side.shape[1:])
    rows: Tensor = v @ along_u
    return rows


def least(rows: Rows, counts: tuple[int, int], size: int) -> Float[Tensor, "_ _ C"]:
    """The least of the rows of every patch; neighbours share their border."""
    for count in counts:
        inside = block_range(torch.arange(count, device=rows.device), size, len(rows) - 1)
        picked = [rows[along] for along in inside.T]
        for other in picked[1:]:
            torch.minimum(picked[0], other, out=picked[0])
        rows = picked[0].transpose(0, 1)
    return rows


def joined(pool: Rows, counts: tuple[int, int], extreme: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "_ _ C"]:
    """A pool over patches of twice the size; the last along a side may be one of the old size alone."""
    for count in counts:
        odd = torch.arange(count, device=pool.device) * 2 + 1
        pool = extreme(pool[: 2 * count : 2], pool[odd.clamp(max=len(pool) - 1)]).transpose(0, 1)
    return pool


def patches(rows: Rows, i: Int64[Tensor, "A X"], j: Int64[Tensor, "A Y"]) -> Float[Tensor, "A X Y C"]:
    """The rows at the nodes of A rectangles."""
    numbers = i[:, :, None] * rows.shape[1] + j[:, None, :]
    picked: Tensor = rows.flatten(0, 1).index_select(0, numbers.flatten()).unflatten(0, numbers.shape)
    return picked


def hat_weights(places: Float[Tensor, " N"], size: int) -> Float[Tensor, "N R"]:
    """Linear interpolation between texel centres as a matrix (align_corners=False, zeros outside [-1, 1])."""
    position = (places + 1) * size / 2 - 0.5
    centres = torch.arange(size, device=places.device, dtype=places.dtype)
    return (1 - (position[:, None] - centres).abs()).clamp(min=0)
