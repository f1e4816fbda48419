"""A field on a lattice against the same field at points, and proved bounds against every value they bound."""

import pytest
import torch

from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.decoders import SeparateHeads, SummedPlanes
from scaledreamer.model.fields.nodes import block_range
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.fields.voxel import VoxelField


def official(scale: float = 1.0, bias: object = 0.8) -> TriplaneField:
    rng = torch.Generator().manual_seed(0)
    heads = [[torch.randn(o, i, generator=rng) / i**0.5 for o, i in ((16, 12), (16, 16), (n, 16))] for n in (1, 3)]
    planes = scale * torch.randn(2, 3, 4, 9, 9, generator=rng)
    return TriplaneField.from_weights(planes, heads[0], heads[1], sphere_bias=bias)  # type: ignore[arg-type]


def props() -> TriplaneField:
    torch.manual_seed(0)
    decoder = SummedPlanes(8, 8, 0.55, 0.98, "sigmoid")
    torch.nn.init.normal_(decoder.out.weight, std=0.5)
    return TriplaneField(2 * torch.randn(1, 3, 8, 7, 7), decoder, 1.0)


def painted() -> TriplaneField:
    torch.manual_seed(0)
    decoder = SummedPlanes(8, 8, 0.55, 0.98, "sigmoid", palette=5, gain=0.3)
    torch.nn.init.normal_(decoder.out.weight, std=1.5)
    return TriplaneField(2 * torch.randn(1, 3, 8, 7, 7), decoder, 1.0, torch.rand(1, 5, 3))


def voxels() -> VoxelField:
    torch.manual_seed(0)
    return VoxelField(torch.randn(1, 6, 8, 8, 8), SeparateHeads([6, 16, 1], [6, 16, 3], 0.55, "sigmoid"), 1.0)


FIELDS: dict[str, Field] = {
    "official": official(),
    "official, steep": official(12.0),
    "official, from an ellipsoid": official(1.0, (0.5, 0.7, 0.9)),
    "props": props(),
    "voxels": voxels(),
    "props, painted": painted(),
    "props, stretched": StretchedField(props(), torch.tensor([[0.5, 0.8, 1.0]])),
}


@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_nodes_are_the_points_of_the_lattice(name: str) -> None:
    field = FIELDS[name]
    axes = tuple(torch.linspace(start, 0.8, 21) * field.bound for start in (-0.9, -0.8, -0.7))
    i, j, k = torch.tensor([[0, 3, 20], [7, 8, 9]]), torch.tensor([[1, 2], [19, 20]]), torch.tensor([[0, 5], [6, 20]])
    found = field.nodes(axes).sdf(i, j, k)
    for block in range(2):
        grid = torch.meshgrid(axes[0][i[block]], axes[1][j[block]], axes[2][k[block]], indexing="ij")
        points = torch.stack(grid, dim=-1).reshape(1, -1, 3)
        at_points = field[0].sdf(points).reshape(found[block].shape)
        torch.testing.assert_close(found[block], at_points, rtol=1e-5, atol=1e-5 * float(at_points.abs().max()))


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_bounds_hold_at_every_node_of_a_block(name: str, size: int) -> None:
    field = FIELDS[name]
    lengths = (43, 38, 47)
    nodes = field.nodes(tuple(torch.linspace(-field.bound, field.bound, length) for length in lengths))
    blocks = torch.cartesian_prod(*[torch.arange(-(-(length + 1) // size)) for length in lengths])
    bounds = nodes.bounds(blocks, size)
    assert bounds is not None
    low, high = bounds
    places = [block_range(side, size, length - 1) for side, length in zip(blocks.T, lengths, strict=True)]
    sdf = nodes.sdf(*places).flatten(1)
    slack = 1e-4 * float(sdf.abs().max())
    assert (sdf.amin(1) >= low - slack).all() and (sdf.amax(1) <= high + slack).all()
    middle = (sdf.amax(1) - sdf.amin(1)).mean()
    assert (high - low).mean() < 40 * middle, "bounds that say nothing"


@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_colour_alone_is_the_colour_of_a_query(name: str) -> None:
    field = FIELDS[name]
    points = (2 * torch.rand(len(field), 50, 3) - 1) * field.bound
    torch.testing.assert_close(field.rgb(points), field.query(points).rgb)
