"""Distillation losses as config, and the one place that calls them."""

from typing import Annotated, Literal, assert_never

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation import Distilled, asd, csd, sds
from scaledreamer.training.distillation.base import Weight
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.schedules import Scheduled, constant


class _Guided(Config):
    guidance: Scheduled = constant(7.5)  # classifier-free guidance scale
    weight: Weight = "sds"
    grad_clip: Scheduled | None = None  # bound of every entry of the gradient
    clamp_x0: PositiveFloat | None = None  # bound of the x_0 that the guided prediction believes in


class ASDConfig(_Guided):
    """Asynchronous Score Distillation."""

    kind: Literal["asd"] = "asd"
    shift_ratio: Scheduled = constant(0.1)  # eta: the later time is t + eta (t - shift_from) u
    shift_random: bool = True  # u ~ U[0, 1); otherwise u = 1
    shift_from: Annotated[float, Field(ge=0, le=1)] | None = None  # fraction of the range; None: the current t_min


class SDSConfig(_Guided):
    """Score Distillation Sampling."""

    kind: Literal["sds"] = "sds"


class CSDConfig(_Guided):
    """Classifier Score Distillation."""

    kind: Literal["csd"] = "csd"


LossConfig = Annotated[ASDConfig | SDSConfig | CSDConfig, Field(discriminator="kind")]


class TimesConfig(Config):
    """Which times are drawn, as fractions of the process's range."""

    t_min: Scheduled = constant(0.02)
    t_max: Scheduled = constant(0.98)
    shared: Literal["set", "batch"] = "set"  # one time a view set, or one for the whole batch (official MVDream)


def distill(
    config: ASDConfig | SDSConfig | CSDConfig,
    times: TimesConfig,
    prior: Prior,
    x_0: Tensor,
    cond: Condition,
    uncond: Condition,
    camera: Camera,
    progress: tuple[int, int],
    rng: torch.Generator,
) -> Distilled:
    """One loss at (step, steps): draws noise, then times, then the shift, from `rng`."""
    t_min, t_max = times.t_min.at(*progress), times.t_max.at(*progress)
    sets = len(x_0) // prior.views
    noise = torch.randn(x_0.shape, generator=rng).to(x_0)
    t = prior.process.draw(t_min, t_max, 1 if times.shared == "batch" else sets, rng)
    guidance = config.guidance.at(*progress)
    clip = None if config.grad_clip is None else config.grad_clip.at(*progress)
    match config:
        case ASDConfig():
            start = prior.process.time(t_min if config.shift_from is None else config.shift_from)
            ratio = config.shift_ratio.at(*progress)
            later = prior.process.shift(t, ratio, start, rng if config.shift_random else None)
            return asd(
                prior, x_0, cond, uncond, camera, noise=noise, t=t, t_shifted=later, guidance=guidance,
                weight=config.weight, grad_clip=clip, clamp_x0=config.clamp_x0,
            )  # fmt: skip
        case SDSConfig() | CSDConfig():
            function = sds if isinstance(config, SDSConfig) else csd
            return function(
                prior, x_0, cond, uncond, camera, noise=noise, t=t, guidance=guidance,
                weight=config.weight, grad_clip=clip, clamp_x0=config.clamp_x0,
            )  # fmt: skip
        case _:
            assert_never(config)
