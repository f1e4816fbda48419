"""SDS, CSD, VSD and ASD on a prior whose score is known: points of the plane in the place of pictures.

The toy of score distillation (ProlificDreamer, arXiv:2305.16213; ScaleDreamer, arXiv:2407.02040): particles are moved
by each loss towards what a text asks for, and the gradient's length is kept for every step. A "picture" is one point,
so latents are [B, 2, 1, 1].
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation import Distilled, asd, csd, sds
from scaledreamer.training.distillation.base import finish, predict, weight_at
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.process import Cosine, rows
from scaledreamer.training.schedules import Schedule, Scheduled

Method = Literal["sds", "csd", "vsd", "asd"]
METHODS: tuple[Method, ...] = get_args(Method)
WATCHED = 16  # particles whose way is kept

TEXT = "on the right"
MODES = torch.tensor([[0.9, 0.7], [0.9, -0.7], [-0.9, 0.7], [-0.9, -0.7]])  # the first two are what the text asks for
ASKED = 2
SPREAD = 0.15  # standard deviation of each mode


class Toy2DConfig(Config):
    """The run; a few seconds on one core."""

    seed: NonNegativeInt = 0
    steps: PositiveInt = 400
    particles: PositiveInt = 256
    lr: PositiveFloat = 0.03
    guidance: NonNegativeFloat = 1.0  # classifier-free guidance scale; CSD is the guidance alone
    shift_ratio: NonNegativeFloat = 0.1  # ASD's later time is t + shift_ratio (t - t_min) u
    t_min: Scheduled = Schedule(knots=((0, 0.5), (1, 0.02)))  # from late to early, as the official runs
    t_max: Scheduled = Schedule(knots=((0, 0.98), (1, 0.3)))


class MixturePrior(Prior):
    """The exact denoiser of a Gaussian mixture: of two modes told the text, of all four told nothing.

    p(x_t) = sum_k w_k N(alpha m_k, alpha^2 s^2 + sigma^2), eps = -sigma grad log p(x_t).
    """

    views = 1
    channels = 2

    def __init__(self) -> None:
        self.process = Cosine()

    def embed(self, prompts: list[str]) -> Condition:
        """The log weight of each mode, [B, 1, K]."""
        weights = torch.ones(len(prompts), 1, len(MODES))
        for row, prompt in zip(weights, prompts, strict=True):
            if prompt:
                row[:, ASKED:] = 0
        return Condition((weights / weights.sum(-1, keepdim=True)).log())

    def encode(self, images: Float[Tensor, "B 2 1 1"], rng: torch.Generator | None = None) -> Float[Tensor, "B 2 1 1"]:
        return images

    @torch.no_grad()
    def eps(
        self, x_t: Float[Tensor, "B 2 1 1"], t: Tensor, cond: Condition, camera: Camera | None = None
    ) -> Float[Tensor, "B 2 1 1"]:
        alpha, sigma = self.process.alpha(t)[:, None, None], self.process.sigma(t)[:, None, None]
        variance = (alpha * SPREAD).square() + sigma.square()
        away = x_t[:, None, :, 0, 0] - alpha * MODES  # [B, K, 2]
        share = (cond.tokens[:, 0, :, None] - away.square().sum(-1, keepdim=True) / (2 * variance)).softmax(1)
        return (sigma / variance * share * away).sum(1)[..., None, None]


class VSD2D:
    """Variational Score Distillation: the particles' own score, learned beside them (arXiv:2305.16213, Eq. 9).

    The prior's fine-tuned copy is a small network here, eps_phi(x_t, t).
    """

    def __init__(self, seed: int, width: int = 64) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.own = nn.Sequential(
                nn.Linear(5, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
            )
        self.optimizer = torch.optim.Adam(self.own.parameters(), lr=3e-3)

    def eps(self, x_t: Float[Tensor, "B 2 1 1"], t: Float[Tensor, " B"]) -> Float[Tensor, "B 2 1 1"]:
        """What a denoiser of the particles says."""
        angle = t[:, None] * (math.pi / 2)
        eps: Tensor = self.own(torch.cat([x_t[..., 0, 0], angle, angle.cos(), angle.sin()], -1))
        return eps[..., None, None]

    def learn(self, prior: Prior, x_0: Float[Tensor, "B 2 1 1"], rng: torch.Generator) -> None:
        """One step on E |eps_phi(x_t, t) - noise|^2 over the particles, at any time."""
        t, noise = torch.rand(len(x_0), generator=rng), torch.randn(x_0.shape, generator=rng)
        x_t = prior.process.add_noise(x_0.detach(), noise, t)
        self.optimizer.zero_grad()
        (self.eps(x_t, t) - noise).square().mean().backward()
        self.optimizer.step()

    def __call__(
        self, prior: Prior, x_0: Float[Tensor, "B 2 1 1"], cond: Condition, uncond: Condition,
        *, noise: Float[Tensor, "B 2 1 1"], t: Float[Tensor, " B"], guidance: float,
    ) -> Distilled:  # fmt: skip
        """w(t) (eps_guided(x_t) - eps_phi(x_t, t))."""
        with torch.no_grad():
            eps_text, eps_null = predict(prior, x_0, noise, [(t, cond), (t, uncond)], None)
            guided = eps_null + guidance * (eps_text - eps_null)
            own = self.eps(prior.process.add_noise(x_0, noise, t), t)
            gradient = rows(weight_at(prior.process, t, "sds")) * (guided - own)
        return finish(x_0, gradient, None)


@dataclass(frozen=True)
class Outcome:
    """Where a loss moved the particles, and how long its gradient was (root mean square over particles)."""

    particles: Float[Tensor, "N 2"]
    ways: Float[Tensor, "S W 2"]
    gradient_norms: list[float]


def follow(method: Method, config: Toy2DConfig) -> Outcome:
    """Move particles from around the origin by one loss; the seed, not the method, decides every draw."""
    rng = torch.Generator().manual_seed(config.seed)
    prior, vsd = MixturePrior(), VSD2D(config.seed)
    cond, uncond = prior.embed([TEXT]), prior.embed([""])
    x_0 = (0.3 * torch.randn(config.particles, 2, 1, 1, generator=rng)).requires_grad_()
    optimizer = torch.optim.Adam([x_0], lr=config.lr)
    ways, norms, guidance = [], [], config.guidance
    for step in range(config.steps):
        t_min, t_max = config.t_min.at(step, config.steps), config.t_max.at(step, config.steps)
        noise = torch.randn(x_0.shape, generator=rng)
        t = prior.process.draw(t_min, t_max, len(x_0), rng)
        match method:
            case "sds":
                distilled = sds(prior, x_0, cond, uncond, noise=noise, t=t, guidance=guidance)
            case "csd":
                distilled = csd(prior, x_0, cond, uncond, noise=noise, t=t, guidance=guidance)
            case "vsd":
                vsd.learn(prior, x_0, rng)
                distilled = vsd(prior, x_0, cond, uncond, noise=noise, t=t, guidance=guidance)
            case "asd":
                later = prior.process.shift(t, config.shift_ratio, t_min, rng)
                distilled = asd(prior, x_0, cond, uncond, noise=noise, t=t, t_shifted=later, guidance=guidance)
            case _:
                assert_never(method)
        ways.append(x_0.detach()[:WATCHED, :, 0, 0].clone())
        optimizer.zero_grad()
        distilled.loss.backward()
        optimizer.step()
        norms.append(distilled.stats["sd_grad_norm"] / math.sqrt(len(x_0)))
    return Outcome(x_0.detach()[..., 0, 0], torch.stack(ways), norms)


def run(config: Toy2DConfig) -> dict[Method, Outcome]:
    """Every method from the same start."""
    return {method: follow(method, config) for method in METHODS}


def summary(outcome: Outcome) -> dict[str, Any]:
    """How much of each mode the particles found, how far from it they lie (the truth: SPREAD), and all gradients."""
    distance, mode = torch.cdist(outcome.particles, MODES).min(1)
    return {
        "share_of_modes": (torch.bincount(mode, minlength=len(MODES)) / len(mode)).tolist(),
        "spread_around_mode": float((distance.square().mean() / 2).sqrt()),
        "mean": outcome.particles.mean(0).tolist(),
        "gradient_norms": [float(f"{norm:.4g}") for norm in outcome.gradient_norms],
    }


def density(points: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    """What the text asks for: its mixture's density, per unit area."""
    squared = (points[:, None] - MODES[:ASKED]).square().sum(-1)
    return (-squared / (2 * SPREAD**2)).exp().mean(1) / (2 * math.pi * SPREAD**2)
