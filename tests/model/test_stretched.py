"""A stretched field is the inner one in scaled coordinates: by points, on a lattice, and through its gradient."""

import math

import pytest
import torch

from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.fields.nodes import block_range
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.generators import TriplaneTransformer
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig, TriplaneTransformerConfig
from scaledreamer.model.text import TextEmbedding


class Balls(Field):
    """Balls of radius 0.5 with an exact distance; the colour tells the place."""

    def __init__(self, count: int = 2) -> None:
        self.count, self.bound = count, 1.0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int | slice) -> "Balls":
        return Balls(len(range(self.count)[index]) if isinstance(index, slice) else 1)

    def sdf(self, points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=-1, keepdim=True) - 0.5

    def query(self, points: torch.Tensor) -> FieldSample:
        return FieldSample(self.sdf(points), points)


FACTORS = torch.tensor([[0.5, 0.5, 0.5], [0.5, 1.0, 0.8]])


def test_equal_factors_keep_an_exact_distance() -> None:
    points = torch.randn(2, 40, 3)
    found = StretchedField(Balls(), FACTORS).sdf(points)
    torch.testing.assert_close(found[0], points[0].norm(dim=-1, keepdim=True) - 0.25)


def test_the_surface_is_an_ellipsoid_with_the_factors_as_axes() -> None:
    field = StretchedField(Balls(), FACTORS)
    ends = 0.5 * torch.diag(FACTORS[1])[None]
    torch.testing.assert_close(field[1].sdf(ends), torch.zeros(1, 3, 1))
    torch.testing.assert_close(field[1].rgb(ends), 0.5 * torch.eye(3)[None])


def test_a_lattice_is_its_points() -> None:
    field = StretchedField(Balls(), FACTORS)
    x, y, z = torch.linspace(-1, 1, 3), torch.linspace(-1, 0.5, 4), torch.linspace(-0.5, 1, 5)
    nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(1, -1, 3).expand(2, -1, -1)
    found, expected = field.lattice(x, y, z), field.query(nodes)
    torch.testing.assert_close(found.sdf, expected.sdf)
    torch.testing.assert_close(found.rgb, expected.rgb)


CONFIG = TriplaneTransformerConfig(
    width=8, text_width=12, layers=1, heads=2, low_res=2, plane_channels=4, film=True, stretch=True, radius=1.0,
    decoder=SummedPlanesConfig(hidden=8), sphere_bias=0.55, color="sigmoid",
)  # fmt: skip


def text(count: int) -> TextEmbedding:
    pooled = torch.nn.functional.normalize(torch.randn(count, 12), dim=-1)
    return TextEmbedding(torch.randn(count, 3, 12), pooled, None)


def test_an_untrained_generator_stretches_all_prompts_alike() -> None:
    torch.manual_seed(0)
    field = TriplaneTransformer(CONFIG)(text(3))
    assert isinstance(field, StretchedField)
    torch.testing.assert_close(field.stretch, torch.full((3, 3), 1.0))


@pytest.mark.parametrize("axis", range(3))
def test_the_prompt_s_factors_learn_from_the_surface(axis: int) -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    place = torch.zeros(1, 1, 3)
    place[..., axis] = 0.4
    generator(text(1)).sdf(place).sum().backward()
    assert generator.stretch is not None and generator.stretch.numbers.bias.grad is not None
    assert generator.stretch.numbers.bias.grad[axis] < 0, "a larger factor brings the surface nearer to a point outside"


def test_factors_have_bounds() -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    assert generator.stretch is not None
    torch.nn.init.normal_(generator.stretch.numbers.weight, std=100)
    field = generator(text(50))
    assert isinstance(field, StretchedField)
    torch.testing.assert_close(field.stretch.detach().max(), torch.tensor(math.e))
    torch.testing.assert_close(field.stretch.detach().min(), torch.tensor(1 / math.e))


def test_nothing_is_carried_out_of_the_box() -> None:
    field = StretchedField(Balls(1), torch.tensor([[1.0, 1.0, 3.0]]))
    ends = torch.tensor([[[0.49, 0.0, 0.0], [0.0, 0.0, 0.97], [0.0, 0.0, 0.99]]])
    assert (field.sdf(ends)[0, :, 0] < 0).tolist() == [True, True, False]


@pytest.mark.parametrize("size", [4, 8])
def test_blocks_of_a_lattice_have_bounds_that_hold(size: int) -> None:
    torch.manual_seed(0)
    inner = TriplaneTransformer(CONFIG.model_copy(update={"stretch": False}))(text(1))
    field = StretchedField(inner, torch.tensor([[0.8, 1.5, 2.5]]))
    axis = torch.linspace(-1, 1, 25)
    nodes = field.nodes((axis, axis, axis))
    blocks = torch.cartesian_prod(*[torch.arange(24 // size)] * 3)
    cells = [block_range(side, size, 24) for side in blocks.unbind(1)]
    with torch.no_grad():
        found, bounds = nodes.sdf(*cells).flatten(1), nodes.bounds(blocks, size)
        everywhere = field.lattice(axis, axis, axis).sdf.unflatten(1, (25, 25, 25))[0, ..., 0]
    assert bounds is not None
    assert (found >= bounds[0][:, None] - 1e-5).all() and (found <= bounds[1][:, None] + 1e-5).all()
    told = [everywhere[i[:, None, None], j[:, None], k].flatten() for i, j, k in zip(*cells, strict=True)]
    torch.testing.assert_close(found, torch.stack(told), atol=1e-5, rtol=1e-4)
