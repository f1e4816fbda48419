"""The renderer of densities: analytic opacity, what is skipped, gradients, and a field that has none."""

import math

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.fields.base import FieldSample
from scaledreamer.model.fields.density import DensityField
from scaledreamer.model.generators import PromptNGP, PromptNGPConfig, TriplaneTransformer, TriplaneTransformerConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import NeRFConfig, PlainBackground, render
from scaledreamer.model.text import TextEmbedding

GRID = HashGridConfig(levels=3, log2_entries=8, base=4, growth=1.5)
ANYTHING = TextEmbedding(torch.zeros(1, 1, 1), torch.zeros(1, 1))


class Slab(DensityField):
    """A constant density where |x| < half, red."""

    def __init__(self, density: float, half: float) -> None:
        self.value, self.half, self.bound = density, half, 1.0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> "Slab":
        return self

    def density(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.value * (points[..., :1].abs() < self.half).float()

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        red = torch.tensor([1.0, 0.0, 0.0]).expand_as(points)
        return FieldSample(points[..., :1].abs() - self.half, red, self.density(points))


def from_the_front(distance: float = 3.0) -> Camera:
    return turntable(1, elevation=0.0, distance=distance, fovy=math.radians(2))


@pytest.mark.parametrize("density", [0.3, 2.0, 20.0])
def test_a_slab_absorbs_exponentially(density: float) -> None:
    seen = render(
        Slab(density, 0.25), from_the_front(), PlainBackground((0.0, 0.0, 1.0)), 4, NeRFConfig(samples=2000, empty=0.0)
    )
    opacity = 1 - math.exp(-density * 0.5)
    assert torch.allclose(seen.opacity, torch.tensor(opacity), atol=2e-3)
    expected = torch.tensor([opacity, 0.0, 1 - opacity])
    assert torch.allclose(seen.rgb, expected.expand_as(seen.rgb), atol=2e-3)


def test_depth_is_the_distance_of_a_thin_wall() -> None:
    seen = render(Slab(1e4, 0.01), from_the_front(), None, 4, NeRFConfig(samples=4000))
    assert torch.allclose(seen.depth, torch.tensor(2.99), atol=2e-3)
    assert float(seen.z_variance.max()) < 1e-5


def test_a_camera_in_the_box_sees_what_is_before_it_alone() -> None:
    inside = render(Slab(2.0, 0.25), from_the_front(1e-3), None, 4, NeRFConfig(samples=2000, empty=0.0))
    assert torch.allclose(inside.opacity, torch.tensor(1 - math.exp(-0.5)), atol=3e-3)


@torch.no_grad()
def test_skipping_what_is_empty_changes_little_and_skips_most(monkeypatch: pytest.MonkeyPatch) -> None:
    field, asked = ball(), list[int]()
    query = DensityField.query
    monkeypatch.setattr(
        DensityField, "query", lambda self, points: asked.append(points.shape[1]) or query(self, points)
    )
    camera = turntable(2)
    whole, thrifty = (render(field, camera, None, 16, NeRFConfig(samples=64, empty=empty)) for empty in (-0.0, 0.01))
    assert asked[1] < asked[0] / 2
    assert float((whole.rgb - thrifty.rgb).abs().max()) < 0.05


def test_gradients_reach_the_grid_and_both_networks(rng: torch.Generator) -> None:
    field = ball()
    seen = render(field, turntable(2), None, 8, NeRFConfig(samples=32), rng)
    (seen.rgb.sum() + seen.opacity.sum()).backward()
    gradients = [p.grad for p in field.networks.parameters()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_two_scenes_of_views_are_rendered_in_order() -> None:
    torch.manual_seed(0)
    generator = PromptNGP(PromptNGPConfig(grid=GRID, hidden=8))
    two = generator(TextEmbedding(torch.zeros(2, 1, 1), torch.zeros(2, 1)))
    camera = turntable(4)
    both = render(two, camera, None, 8, NeRFConfig(samples=32))
    one = render(two[0], camera, None, 8, NeRFConfig(samples=32))
    assert torch.allclose(both.rgb, one.rgb, atol=1e-6)


def test_a_field_without_densities_is_refused() -> None:
    config = TriplaneTransformerConfig(width=16, text_width=4, layers=1, heads=2, low_res=2, plane_channels=4)
    field = TriplaneTransformer(config)(TextEmbedding(torch.zeros(1, 2, 4), torch.zeros(1, 4)))
    with pytest.raises(ValueError, match="TriplaneField stores no density"):
        render(field, turntable(1), None, 8, NeRFConfig())


def ball() -> DensityField:
    torch.manual_seed(0)
    generator = PromptNGP(PromptNGPConfig(grid=GRID, hidden=8))
    with torch.no_grad():
        generator.networks.grid.params.normal_(std=0.5)
    return generator(ANYTHING)
