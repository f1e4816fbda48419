"""Voxels on a lattice: read as at points; a reading lies between the voxels around it, which bounds a whole block."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.model.fields.decoders import SeparateHeads
from scaledreamer.model.fields.intervals import extent, linear_bounds
from scaledreamer.model.fields.nodes import Axes, Bounds, PlainNodes, PointSDF, block_ends

GATHERED = 1 << 21  # numbers at once, so that memory does not grow with the blocks


class VoxelNodes(PlainNodes):
    """One scene's voxels, and the decoder that makes a distance of a reading."""

    def __init__(
        self, at_points: PointSDF, axes: Axes, voxels: Float[Tensor, "C R R R"], decoder: SeparateHeads, bound: float
    ) -> None:
        super().__init__(at_points, axes)
        self.decoder, self.bound, self.side = decoder, bound, voxels.shape[-1] + 2
        self.voxels = F.pad(voxels, (1,) * 6).permute(3, 2, 1, 0)  # [x, y, z, C] with the zeros outside

    def bounds(self, blocks: Int64[Tensor, "A 3"], size: int) -> Bounds | None:
        """Least and greatest of the voxels that a block reads, carried through the decoder as intervals."""
        ends = block_ends(self.axes, blocks, size)
        lowest, highest = ((ends / self.bound + 1) * (self.side - 2) / 2 + 0.5).floor().long().unbind(-1)
        width = int((highest - lowest).max()) + 2
        lows, highs = [], []
        for some in lowest.split(max(1, GATHERED // (width**3 * self.voxels.shape[-1]))):
            window = (some[:, :, None] + torch.arange(width, device=some.device)).clamp(0, self.side - 1)
            x, y, z = window[:, 0, :, None, None], window[:, 1, None, :, None], window[:, 2, None, None, :]
            read = self.voxels[x, y, z].flatten(1, 3)
            lows.append(read.amin(1))
            highs.append(read.amax(1))
        first = self.decoder.sdf_network[0]
        assert isinstance(first, nn.Linear)
        low, high = linear_bounds(torch.cat(lows), torch.cat(highs), first)
        return self.decoder.distance_bounds(low, high, *extent(ends))
