"""A NeRF behind the interface of distances: an untrained one is a ball, whatever is asked of it."""

import math

import pytest
import torch

from scaledreamer.errors import EmptySurfaceError
from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.base import sdf_gradient
from scaledreamer.model.fields.density import DensityField, density_normal
from scaledreamer.model.generators import PromptNGP, PromptNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import LatticeConfig, render
from scaledreamer.model.text import TextEmbedding

GRID = HashGridConfig(levels=3, log2_entries=8, base=4, growth=1.5)


def field(level: float, loud: float = 0.0) -> DensityField:
    """Of an untrained network, or of one whose grid says something."""
    torch.manual_seed(0)
    generator = PromptNGP(PromptNGPConfig(grid=GRID, hidden=8, level=level))
    with torch.no_grad():
        generator.networks.grid.params.normal_(std=loud)
    anything = torch.zeros(1, 1, 1)
    return generator(TextEmbedding(anything, anything[0]))


def points(count: int = 200) -> torch.Tensor:
    return torch.rand(1, count, 3, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9


@torch.no_grad()
@pytest.mark.parametrize("level", [math.log(2), 5.0, 25.0])
def test_the_zero_level_is_where_the_density_has_its_surface_value(level: float) -> None:
    sample = field(level, loud=3.0).query(points())
    assert sample.density is not None
    clear = sample.sdf.abs() > 1e-5
    assert torch.equal((sample.sdf < 0)[clear], (sample.density > level)[clear])


@torch.no_grad()
def test_an_untrained_field_is_exactly_a_ball() -> None:
    ball, places = field(math.log(2)), points()
    assert torch.allclose(ball.sdf(places), places.norm(dim=-1, keepdim=True) - 0.5, atol=1e-6)
    expected = torch.nn.functional.softplus(10 * (1 - places.norm(dim=-1, keepdim=True) / 0.5))
    assert torch.allclose(ball.density(places), expected, atol=1e-5)
    mesh = extract_mesh(ball, resolution=32)
    assert abs(abs(mesh.vertices).max() - 0.5) < 1e-2


def test_no_density_reaches_the_official_surface_before_training() -> None:
    with pytest.raises(EmptySurfaceError):
        extract_mesh(field(25.0), resolution=16)


@torch.no_grad()
def test_normals_of_density_and_of_distance_agree() -> None:
    scene, places = field(5.0, loud=1.0), points()
    sample = scene.query(places)
    assert sample.density is not None
    by_density = density_normal(scene, places, sample.density, step=1e-3)
    by_distance = torch.nn.functional.normalize(sdf_gradient(scene, places, sample.sdf, step=1e-3), dim=-1)
    steep = sample.density > 1e-2
    assert float((by_density * by_distance).sum(-1, keepdim=True)[steep].median()) > 0.99


def test_the_lattice_renderer_sees_and_trains_it() -> None:
    generator = PromptNGP(PromptNGPConfig(grid=GRID, hidden=8, level=math.log(2)))
    anything = torch.zeros(1, 1, 1)
    scene = generator(TextEmbedding(anything, anything[0]))
    seen = render(scene, turntable(2), None, 8, LatticeConfig(nodes=16, samples=16))
    opacity = seen.opacity.detach()
    assert float(opacity.max()) > 0.9 and float(opacity.min()) == 0
    seen.rgb.sum().backward()
    grad = generator.networks.grid.params.grad
    assert grad is not None and bool(grad.any())
