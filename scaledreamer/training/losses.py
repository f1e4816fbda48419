"""Distillation losses as config, and the one place that calls them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, assert_never

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError
from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation import VSD, Distilled, Negative, asd, csd, sds
from scaledreamer.training.distillation.base import Weight
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition, NetworkPrior, Prior
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


class VSDConfig(_Guided):
    """Variational Score Distillation."""

    kind: Literal["vsd"] = "vsd"
    lora_rank: PositiveInt = 4  # of what the copy of the prior learns beside each linear layer
    lora_lr: PositiveFloat = 1e-4
    drop_camera: Annotated[float, Field(ge=0, le=1)] = 0.1  # of the view sets that the copy learns from


LossConfig = Annotated[ASDConfig | SDSConfig | CSDConfig | VSDConfig, Field(discriminator="kind")]


class TimesConfig(Config):
    """Which times are drawn, as fractions of the process's range."""

    t_min: Scheduled = constant(0.02)
    t_max: Scheduled = constant(0.98)
    shared: Literal["set", "batch"] = "set"  # one time a view set, or one for the whole batch (official MVDream)


@dataclass(frozen=True)
class Texts:
    """What a prior is told about a batch; every condition holds a row a prompt or a row a view."""

    cond: Condition
    uncond: Condition  # or one row
    plain: Condition  # the prompts without a view suffix, for VSD's copy
    negatives: Sequence[Negative] = ()


def build_vsd(config: LossConfig, prior: Prior) -> VSD | None:
    """The object that VSD trains; the other losses have none."""
    if not isinstance(config, VSDConfig):
        return None
    if not isinstance(prior, NetworkPrior):
        raise ConfigError(f"VSD adapts a copy of the prior's network, and {type(prior).__name__} has none; use asd")
    return VSD(prior, lora_rank=config.lora_rank, lr=config.lora_lr, drop_camera=config.drop_camera)


def distill(
    config: LossConfig,
    times: TimesConfig,
    prior: Prior,
    x_0: Tensor,
    texts: Texts,
    camera: Camera,
    progress: tuple[int, int],
    rng: torch.Generator,
    rank: Rank,
    vsd: VSD | None = None,
) -> Distilled:
    """One loss at (step, steps): draws noise, then times, then the shift, from `rng`. `vsd` takes a step of its own."""
    t_min, t_max = times.t_min.at(*progress), times.t_max.at(*progress)
    sets = len(x_0) // prior.views
    noise = torch.randn(x_0.shape, generator=rng).to(x_0)
    t = prior.process.draw(t_min, t_max, 1 if times.shared == "batch" else sets, rng).to(x_0.device)
    guidance = config.guidance.at(*progress)
    clip = None if config.grad_clip is None else config.grad_clip.at(*progress)
    shared: dict[str, Any] = {
        "noise": noise, "t": t, "guidance": guidance, "weight": config.weight, "negatives": texts.negatives,
        "grad_clip": clip, "clamp_x0": config.clamp_x0,
    }  # fmt: skip
    match config:
        case ASDConfig():
            start = prior.process.time(t_min if config.shift_from is None else config.shift_from)
            ratio = config.shift_ratio.at(*progress)
            later = prior.process.shift(t, ratio, start, rng if config.shift_random else None)
            return asd(prior, x_0, texts.cond, texts.uncond, camera, t_shifted=later, **shared)
        case SDSConfig():
            return sds(prior, x_0, texts.cond, texts.uncond, camera, **shared)
        case CSDConfig():
            return csd(prior, x_0, texts.cond, texts.uncond, camera, **shared)
        case VSDConfig():
            assert vsd is not None, "build_vsd makes it"
            result = vsd(x_0, texts.cond, texts.uncond, camera, plain=texts.plain, **shared)
            learned = vsd.learn(x_0, texts.plain, camera, rng, rank)
            return Distilled(result.loss, {**result.stats, "lora_loss": learned})
        case _:
            assert_never(config)
