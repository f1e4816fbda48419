"""The signed distance of a field on a cubic lattice: everywhere, or exactly only around its surface."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from scaledreamer.errors import ExportError
from scaledreamer.model.fields.base import Field

CHUNK = 1 << 17  # points a call, so memory does not grow with the lattice
BLOCK = 4  # cells along the side of a block, which is active or not as a whole
SAFETY = 1.25  # on the slope measured between coarse samples, because the field may be steeper between them


def refuse_unless_finite(values: Tensor, points: Float[Tensor, "N 3"], what: str) -> None:
    """An error that says where the field gave what is not a number."""
    bad = ~torch.isfinite(values).all(dim=-1)
    if bad.any():
        place = [round(x, 4) for x in points[bad][0].tolist()]
        raise ExportError(f"the field's {what} is {values[bad][0].tolist()} at {place}: cannot extract a mesh from it")


@torch.no_grad()
def sdf_at(field: Field, points: Float[Tensor, "N 3"]) -> Float32[np.ndarray, " N"]:
    """Signed distance of scene 0 at points, a chunk at a time; finite."""
    values = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        sdf = field.sdf(chunk[None])[0].float()
        refuse_unless_finite(sdf, chunk, "signed distance")
        values[start : start + CHUNK] = sdf[:, 0].cpu().numpy()
    return values


class Lattice:
    """resolution^3 points from -bound to bound, both included; point (i, j, k) is number (i R + j) R + k."""

    def __init__(self, field: Field, resolution: int) -> None:
        self.field, self.resolution = field, resolution
        self.axis = torch.linspace(-field.bound, field.bound, resolution, device=field.device)
        self.cell = 2 * field.bound / (resolution - 1)

    def sdf(self, numbers: Int64[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
        """Signed distance at numbered points."""
        values = np.empty(len(numbers), dtype=np.float32)
        for start in range(0, len(numbers), CHUNK):
            indices = np.stack(np.unravel_index(numbers[start : start + CHUNK], (self.resolution,) * 3), axis=1)
            points = self.axis[torch.from_numpy(indices).to(self.axis.device)]
            values[start : start + CHUNK] = sdf_at(self.field, points)
        return values

    def dense(self) -> Float32[np.ndarray, "R R R"]:
        """Signed distance at every point."""
        return self.sdf(np.arange(self.resolution**3)).reshape((self.resolution,) * 3)

    def fast(self) -> Float32[np.ndarray, "R R R"]:
        """Signed distance at every point of a cell that the surface crosses; elsewhere only the sign is right.

        Every BLOCK-th point is asked first. A block stays coarse when all its corners are farther from the surface than
        the steepest slope between coarse points can bridge; where the surface leaves through a face all the same, the
        block behind that face is asked too.
        """
        last = self.resolution - 1
        corners = np.minimum(np.arange(0, last + BLOCK, BLOCK), last)  # the last block may be thinner
        coarse = self.sdf(self.number(corners, corners, corners).ravel()).reshape((len(corners),) * 3)
        block = np.arange(self.resolution) // BLOCK  # its first corner will do: a block that stays coarse has one sign
        values = coarse[np.ix_(block, block, block)].ravel()
        known = np.zeros(values.shape, dtype=bool)
        active = self.near_surface(coarse, corners * self.cell)
        fresh = active
        while fresh.any():
            blocks = np.argwhere(fresh)
            inside = np.minimum(blocks[:, :, None] * BLOCK + np.arange(BLOCK + 1), last)
            numbers = self.number(*inside.transpose(1, 0, 2))
            wanted = np.zeros(values.shape, dtype=bool)
            wanted[numbers] = True
            asked = np.flatnonzero(wanted & ~known)
            values[asked] = self.sdf(asked)
            known |= wanted
            fresh = behind_crossed_faces(blocks, values[numbers] < 0, active.shape) & ~active
            active = active | fresh
        return values.reshape((self.resolution,) * 3)

    def number(
        self, i: Int64[np.ndarray, "*A X"], j: Int64[np.ndarray, "*A Y"], k: Int64[np.ndarray, "*A Z"]
    ) -> Int64[np.ndarray, "*A X Y Z"]:
        """Numbers of the points of a box with these indices along its sides."""
        rows = i[..., :, None, None] * self.resolution + j[..., None, :, None]
        numbers: Int64[np.ndarray, "*A X Y Z"] = rows * self.resolution + k[..., None, None, :]
        return numbers

    def near_surface(
        self, coarse: Float32[np.ndarray, "C C C"], places: Float[np.ndarray, " C"]
    ) -> Bool[np.ndarray, "C-1 C-1 C-1"]:
        """The blocks that the surface may cross, as far as their corners tell."""
        corners = np.lib.stride_tricks.sliding_window_view(coarse, (2, 2, 2))
        steepest = [np.abs(np.diff(corners, axis=axis)).max(axis=(3, 4, 5)) for axis in (3, 4, 5)]
        lengths = np.meshgrid(*[np.diff(places)] * 3, indexing="ij")
        slope = max(1.0, SAFETY * float(np.linalg.norm(np.divide(steepest, lengths), axis=0).max()))
        half_diagonal = np.sqrt(3) / 2 * BLOCK * self.cell
        inside = corners < 0
        active: Bool[np.ndarray, "C-1 C-1 C-1"] = np.abs(corners).min(axis=(3, 4, 5)) <= slope * half_diagonal
        active[inside.any(axis=(3, 4, 5)) & ~inside.all(axis=(3, 4, 5))] = True
        return active


def behind_crossed_faces(
    blocks: Int64[np.ndarray, "A 3"], inside: Bool[np.ndarray, "A S S S"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "C C C"]:
    """The neighbours of the blocks through faces on which the sign changes."""
    found = np.zeros(shape, dtype=bool)
    for axis in range(3):
        for end, step in ((0, -1), (-1, 1)):
            face = np.take(inside, end, axis=axis + 1).reshape(len(blocks), -1)
            neighbors = blocks[face.any(axis=1) & ~face.all(axis=1)]
            neighbors[:, axis] += step
            within = (neighbors[:, axis] >= 0) & (neighbors[:, axis] < shape[axis])
            found[tuple(neighbors[within].T)] = True
    return found
