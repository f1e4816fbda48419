"""A flow transformer of SD3's kind behind the same interface."""

import pytest
import torch
from diffusers import SD3Transformer2DModel
from fixtures import error

import tests.training.priors.tiny as tiny
from scaledreamer.training.distillation import asd
from scaledreamer.training.priors.autoencoder import Autoencoder
from scaledreamer.training.priors.base import Condition
from scaledreamer.training.priors.flow import FlowPrior


def text(prompts: list[str]) -> Condition:
    """A seeded stand-in for SD3's three encoders."""
    seeds = [torch.Generator().manual_seed(len(prompt)) for prompt in prompts]
    tokens = torch.stack([torch.randn(5, 16, generator=seed) for seed in seeds])
    return Condition(tokens, tokens.mean(1))


@pytest.fixture(scope="module")
def prior() -> FlowPrior:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=16,
        pos_embed_max_size=8,
    )  # fmt: skip
    return FlowPrior(transformer, Autoencoder(tiny.vae().eval().requires_grad_(False), 8), text)


def test_its_prediction_is_the_velocity_from_picture_to_noise(prior: FlowPrior, rng: torch.Generator) -> None:
    x_t, t = torch.randn(2, 4, 8, 8, generator=rng), torch.tensor([0.2, 0.6])
    velocity = prior.call(prior.network, x_t, t, text(["a", "bc"]), None)
    eps = prior.eps(x_t, t, text(["a", "bc"]))
    s = prior.process.sigma(t)[:, None, None, None]
    x_0 = x_t - s * velocity
    assert error(eps - x_0, velocity) < 1e-5
    assert error((1 - s) * x_0 + s * eps, x_t) < 1e-5


def test_it_gives_an_asd_gradient_at_float_times(prior: FlowPrior, rng: torch.Generator) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=rng).requires_grad_()
    x_0 = prior.encode(pictures, rng)
    t = prior.process.draw(0.02, 0.98, 2, rng)
    later = prior.process.shift(t, 0.1, 0.02, rng)
    noise = torch.randn(x_0.shape, generator=rng)
    result = asd(
        prior, x_0, prior.embed(["a mug", "a hat"]), prior.embed([""]), noise=noise, t=t, t_shifted=later, guidance=7.5
    )
    (gradient,) = torch.autograd.grad(result.loss, pictures)
    assert bool(gradient.isfinite().all()) and float(gradient.norm()) > 0
