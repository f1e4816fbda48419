"""Asynchronous Score Distillation (ScaleDreamer, arXiv:2407.02040, Eq. 7-9)."""

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


def asd(
    prior: Prior,
    x_0: Float[Tensor, "B C h w"],
    cond: Told,
    uncond: Told,
    camera: Camera | None = None,
    *,
    noise: Float[Tensor, "B C h w"],
    t: Tensor,
    t_shifted: Tensor,
    guidance: float,
    weight: Weight = "sds",
    negatives: Sequence[Negative] | None = None,
    grad_clip: float | None = None,
    clamp_x0: float | None = None,
) -> Distilled:
    """The render's own score is the same prior's, read at the later time: w(t) (eps_guided(x_t) - eps(x_t', text)).

    The later prediction is conditional, without guidance, on the same noise. `cond` and the times hold a row a prompt
    or a row a view; `grad_clip` bounds every entry, `clamp_x0` the x_0 that the guided prediction believes in.
    """
    with torch.no_grad():
        t, t_shifted = every_row(t, len(x_0)), every_row(t_shifted, len(x_0))
        asked = [*asked_at(t, cond, uncond, guidance, negatives), (t_shifted, cond)]
        *at_t, eps_later = predict(prior, x_0, noise, asked, camera)
        guided = guide(prior, at_t, guidance, negatives, x_0, noise, t, clamp_x0)
        gradient = rows(weight_at(prior.process, t, weight)) * (guided - eps_later)
    return finish(x_0, gradient, grad_clip)
