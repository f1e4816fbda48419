"""What the props prior is told of a camera, and when it is trained: answers that are known without a network."""

import math

import pytest
import torch

from scaledreamer.model.cameras import orbit, turntable
from scaledreamer.model.text import TextEmbedding
from scaledreamer.training.diffusion import DiffusionConfig
from scaledreamer.training.priors.pose import plucker, pose
from scaledreamer.training.priors.process import Cosine
from scaledreamer.training.priors.props import condition, predict_v
from scaledreamer.training.priors.uvit import HARMONICS, MultiViewUViT, UViTConfig, skipped, turns

TINY = UViTConfig(pixels=16, stem=8, width=24, depth=2, heads=2, text_width=16)


def test_a_ray_is_told_by_its_direction_and_the_moment_of_any_of_its_points() -> None:
    camera = turntable(4, elevation=0.3)
    rays = plucker(camera, 4)
    directions, moments = rays.split(3, dim=-1)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(4, 4, 4))
    assert torch.allclose((directions * moments).sum(-1), torch.zeros(4, 4, 4), atol=1e-6)
    further = camera.position[:, None, None] + 1.7 * directions
    assert torch.allclose(torch.linalg.cross(further, directions, dim=-1), moments, atol=1e-5)
    past_the_origin = moments.norm(dim=-1)  # the distance of the ray from the origin
    assert past_the_origin.flatten(1).max() < 3 * math.sin(math.radians(20) * math.sqrt(2))
    assert torch.allclose(past_the_origin[:, 1, 1], past_the_origin[:, 2, 2], atol=1e-5), (
        "the middle looks at the origin"
    )


def test_the_harmonics_of_the_azimuth_tell_a_box_from_a_barrel() -> None:
    azimuth = torch.tensor([0.2, 0.2 + math.pi / 2, 0.2 + math.pi / 4])
    camera = orbit(torch.full((3,), 0.4), azimuth, torch.full((3,), 3.0), torch.full((3,), 0.7))
    told = turns(pose(camera))
    assert told.shape == (3, 2 * HARMONICS)
    assert torch.allclose(told[:, 0], azimuth.cos(), atol=1e-5)
    assert torch.allclose(told[0, HARMONICS - 1], told[1, HARMONICS - 1], atol=1e-5), "a quarter turn is none to a box"
    assert torch.allclose(told[0, HARMONICS - 1], -told[2, HARMONICS - 1], atol=1e-5), "an eighth shows its corner"


def test_larger_pictures_may_fold_into_as_many_patches(rng: torch.Generator) -> None:
    large = TINY.model_copy(update={"pixels": 32, "fold": 4})
    assert large.patches == TINY.patches
    network, camera = MultiViewUViT(large), turntable(4)
    x_t, t = torch.randn(4, 4, 32, 32, generator=rng), torch.full((4,), 0.5)
    text = condition(TextEmbedding(torch.randn(1, 3, 16), torch.randn(1, 16), torch.ones(1, 3, dtype=torch.bool)))
    assert not predict_v(network, x_t, t, text, camera).any(), "an untrained network says nothing"
    torch.nn.init.normal_(network.head.weight)
    said = predict_v(network, x_t, t, text, camera)
    assert said.shape == x_t.shape and float(said.detach().std()) > 0.01


def test_rays_and_harmonics_start_silent_and_then_matter(rng: torch.Generator) -> None:
    network, camera = MultiViewUViT(TINY), turntable(4)
    silent = {name for name in network.state_dict() if name.startswith(("turn.2", "ray.2"))}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            assert name not in silent or not parameter.any()
            if name not in silent:
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    x_t, t = torch.randn(4, 4, 16, 16, generator=rng), torch.full((4,), 0.9)
    tokens, pooled = torch.randn(1, 3, 16, generator=rng), torch.randn(1, 16, generator=rng)
    text = condition(TextEmbedding(tokens, pooled, torch.ones(1, 3).bool()))
    first = predict_v(network, x_t, t, text, camera)
    for inner in (network.turn, network.ray):
        torch.nn.init.zeros_(inner[0].weight)
        assert torch.equal(predict_v(network, x_t, t, text, camera), first)
        torch.nn.init.normal_(inner[0].weight, generator=rng)
        torch.nn.init.normal_(inner[2].weight, generator=rng)
        assert not torch.allclose(predict_v(network, x_t, t, text, camera), first, atol=1e-3)
        torch.nn.init.zeros_(inner[2].weight)


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_a_share_of_the_times_is_late(share: float) -> None:
    config = DiffusionConfig(late_share=share, late_from=0.6)
    u = (torch.arange(10_000) + 0.5) / 10_000
    t = config.time(u)
    assert t.min() >= 0 and t.max() <= 1
    assert float((t > 0.6).float().mean()) == pytest.approx(share + (1 - share) * 0.4, abs=1e-3)
    assert float(t.mean()) == pytest.approx(share * 0.8 + (1 - share) * 0.5, abs=1e-3)


def test_noise_that_is_skipped_leaves_the_picture_to_say(rng: torch.Generator) -> None:
    process, x_0 = Cosine(), torch.randn(4, 4, 16, 16, generator=rng)
    noise, t = torch.randn(x_0.shape, generator=rng), torch.full((4,), 0.9)
    alpha, sigma = process.alpha(t)[0], process.sigma(t)[0]
    x_t = process.add_noise(x_0, noise, t)
    left = alpha * noise - sigma * x_0 - skipped(t[None])[0] * x_t
    assert torch.allclose(left, alpha**3 * noise - sigma * (1 + alpha**2) * x_0, atol=1e-5)
    network = MultiViewUViT(TINY.model_copy(update={"noise_skip": True}))
    text = condition(TextEmbedding(torch.randn(1, 3, 16), torch.randn(1, 16), torch.ones(1, 3).bool()))
    untrained = predict_v(network, x_t, t, text, turntable(4))
    assert torch.allclose(untrained, alpha * sigma * x_t, atol=1e-6)
