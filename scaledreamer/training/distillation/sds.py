"""Score Distillation Sampling (DreamFusion, arXiv:2209.14988, Eq. 3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation.base import (
    Distilled,
    Negative,
    Told,
    Weight,
    asked_at,
    every_row,
    finish,
    guide,
    predict,
    weight_at,
)
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.priors.process import rows


def sds(
    prior: Prior,
    x_0: Float[Tensor, "B C h w"],
    cond: Told,
    uncond: Told,
    camera: Camera | None = None,
    *,
    noise: Float[Tensor, "B C h w"],
    t: Tensor,
    guidance: float,
    weight: Weight = "sds",
    negatives: Sequence[Negative] | None = None,
    grad_clip: float | None = None,
    clamp_x0: float | None = None,
) -> Distilled:
    """w(t) (eps_guided(x_t) - noise), with eps_null + guidance (eps_text - eps_null) as the guided prediction."""
    with torch.no_grad():
        t = every_row(t, len(x_0))
        asked = predict(prior, x_0, noise, asked_at(t, cond, uncond, guidance, negatives), camera)
        guided = guide(prior, asked, guidance, negatives, x_0, noise, t, clamp_x0)
        gradient = rows(weight_at(prior.process, t, weight)) * (guided - noise)
    return finish(x_0, gradient, grad_clip)
