"""What lies between two fields: surfaces moved outwards, and as much matter as there should be."""

import math

import pytest
import torch

from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.fields.between import matter_between
from scaledreamer.model.fields.decoders import Bias, Decoder, SeparateHeads, SummedPlanes
from scaledreamer.model.generators import TriplaneTransformer, TriplaneTransformerConfig
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig
from scaledreamer.model.text import TextEmbedding

SMALL = TriplaneTransformerConfig(
    width=32, text_width=16, layers=2, heads=2, low_res=4, plane_channels=4, upsample=(8,), film=True,
    stretch=True, palette=3, decoder=SummedPlanesConfig(hidden=8), radius=1.0, sphere_bias=0.5, color="sigmoid",
)  # fmt: skip


class Ball(Field):
    """|p - center| - radius."""

    bound = 1.0

    def __init__(self, radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        self.radius, self.center = radius, torch.tensor(center)

    def sdf(self, points: torch.Tensor) -> torch.Tensor:
        return (points - self.center).norm(dim=-1, keepdim=True) - self.radius

    def query(self, points: torch.Tensor) -> FieldSample:
        return FieldSample(self.sdf(points), points.abs())

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> "Ball":
        return self


class Mean(Ball):
    """The mean of two balls' distances."""

    def __init__(self, a: Ball, b: Ball) -> None:
        self.a, self.b = a, b

    def sdf(self, points: torch.Tensor) -> torch.Tensor:
        return (self.a.sdf(points) + self.b.sdf(points)) / 2


def test_a_ball_between_two_has_the_mean_of_their_volumes() -> None:
    a, b = Ball(0.4), Ball(0.8)
    wanted = (0.75 * a.radius**3 + 0.25 * b.radius**3) ** (1 / 3)
    assert matter_between(a, b, Ball(0.5), 0.25) == pytest.approx(wanted - 0.5, abs=0.01)
    assert matter_between(a, b, Ball(0.7), 0.25) == pytest.approx(wanted - 0.7, abs=0.01)


def test_balls_that_are_apart_have_a_body_between_them() -> None:
    a, b = Ball(0.2, (-0.4, 0.0, 0.0)), Ball(0.2, (0.4, 0.0, 0.0))
    mixed = Mean(a, b)  # nowhere inside: the least mean of the two distances is 0.4 - 0.2
    assert matter_between(a, b, mixed, 0.5) > 0.2


def test_nothing_is_moved_where_the_amount_is_right_or_there_is_none() -> None:
    a = Ball(0.4)
    assert matter_between(a, Ball(0.8), a, 0.0) == 0 == matter_between(Ball(0.8), a, a, 1.0)
    nothing = Ball(-0.1)
    assert matter_between(nothing, nothing, nothing, 0.5) == 0


@pytest.mark.parametrize("by", [0.05, -0.03])
@pytest.mark.parametrize("kind", ["summed", "separate"])
def test_a_decoder_moved_outwards_says_so_much_less_and_the_same_colours(kind: str, by: float) -> None:
    torch.manual_seed(0)
    decoder: Decoder = (
        SummedPlanes(4, 8, 0.5, 10.0, "sigmoid", gain=0.2)
        if kind == "summed"
        else SeparateHeads([12, 8, 1], [12, 8, 3], 0.5, "sigmoid")
    )
    readings, points = torch.randn(1, 3, 4, 50), torch.rand(1, 50, 3) * 2 - 1
    sdf, rgb = decoder.decode(readings, points)
    moved_sdf, moved_rgb = decoder.moved_outwards(by).decode(readings, points)
    torch.testing.assert_close(moved_sdf, sdf - by)
    assert torch.equal(moved_rgb, rgb) and torch.equal(decoder.decode(readings, points)[0], sdf)


def test_an_ellipsoid_moved_outwards_has_longer_axes() -> None:
    moved = SeparateHeads([12, 8, 1], [12, 8, 3], (0.5, 0.4, 0.2), "sigmoid").moved_outwards(0.1)
    expected: Bias = (0.55, 0.44, 0.22)
    assert moved.sphere_bias == pytest.approx(expected)


@pytest.mark.parametrize("beside", [True, False])
def test_a_blend_begins_and_ends_with_its_prompts_and_keeps_their_matter(beside: bool) -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(SMALL if beside else SMALL.model_copy(update={"stretch": False, "palette": 0}))
    rng = torch.Generator().manual_seed(0)
    texts = [TextEmbedding(torch.randn(1, 3, 16, generator=rng), torch.randn(1, 16, generator=rng)) for _ in "ab"]
    points = torch.rand(1, 100, 3, generator=rng) * 2 - 1
    with torch.no_grad():
        ends = [generator(text).query(points) for text in texts]
        first, half, last = (generator.blended(*texts, weight) for weight in (0.0, 0.5, 1.0))
        for end, blended in zip(ends, (first, last), strict=True):
            torch.testing.assert_close(blended.sdf(points), end.sdf, rtol=0, atol=1e-6)
            torch.testing.assert_close(blended.rgb(points), end.rgb, rtol=0, atol=1e-6)
        shares = [float((field.sdf(grid()) < 0).float().mean()) for field in (first, half, last)]
    assert math.isclose(shares[1], (shares[0] + shares[2]) / 2, rel_tol=0.02)


def grid() -> torch.Tensor:
    axis = torch.linspace(-1, 1, 40)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
