"""A multiresolution hash grid (Instant-NGP, arXiv:2201.05989) laid out exactly as tiny-cuda-nn lays out its own.

One flat float32 vector holds all levels, so official parameters load as they are. The level tables are read by plain
PyTorch, or by tiny-cuda-nn where that is installed and the points are on a CUDA device.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field as Limits
from pydantic import PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config

PRIMES = (1, 2_654_435_761, 805_459_861)  # of the hash, one an axis
UINT32 = (1 << 32) - 1
TINYCUDANN = importlib.util.find_spec("tinycudann") is not None


class HashGridConfig(Config):
    """The sizes of a grid; the defaults are those of the official geometry (12,599,920 parameters)."""

    levels: PositiveInt = 16
    features: PositiveInt = 2  # of an entry
    log2_entries: Annotated[int, Limits(ge=3, le=31)] = 19  # of a level at most; beyond that it is hashed
    base: Annotated[int, Limits(ge=2)] = 16  # resolution of the coarsest level
    growth: Annotated[float, Limits(ge=1)] = 1.447269237440378  # from one level's resolution to the next

    @property
    def width(self) -> int:
        """How many numbers the grid says about a point."""
        return self.levels * self.features

    @property
    def parameters(self) -> int:
        """The length of the flat vector."""
        return sum(level.entries for level in levels_of(self)) * self.features


@dataclass(frozen=True)
class Level:
    """Where a level lies in the vector, and how fine it is."""

    scale: float  # cells along the unit cube, less one
    resolution: int  # nodes along an axis
    entries: int
    offset: int  # of its first entry

    @property
    def hashed(self) -> bool:
        """Whether nodes share entries."""
        return self.resolution**3 > self.entries


@cache
def levels_of(config: HashGridConfig) -> tuple[Level, ...]:
    """scale_l = 2^(l log2 growth) base - 1 in float32, resolution ceil(scale_l) + 1, entries rounded up to eights."""
    levels, offset = [], 0
    step = np.log2(np.float32(config.growth))
    for number in range(config.levels):
        scale = np.exp2(np.float32(number) * step) * np.float32(config.base) - np.float32(1)
        resolution = int(np.ceil(scale)) + 1
        entries = min(-(-(resolution**3) // 8) * 8, 1 << config.log2_entries)
        levels.append(Level(float(scale), resolution, entries, offset))
        offset += entries
    return tuple(levels)


class HashGrid(nn.Module):
    """Points of the unit cube to features, level by level; beyond the cube the tables wrap around."""

    def __init__(self, config: HashGridConfig) -> None:
        super().__init__()
        self.config = config
        self.params = nn.Parameter(torch.empty(config.parameters).uniform_(-1e-4, 1e-4))

    def forward(self, points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B C"]:
        """[level 0 feature 0, level 0 feature 1, level 1 feature 0, ...] at points whose box is [0, 1]^3."""
        flat = points.reshape(-1, 3)
        features = fused(self, flat) if uses_tinycudann(flat) else interpolate(self.params, flat, self.config)
        return features.reshape(*points.shape[:-1], self.config.width)


def interpolate(
    params: Float[Tensor, " P"], points: Float[Tensor, "N 3"], config: HashGridConfig
) -> Float[Tensor, "N C"]:
    """The plain twin of tiny-cuda-nn's kernel, differentiable in the parameters and the points."""
    levels = levels_of(config)
    tables = params.view(-1, config.features).split([level.entries for level in levels])
    return torch.cat([read_level(*pair, points) for pair in zip(tables, levels, strict=True)], dim=-1)


def read_level(table: Float[Tensor, "T F"], level: Level, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
    """One level, trilinear between the eight nodes around scale p + 1/2."""
    position = points * level.scale + 0.5
    cell = position.detach().floor()
    along = position - cell
    x, y, z = torch.stack([1 - along, along], dim=-1).unbind(1)  # the share of the lower and of the upper node
    shares = x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]
    nodes = cell.long()[..., None] + torch.arange(2, device=points.device)
    entries = entries_of(nodes, level)
    read = table.index_select(0, entries.flatten()).unflatten(0, entries.shape)  # its gradient is the fastest
    return torch.einsum("nijk,nijkf->nf", shares, read)


def entries_of(nodes: Int[Tensor, "N 3 2"], level: Level) -> Int[Tensor, "N 2 2 2"]:
    """The entry of each of eight nodes, given lower and upper along every axis; in the arithmetic of uint32.

    x + y resolution + z resolution^2 where every node has its own entry, else x xor y 2654435761 xor z 805459861. The
    low 32 bits of int64 are those of uint32, of negative numbers too.
    """
    factors = PRIMES if level.hashed else (1, level.resolution, level.resolution**2)
    x, y, z = (nodes[:, axis] * factor for axis, factor in enumerate(factors))
    x, y, z = x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
    if level.hashed:
        return (x ^ y ^ z) & (level.entries - 1)  # a power of two
    return ((x + y + z) & UINT32) % level.entries


def uses_tinycudann(points: Float[Tensor, "N 3"]) -> bool:
    """Whether the fused kernel reads these points."""
    return TINYCUDANN and points.is_cuda


def fused(grid: HashGrid, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
    """The same features from tiny-cuda-nn's kernel. Written from its documentation; has never run."""
    encoding = _tinycudann_encoding(grid.config)
    features: Tensor = torch.func.functional_call(encoding, {"params": grid.params}, (points,))
    return features.float()


@cache
def _tinycudann_encoding(config: HashGridConfig) -> nn.Module:
    """A kernel for these sizes; its own parameters are never read."""
    tinycudann: Any = import_module("tinycudann")
    sizes = {
        "otype": "HashGrid", "n_levels": config.levels, "n_features_per_level": config.features,
        "log2_hashmap_size": config.log2_entries, "base_resolution": config.base, "per_level_scale": config.growth,
    }  # fmt: skip
    encoding: nn.Module = tinycudann.Encoding(3, sizes, dtype=torch.float32)
    return encoding
