"""ASD's gradient and loss equal the official guidance, with an analytic denoiser and autoencoder."""

import pytest
import torch
from fixtures import error, fixture
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.cameras import Camera, orbit
from scaledreamer.training.distillation import asd
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.pose import pose
from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.views import BACK, FRONT, OVERHEAD, SIDE, direction_of

MIX = torch.tensor([[0.6, -0.2, 0.1], [0.1, 0.7, -0.3], [-0.4, 0.2, 0.5], [0.3, 0.3, 0.3]])


class StandIn(Prior):
    """The fixtures' denoiser and autoencoder mean."""

    def __init__(self, views: int, pixels: int) -> None:
        self.process, self.views, self.pixels = scaled_linear(), views, pixels

    def embed(self, prompts: list[str]) -> Condition:
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        resized = F.interpolate(images, (self.pixels, self.pixels), mode="bilinear", align_corners=False)
        pooled = F.avg_pool2d(2 * resized - 1, 8)
        latents = torch.einsum("ck,bkhw->bchw", MIX, pooled) + 0.05 * torch.tanh(pooled.sum(1, keepdim=True))
        return 0.18215 * latents

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        tau = (t / 1000)[:, None, None, None]
        mean = cond.tokens.mean((1, 2))[:, None, None, None]
        v = cond.tokens.mean(1)[:, :4, None, None]
        e = torch.cos(tau + mean) * x_t + 0.5 * torch.sin(3 * x_t + v) * (1 + tau) + 0.1 * tau
        if camera is not None:
            kappa = (pose(camera) * (torch.arange(16) + 1) / 16).sum(1)[:, None, None, None]
            group = x_t.unflatten(0, (-1, self.views)).mean(1).repeat_interleave(self.views, 0)
            e = e + 0.05 * torch.sin(kappa) * x_t + 0.2 * group
        return e


def check(loss: Tensor, x_0: Tensor, rgb: Tensor, tensors: dict[str, Tensor]) -> None:
    (by_latent, by_rgb) = torch.autograd.grad(loss, [x_0, rgb])
    assert error(len(x_0) * by_latent, tensors["out/grad"]) < 2e-5
    assert error(by_rgb, tensors["out/rgb_grad"]) < 2e-5
    assert error(loss.detach(), tensors["out/loss"]) < 2e-5


@pytest.mark.parametrize("name", ["asd_mv", "asd_mv_latent"])
def test_multi_view_gradient_equals_the_official_one(name: str) -> None:
    tensors, meta = fixture(name)
    config, prior = meta["config"], StandIn(meta["n_view"], 256)
    rgb = tensors["in/rgb"].requires_grad_()
    channels_first = rgb.permute(0, 3, 1, 2)
    x_0 = (
        F.interpolate(channels_first, (32, 32), mode="bilinear")
        if meta["rgb_as_latents"]
        else prior.encode(channels_first)
    )
    assert error(x_0.detach(), tensors["out/latents"]) < 2e-5
    before = tensors["in/c2w"].clone()
    camera = Camera(tensors["in/c2w"], torch.ones(4))
    assert error(pose(camera), tensors["out/camera_condition"]) < 2e-5
    t = tensors["rec/t"]
    shifted = prior.process.shift(t, config["plus_ratio"], meta["min_step"])
    if not config["plus_random"]:
        assert torch.equal(shifted, tensors["rec/t_plus"])
    result = asd(
        prior, x_0, Condition(tensors["in/text.local"]), Condition(tensors["in/text.un"][None]), camera,
        noise=tensors["rec/noise"], t=t, t_shifted=tensors["rec/t_plus"], guidance=config["guidance_scale"],
        weight=config.get("weighting_strategy", "sds"),
    )  # fmt: skip
    check(result.loss, x_0, rgb, tensors)
    assert result.stats["sd_grad_norm"] == pytest.approx(float(tensors["out/grad_norm"]), rel=2e-5)
    assert torch.equal(camera.c2w, before), "the caller's cameras are not touched"


def test_the_schedule_tables_equal_mvdreams() -> None:
    tensors, _ = fixture("asd_mv")
    process, t = scaled_linear(), torch.arange(1000)
    assert error(process.alphas_cumprod, tensors["out/alphas_cumprod"]) < 1e-6
    assert error(process.alpha(t), tensors["out/sqrt_alphas_cumprod"]) < 1e-6
    assert error(process.sigma(t), tensors["out/sqrt_one_minus_alphas_cumprod"]) < 1e-6


def test_single_view_gradient_with_view_dependent_text_equals_the_official_one() -> None:
    tensors, meta = fixture("asd_sd_image")
    config, prior = meta["config"], StandIn(1, 512)
    rgb = tensors["in/rgb"].requires_grad_()
    x_0 = prior.encode(rgb.permute(0, 3, 1, 2))
    assert error(x_0.detach(), tensors["out/latents"]) < 2e-5
    azimuth, elevation = (torch.deg2rad(tensors[f"in/{name}_deg"]) for name in ("azimuth", "elevation"))
    direction = direction_of(orbit(elevation, azimuth, tensors["in/camera_distances"], torch.ones(1)))
    texts = tensors["in/text.vd"][torch.arange(1), direction]
    negative = tensors["in/text.un_vd"][direction]
    assert torch.equal(torch.cat([texts, negative]), tensors["out/text_embeddings"])
    shifted = prior.process.shift(tensors["rec/t"], config["plus_ratio"], meta["min_step"])
    assert torch.equal(shifted, tensors["rec/t_plus"])
    result = asd(
        prior, x_0, Condition(texts), Condition(negative), noise=tensors["rec/noise"],
        t=tensors["rec/t"], t_shifted=shifted, guidance=7.5, weight="uniform", grad_clip=2.0,
    )  # fmt: skip
    check(result.loss, x_0, rgb, tensors)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "expected"),
    [(0, 0, FRONT), (29, 0, FRONT), (31, 0, SIDE), (-151, 0, BACK), (179, 10, BACK), (-90, 0, SIDE), (0, 70, OVERHEAD)],
)
def test_directions_follow_the_thresholds(azimuth: float, elevation: float, expected: int) -> None:
    angles = (torch.deg2rad(torch.tensor([float(value)])) for value in (elevation, azimuth))
    assert int(direction_of(orbit(*angles, torch.ones(1), torch.ones(1)))) == expected
