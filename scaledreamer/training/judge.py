"""Which of two fields of a prompt fits it better, asked of the prior alone: no ground truth, no chance.

Both are seen from the same sides, noised with the same noise at the same times. What the prior then believes in, and
what was rendered, differ the less the better the field fits the prompt:

    score = mean |x_0 - x_0(x_t, text)|^2 = mean (sigma / alpha)^2 |eps(x_t, text) - noise|^2

(the diffusion loss in units of x_0; weighted over all times it bounds the likelihood, arXiv:2107.00630). It compares
fields of one prompt; between prompts it says nothing.
"""

from typing import Annotated

import torch
from pydantic import Field as Limits
from pydantic import PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.fields.base import Field
from scaledreamer.model.rendering import Background, render
from scaledreamer.training.distillation.base import predict
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.step import DistillConfig, pictures, tell
from scaledreamer.training.views import sample_views

Fraction = Annotated[float, Limits(gt=0, lt=1)]


class JudgeConfig(Config):
    """From how many sides, and at which times, as fractions of the process's range."""

    sets: PositiveInt = 8  # view sets
    times: Annotated[tuple[Fraction, ...], Limits(min_length=1)] = (0.7, 0.8, 0.9)


@torch.no_grad()
def judge(
    field: Field, background: Background, prompt: str, config: DistillConfig, prior: Prior, uncond: Condition,
    at: int, asked: JudgeConfig, seed: int,
) -> float:  # fmt: skip
    """How far scene 0 of a field is from what the prior believes in, squared and in latents' units; lower is better.

    The same seed asks the same question of every field. The schedules of `config` are read at step `at` of `at`.
    """
    rng = torch.Generator().manual_seed(seed)
    total = torch.zeros((), device=field.device)
    for _ in range(asked.sets):
        camera = sample_views(config.views, 1, rng)
        pixels, renderer = round(config.pixels.at(at, at)), config.renderer_at(at, at)
        seen = render(field[0], camera.to(field.device), background, pixels, renderer, rng)
        x_0 = prior.encode(pictures(seen, prior.channels), rng)
        noise = torch.randn(x_0.shape, generator=rng).to(x_0)
        cond = tell(config, prior, uncond, [prompt], camera).cond
        times = [torch.as_tensor(prior.process.time(time)).to(x_0.device) for time in asked.times]
        for t, eps in zip(times, predict(prior, x_0, noise, [(t, cond) for t in times], camera), strict=True):
            total += misses(prior, eps - noise, t) / (asked.sets * len(times))
    return float(total)


def misses(prior: Prior, wrong: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of an eps in units of x_0."""
    return (prior.process.sigma(t) / prior.process.alpha(t).clamp(min=1e-4)).square() * wrong.square().mean()
