"""Compositing against nerfacc's dense functions (plain torch on a CPU): weights, sums and resampling, both ways."""

import nerfacc
import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import turntable
from scaledreamer.model.rendering import LatticeConfig, Rendering, VolSDFConfig, render
from scaledreamer.model.rendering.compositing import opacity_of, unbiased_opacity, weights_of
from tests.model.test_lattice_renderer import small_field

RAYS, SAMPLES = 7, 13


def rays_of(seed: int) -> tuple[Tensor, Tensor]:
    """Ascending edges of intervals and values of them that want a gradient, in double precision."""
    rng = torch.Generator().manual_seed(seed)
    edges = torch.rand(RAYS, SAMPLES + 1, generator=rng, dtype=torch.float64).cumsum(-1) / SAMPLES
    values = torch.rand(RAYS, SAMPLES, generator=rng, dtype=torch.float64)
    return edges, values.requires_grad_()


def same_both_ways(ours: Tensor, theirs: Tensor, value: Tensor) -> None:
    """The same numbers, and the same gradient for the same random direction."""
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype)
    gradients = [torch.autograd.grad((side * direction).sum(), value, retain_graph=True)[0] for side in (ours, theirs)]
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_opacities(seed: int) -> None:
    _, alpha = rays_of(seed)
    same_both_ways(weights_of(alpha), nerfacc.render_weight_from_alpha(alpha)[0], alpha)


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_densities(seed: int) -> None:
    edges, density = rays_of(seed)
    scaled = 20 * density
    ours = weights_of(opacity_of(scaled, edges[:, 1:] - edges[:, :-1], "exponential"))
    theirs, _, alpha = nerfacc.render_weight_from_density(edges[:, :-1], edges[:, 1:], scaled)
    assert 0.2 < float(alpha.detach().mean()) < 0.9
    same_both_ways(ours, theirs, density)


def test_the_unbiased_opacity_composes_to_what_is_left_of_the_ray() -> None:
    _, sdf = rays_of(0)
    falling = (0.3 - sdf.cumsum(-1) / SAMPLES).flip(0)  # every ray goes in and stays in
    alpha = unbiased_opacity(falling, 8.0)
    left = nerfacc.render_transmittance_from_alpha(alpha)[:, -1] * (1 - alpha[:, -1])
    inside = torch.sigmoid(8 * falling)
    same_both_ways(left, inside[:, -1] / inside[:, 0], sdf)


@pytest.mark.parametrize("config", [VolSDFConfig(near=1.0, far=5.0), LatticeConfig(nodes=16, samples=12)], ids=str)
def test_the_renderers_sums_along_the_ray(config: VolSDFConfig | LatticeConfig) -> None:
    narrow = turntable(1, elevation=0.4, distance=3.0, fovy=0.3)  # every ray meets the ball of the lattice
    with torch.no_grad():
        seen: Rendering = render(small_field(1), narrow, None, 8, config)
    weights, edges = seen.samples.weights, seen.samples.edges
    assert weights is not None
    assert edges is not None
    middle = ((edges[0, :, 1:] + edges[0, :, :-1]) / 2)[..., None]
    opacity, depth = (nerfacc.accumulate_along_rays(weights[0], values) for values in (None, middle))
    spread = nerfacc.accumulate_along_rays(weights[0], (middle - depth[:, None]) ** 2)
    for ours, theirs in ((seen.opacity, opacity), (seen.depth, depth), (seen.z_variance, spread)):
        assert torch.allclose(ours.flatten(), theirs.flatten(), atol=1e-5)
    assert float(opacity.mean()) > 0.1
